"""A release's journal cut into objects that an API server takes, and back.

The objects of one model are a chain, `<model>.000001` and so on through all of its releases: whoever adds to a journal
adds to the chain's last object or creates the next one, and two who do so at once meet at the same name.

An object's `records` are elements of four kinds, told apart by their first character:

* `{`: a record, its JSON text;
* `<`, `+`, `>`: the first piece of a record that is too long for one object, one in the middle, the last one; without
  its last piece a record does not count;
* `z`: elements packed together, once nothing is added to the object any more: a record says much that the one before
  it said, so that a full object shrinks to a fraction.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from serving.release.cluster import naming
from serving.release.journal.store import Entry, Record

RELEASE_LABEL = "windlass.dev/release"
NUMBER_LABEL = "windlass.dev/number"
QUEUED_LABEL = "windlass.dev/queued"

#: Characters of elements at which an object is full. Each append writes the object anew, and etcd keeps every version
#: for five minutes: a larger one costs more there, a smaller one more requests at a start.
PART = 64 * 1024
#: Longest element. An API server takes 1.5 MB, and quotes escaped once more.
PIECE = 128 * 1024


@dataclass(frozen=True)
class Part:
    """One object: whose journal goes on in it, and its place in the model's chain, from 1."""

    entry: Entry
    place: int

    @property
    def name(self) -> str:
        return f"{self.entry.model}.{self.place:06d}"

    def content(self, writer: str, elements: Sequence[str]) -> dict[str, Any]:
        """Of the new object."""
        entry = self.entry
        labels = {
            **naming.MANAGED_BY,
            naming.MODEL_LABEL: entry.model,
            RELEASE_LABEL: entry.name,
            NUMBER_LABEL: str(entry.number),
        }
        spec = {"model": entry.model, "release": entry.name, "number": entry.number, "part": self.place}
        return {
            "metadata": {"name": self.name, "labels": labels},
            "spec": {**spec, "writer": writer, "full": False, "records": list(elements)},
        }

    def renaming(self) -> list[dict[str, Any]]:
        """JSON patch operations that give an object to this part's release."""
        values = {
            f"/metadata/labels/{_escaped(RELEASE_LABEL)}": self.entry.name,
            f"/metadata/labels/{_escaped(NUMBER_LABEL)}": str(self.entry.number),
            "/spec/release": self.entry.name,
            "/spec/number": self.entry.number,
        }
        return [{"op": "add", "path": path, "value": value} for path, value in values.items()]


def named(found: Mapping[str, Any]) -> dict[str, Any]:
    """As much of an object as `part_of` looks at: the rest of its metadata is ten times as large."""
    metadata = found["metadata"]
    return {"metadata": {"name": metadata["name"], "labels": metadata.get("labels")}}


def part_of(found: Mapping[str, Any]) -> Part | None:
    """The part that an object is, by its metadata alone; None for one that is none."""
    metadata = found["metadata"]
    labels = metadata.get("labels") or {}
    keys = (naming.MODEL_LABEL, RELEASE_LABEL, NUMBER_LABEL)
    model, name, number = (str(labels.get(key, "")) for key in keys)
    place = metadata["name"].rpartition(".")[2]
    if QUEUED_LABEL in labels or not model or not name or not number.isdigit() or not place.isdigit():
        return None
    return Part(Entry(model, int(number), name), int(place))


@dataclass(frozen=True)
class Waiting:
    """A document that waits for its turn in an object of its own.

    Attributes:
        at: since when; texts sort as their times do.
        document: JSON.
        uid: of the object.
    """

    model: str
    release: str
    at: str
    document: str
    uid: str

    @property
    def object_name(self) -> str:
        return f"{self.model}.queue.{self.release}"


def waiting(model: str, release: str, document: Record, at: datetime) -> dict[str, Any]:
    """Content of the object that keeps a document."""
    labels = {naming.MODEL_LABEL: model, RELEASE_LABEL: release, QUEUED_LABEL: "true"}
    since = at.astimezone(UTC).isoformat(timespec="microseconds")
    kept = Waiting(model, release, since, json.dumps(document, allow_nan=False), uid="")
    return {
        "metadata": {"name": kept.object_name, "labels": {**naming.MANAGED_BY, **labels}},
        "spec": {"model": model, "release": release, "queue": {"at": kept.at, "document": kept.document}},
    }


def waiting_of(found: Mapping[str, Any]) -> Waiting:
    spec, queue = found["spec"], found["spec"]["queue"]
    uid = found["metadata"].get("uid", "")
    return Waiting(spec["model"], spec["release"], queue["at"], queue["document"], uid)


def elements(record: Record) -> list[str]:
    """What stands for a record; ASCII, so that characters are bytes."""
    text = json.dumps(record, separators=(",", ":"), allow_nan=False)
    if len(text) <= PIECE:
        return [text]
    pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
    return ["<" + pieces[0], *("+" + piece for piece in pieces[1:-1]), ">" + pieces[-1]]


def records(found: Iterable[str]) -> Iterator[Record]:
    """The records that elements stand for, oldest first."""
    begun: list[str] = []
    for element in _unpacked(found):
        kind, text = element[:1], element[1:]
        if kind == "{":
            begun = []
            yield json.loads(element)
        elif kind == "<":
            begun = [text]
        elif begun and kind == "+":
            begun.append(text)
        elif begun and kind == ">":
            yield json.loads("".join([*begun, text]))
            begun = []


def packed(found: Sequence[str]) -> str:
    """One element for many."""
    return "z" + base64.b64encode(zlib.compress(json.dumps(found).encode())).decode()


def _unpacked(found: Iterable[str]) -> Iterator[str]:
    for element in found:
        if element.startswith("z"):
            yield from json.loads(zlib.decompress(base64.b64decode(element[1:])))
        else:
            yield element


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
