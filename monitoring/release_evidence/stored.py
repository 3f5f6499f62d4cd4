"""The rows of the collector's store that are a release's evidence, in the order in which they became known.

Files are read one after the other, by the first of their rows, and what may still be preceded by a row of a file that
was not read waits: memory holds the files that overlap, and of these the few columns that evidence needs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitoring.collector.manifest import Manifest, Part
from monitoring.collector.place import Place
from monitoring.labels import Label
from monitoring.release_evidence import vectors
from monitoring.release_evidence.cumulative import Answer
from monitoring.release_evidence.vectors import Vector

if TYPE_CHECKING:
    import pyarrow as pa

US = 1_000_000
DAY_S = 86_400.0
#: rows that are taken apart at once
CHUNK_ROWS = 10_000
PREDICTIONS, LABELS = "predictions", "labels"
COLUMNS = {
    PREDICTIONS: ("request_id", "version", "mirrored", "received", "known", "score", "answer", "answered_by", "half",
                  "route", "unit"),
    LABELS: ("request_id", "label", "reward", "per", "covariate", "at", "received", "known"),
}  # fmt: skip


@dataclass(frozen=True)
class Second:
    """All that became known within (second - 1, second], epoch seconds; those before it were handed out.

    Attributes:
        vectors: of some of the answers, where they are asked for.
    """

    second: int
    answers: Sequence[Answer] = ()
    labels: Sequence[Label] = ()
    vectors: Sequence[Vector] = ()


@dataclass(frozen=True)
class _File:
    """A part, and between which microseconds its rows became known."""

    part: Part
    path: Path
    first: int
    last: int


class Seconds:
    """Iterates over the seconds after `after`, up to and including `until`, that the store says something about.

    Seconds without rows come up too, also again and again: what is before them is complete.

    Args:
        since: rows that were received before are left out, epoch seconds.
        after, until: epoch seconds.
        bounds: what is known of files already, by path; what is found out is added.
        inputs: of each version the names of its inputs, where vectors are asked for; None where nobody needs any.

    Attributes:
        rows: of all files that are to be read.
        read: of those that were.

    Raises:
        FileNotFoundError: while iterating: a file was replaced meanwhile, and the manifest with it.
    """

    def __init__(
        self,
        place: Place,
        known: Manifest,
        model: str,
        versions: Sequence[str],
        *,
        since: float,
        after: int,
        until: int,
        bounds: dict[str, tuple[int, int]],
        inputs: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._place = place
        self._versions = list(versions)
        self._since_us = math.ceil(since * US)
        self._after, self._until = after, until
        self._bounds = bounds
        self._inputs = inputs
        self._drawn_by = vectors.key(known.began, since)
        self._vectors: dict[int, list[Vector]] = {}
        self._parts = [p for p in _asked(known, model, versions) if _counts(known, p, since, after)]
        self.rows = sum(part.rows for part in self._parts)
        self.read = 0
        self._waiting: dict[str, list[pa.Table]] = {PREDICTIONS: [], LABELS: []}

    def __iter__(self) -> Iterator[Second]:
        files = []
        for part in self._parts:
            file = self._file(part)
            if file is None:
                self.read += part.rows
            else:
                files.append(file)
            # each may have to be fetched first: whoever iterates has others to answer
            yield Second(self._after)
        for file in sorted(files, key=lambda file: (file.first, file.part.path)):
            # nothing of this file or of those behind it is known before its first row
            yield from self._out(min(self._until, _second(file.first) - 1))
            self._waiting[file.part.kind].append(self._rows(file))
            self.read += file.part.rows
            yield Second(self._after)
        yield from self._out(self._until)

    def _file(self, part: Part) -> _File | None:
        """A part with its bounds; None of one without a row that counts."""
        path = self._place.local(part.path)
        if part.path not in self._bounds:
            self._bounds[part.path] = known_between(path)
        first, last = self._bounds[part.path]
        counts = last > self._after * US and first <= self._until * US
        return _File(part, path, first, last) if counts else None

    def _rows(self, file: _File) -> pa.Table:
        """The rows that count, with their second and without those that nobody asks for."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        source = pq.ParquetFile(file.path)
        there = set(source.schema_arrow.names)
        names = COLUMNS[file.part.kind]
        table = source.read([name for name in names if name in there])
        for name in names:
            if name not in there:
                table = table.append_column(name, pa.nulls(len(table), _type(name)))
        received = pc.cast(table["received"], pa.int64())
        known = pc.coalesce(pc.cast(table["known"], pa.int64()), received)
        keep = pc.and_(pc.greater(known, self._after * US), pc.less_equal(known, self._until * US))
        keep = pc.and_(keep, pc.greater_equal(received, self._since_us))
        if file.part.kind == PREDICTIONS:
            keep = pc.and_(keep, pc.is_in(table["version"], value_set=pa.array(self._versions, pa.string())))
            keep = pc.and_(keep, _answered(table))
        table = table.drop_columns(["known", "received"])
        table = table.append_column("received", received)
        table = table.append_column("second", pc.divide(pc.add(known, US - 1), US))
        if file.part.kind == PREDICTIONS and self._inputs is not None:
            some = table.select(["second", "request_id", "version", "received"])
            some = some.append_column("place", pa.array(np.arange(len(table)))).filter(keep)
            for second, vector in vectors.of_file(source, some, self._inputs, self._drawn_by):
                self._vectors.setdefault(second, []).append(vector)
        return table.filter(keep)

    def _out(self, until: int) -> Iterator[Second]:
        """What waits of the seconds up to `until`."""
        if until <= self._after:
            return
        ready = {kind: self._ready(kind, until) for kind in self._waiting}
        answers, labels = _grouped(_answers(ready[PREDICTIONS])), _grouped(_labels(ready[LABELS]))
        one, other = next(answers, None), next(labels, None)
        while one is not None or other is not None:
            second = min(found[0] for found in (one, other) if found is not None)
            found = Second(
                second,
                one[1] if one is not None and one[0] == second else (),
                other[1] if other is not None and other[0] == second else (),
                vectors.chosen(self._vectors.pop(second, ())),
            )
            if one is not None and one[0] == second:
                one = next(answers, None)
            if other is not None and other[0] == second:
                other = next(labels, None)
            yield found
        yield Second(until)
        self._after = until

    def _ready(self, kind: str, until: int) -> pa.Table | None:
        import pyarrow as pa
        import pyarrow.compute as pc

        if not self._waiting[kind]:
            return None
        rows = pa.concat_tables(self._waiting[kind])
        due = pc.less_equal(rows["second"], until)
        left = rows.filter(pc.invert(due))
        self._waiting[kind] = [left] if len(left) else []
        ready = rows.filter(due)
        return ready.sort_by([("second", "ascending")]) if len(ready) else None


def known_between(path: Path) -> tuple[int, int]:
    """The first and the last microsecond at which a row of a file became known, by its footer alone."""
    import pyarrow.parquet as pq

    footer = pq.read_metadata(path)
    places = {footer.schema.column(i).path: i for i in range(footer.num_columns)}
    found: list[int] = []
    for group in range(footer.num_row_groups):
        columns = [footer.row_group(group).column(places[n]) for n in ("known", "received") if n in places]
        first = columns[0].statistics
        # rows from before `known` was kept count from when they came
        whole = len(columns) == 1 or (first is not None and first.null_count == 0)
        for column in columns[:1] if whole else columns:
            told = column.statistics
            if told is None or (not told.has_min_max and told.null_count != column.num_values):
                return 0, 1 << 62
            if told.has_min_max:
                found += [told.min_raw, told.max_raw]
    return (min(found), max(found)) if found else (0, 0)


def _asked(known: Manifest, model: str, versions: Iterable[str]) -> list[Part]:
    wanted = set(versions)
    return [
        *(part for part in known.of("predictions", model) if wanted & set(part.versions)),
        *known.of("labels", model),
    ]


def _counts(known: Manifest, part: Part, since: float, after: int) -> bool:
    """Whether a row of a part may count, as far as the manifest says."""
    if part.path in known.latest:
        return known.latest[part.path] > after
    # written before `known` was kept, so that rows are as old as they say, but for what lay a day on its way
    return part.until + DAY_S > since


def _second(micros: int) -> int:
    return -(-micros // US)


def _type(name: str) -> pa.DataType:
    import pyarrow as pa

    return pa.timestamp("us", "UTC") if name == "known" else pa.string()


def _answered(table: pa.Table) -> Any:
    """Which rows are answers: half a request is none, nor one that was answered with an error."""
    import pyarrow.compute as pc

    told = pc.or_(pc.is_valid(table["score"]), pc.is_valid(table["answer"]))
    told = pc.or_(told, pc.is_valid(table["answered_by"]))
    return pc.and_(told, pc.invert(pc.fill_null(pc.equal(table["half"], "request"), False)))


def _grouped(rows: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, list[Any]]]:
    for second, group in groupby(rows, key=lambda row: row[0]):
        yield second, [row[1] for row in group]


def _chunks(table: pa.Table | None, names: Sequence[str]) -> Iterator[list[list[Any]]]:
    """The columns of a table, some rows at a time."""
    for start in range(0, 0 if table is None else len(table), CHUNK_ROWS):
        part = table.slice(start, CHUNK_ROWS)  # type: ignore[union-attr] # of None there is no chunk
        yield [part[name].to_pylist() for name in names]


def _answers(table: pa.Table | None) -> Iterator[tuple[int, Answer]]:
    names = ("second", "request_id", "version", "mirrored", "received", "score", "route", "unit")
    for columns in _chunks(table, names):
        for second, name, version, mirrored, received, score, route, unit in zip(*columns, strict=True):
            yield second, Answer(name, version, bool(mirrored), received / US, score, route, unit)


def _labels(table: pa.Table | None) -> Iterator[tuple[int, Label]]:
    names = ("second", "request_id", "label", "reward", "per", "covariate", "received")
    for columns in _chunks(table, names):
        for second, name, label, reward, per, covariate, received in zip(*columns, strict=True):
            moment = received / US
            value = None if label is None else int(label)
            yield second, Label(name, value, moment, reward, per, covariate, moment)
