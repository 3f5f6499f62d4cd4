"""Which files are the store: one small file that is replaced as a whole.

Whatever is on the disk and not named here does not exist: a crash between the writing of a part and the removal of
the journal that it came from can neither lose nor double a row, because one rename moves both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import orjson

from monitoring.collector import keys
from windlass.errors import WindlassError

Kind = Literal["predictions", "labels", "contradictions", "early"]
FORMAT = 1
NAME = "manifest.json"


@dataclass(frozen=True, slots=True)
class Part:
    """One parquet file.

    Attributes:
        model: the partition's, empty of kinds that have none.
        date: the partition's UTC day, YYYY-MM-DD; of labels the day of their prediction.
        path: relative to the store's root.
        since, until: the smallest and the largest `at` in it, epoch seconds.
        versions: of predictions, those in it, in the order of their first row.
    """

    kind: Kind
    model: str
    date: str
    path: str
    rows: int
    bytes: int
    since: float
    until: float
    versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """One sorted file of an index (see `monitoring.collector.index`)."""

    index: str
    path: str
    rows: int


@dataclass(frozen=True, slots=True)
class Dead:
    """A file that is no part of the store any more; readers of an older manifest may still be reading it."""

    path: str
    since: float


@dataclass(frozen=True)
class Manifest:
    """The state of the store after one commit.

    Attributes:
        generation: counts commits; the names of files hold the one that wrote them.
        wal: number of the first journal segment that is not in the store yet.
        models: names by their number in the indexes.
        inputs: of each model and version the names of its inputs, in the model's order.
        held: file of events that wait for their other half.
        offsets: of the files that are followed, how far their lines are in the store.
        counts: what became of everything so far, by name.
        written: when, epoch seconds.
        until: everything that was received up to then is in the store, epoch seconds; 0 where nobody said so. Rows that
            come in later are `known` later, whenever they were received.
        latest: of predictions and labels, by path, when the last of their rows became `known`.
        began: when the store did, epoch seconds: of what was received before nothing is here; 0 where nobody said so.
        expired: by model, the end of the newest day whose partition was past its time, epoch seconds.
    """

    generation: int = 0
    wal: int = 0
    parts: tuple[Part, ...] = ()
    runs: tuple[Run, ...] = ()
    dead: tuple[Dead, ...] = ()
    models: tuple[str, ...] = ()
    inputs: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    held: str | None = None
    offsets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    written: float = 0.0
    until: float = 0.0
    latest: Mapping[str, float] = field(default_factory=dict)
    began: float = 0.0
    expired: Mapping[str, float] = field(default_factory=dict)

    def of(self, kind: Kind, model: str | None = None) -> list[Part]:
        """The parts of a kind, of one model where it is named, in the order of their days."""
        found = [p for p in self.parts if p.kind == kind and model in (None, p.model)]
        return sorted(found, key=lambda p: (p.date, p.path))

    def files(self) -> set[str]:
        """Every file that the store consists of, dead ones included."""
        names = [p.path for p in self.parts] + [r.path for r in self.runs] + [d.path for d in self.dead]
        return {*names, *([self.held] if self.held is not None else [])}


def encode(manifest: Manifest) -> bytes:
    """The bytes of a manifest's file."""
    return orjson.dumps({"format": FORMAT, **asdict(manifest)}, option=orjson.OPT_INDENT_2)


def decode(content: bytes, name: str) -> Manifest:
    """Read what `encode` wrote.

    Raises:
        WindlassError: it is no manifest, or one of another format.
    """
    try:
        found = orjson.loads(content)
        if found["format"] != FORMAT:
            raise WindlassError(
                f"{name} has format {found['format']!r}, and {FORMAT} is known here; use the windlass that wrote it"
            )
        return Manifest(
            generation=found["generation"],
            wal=found["wal"],
            parts=tuple(Part(**{**p, "versions": tuple(p["versions"])}) for p in found["parts"]),
            runs=tuple(Run(**r) for r in found["runs"]),
            dead=tuple(Dead(**d) for d in found["dead"]),
            models=tuple(found["models"]),
            inputs=_inputs(found["inputs"]),
            held=found["held"],
            offsets=found["offsets"],
            counts=found["counts"],
            written=found["written"],
            until=found.get("until", 0.0),
            latest=found.get("latest", {}),
            began=found.get("began", 0.0),
            expired=found.get("expired", {}),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise WindlassError(
            f"{name} is no manifest of an event store ({error!r}); restore it from a backup"
        ) from error


def _inputs(found: Mapping[str, Mapping[str, Iterable[str]]]) -> dict[str, dict[str, tuple[str, ...]]]:
    return {m: {v: tuple(names) for v, names in versions.items()} for m, versions in found.items()}


def owner(part: Part) -> str:
    """Whose days a part is counted by: its model, or its kind where it has none. No model has a name with a slash."""
    return part.model or f"/{part.kind}"


def counted_from(known: Iterable[Part]) -> dict[str, int]:
    """The day that ages are counted from, by `owner`, in days since 1970: the newest but one that has predictions.

    A day after a gap is believed once there is another: a clock that was years ahead for a moment takes nothing away.
    """
    days: dict[str, set[int]] = {}
    for part in known:
        if part.kind != "labels":
            days.setdefault(owner(part), set()).add(keys.day_of(part.date))
    return {name: sorted(found)[-2:][0] for name, found in days.items()}


def counted(counts: Mapping[str, int], more: Mapping[str, int]) -> dict[str, Any]:
    """The sum of two tallies."""
    return {name: counts.get(name, 0) + more.get(name, 0) for name in sorted({*counts, *more})}
