"""Closed segments of the journal, sorted by what their lines are: what one commit brings into the store."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from monitoring.collector import wal

#: a commit takes segments up to about so many bytes
COMMIT_BYTES = wal.SEGMENT_BYTES


@dataclass
class Batch:
    """The events of some segments, by what they are."""

    predictions: list[dict[str, Any]]
    halves: list[dict[str, Any]]
    labels: list[dict[str, Any]]
    offsets: dict[str, dict[str, Any]]
    counts: dict[str, int]


def read_batch(lines: Sequence[bytes]) -> Batch:
    """Sort the lines of a journal."""
    batch = Batch([], [], [], {}, {})
    places = {
        "prediction": batch.predictions, "request": batch.halves, "response": batch.halves, "label": batch.labels,
    }  # fmt: skip
    for line in lines:
        entry = orjson.loads(line)
        kind = entry["type"]
        if kind == "offsets":
            batch.offsets.setdefault(entry["of"], {}).update(entry["files"])
        else:
            places[kind].append(entry)
    return batch


def groups(folder: Path, first: int, until: int) -> Iterator[list[tuple[int, wal.Content]]]:
    """The segments from `first` up to `until` (exclusive), read, in groups of about `COMMIT_BYTES`."""
    group: list[tuple[int, wal.Content]] = []
    size = 0
    for number in wal.numbers(folder):
        if not first <= number < until:
            continue
        data = wal.path(folder, number).read_bytes()
        if group and size + len(data) > COMMIT_BYTES:
            yield group
            group, size = [], 0
        content = wal.content(data)
        if content.damaged:
            # what cannot be read may still be read by a person
            copy = wal.path(folder, number).with_suffix(".damaged")
            copy.write_bytes(data)
            sys.stderr.write(
                f"windlass collector: {copy}: {content.torn} bytes of the journal are damaged and left out\n"
            )
        group.append((number, content))
        size += len(data)
    if group:
        yield group
