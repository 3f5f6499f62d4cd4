"""Keeping the store small: files of a partition are joined, old partitions go, and what nothing names is swept.

Each step is a commit of its own, so that a crash between two loses neither and doubles nothing. A file that a commit
replaced stays for a while, for those who are reading it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby

from monitoring.collector import keys
from monitoring.collector.manifest import Dead, Manifest, Part, counted, counted_from, owner
from monitoring.collector.options import Options
from monitoring.collector.reading import unified
from monitoring.collector.store import Store

#: values that a compaction holds, 8 bytes each and once more while it sorts them
MOST_CELLS = 32_000_000
DAY_S = 86_400


def maintain(store: Store, options: Options) -> None:
    """Expire, compact and sweep."""
    expire(store, options)
    for group in small(store.manifest.parts, options):
        fitting = fits(store, group)
        if len(fitting) >= options.compact_parts:
            compact(store, fitting)
    sweep(store, options)


def expire(store: Store, options: Options) -> None:
    """Leave out partitions past their time."""
    known = store.manifest
    old = past(known, options)
    if old:
        names = {part.path for part in old}
        expired = dict(known.expired)
        for part in old:
            if part.kind in ("predictions", "labels"):
                end = float((keys.day_of(part.date) + 1) * DAY_S)
                expired[part.model] = max(end, expired.get(part.model, 0.0))
        store.commit(
            replace(
                known,
                expired=expired,
                parts=tuple(p for p in known.parts if p.path not in names),
                dead=(*known.dead, *(Dead(part.path, store.now) for part in old)),
                counts=counted(known.counts, {"expired.rows": sum(part.rows for part in old)}),
            )
        )


def past(known: Manifest, options: Options) -> list[Part]:
    """Parts older than their kind is kept."""
    newest = counted_from(known.parts)
    keep = {"predictions": options.keep_predictions_days}
    return [
        part
        for part in known.parts
        if keys.day_of(part.date)
        <= newest.get(owner(part), 0) - keep.get(part.kind, options.keep_labels_days)
    ]


def small(known: Iterable[Part], options: Options) -> list[list[Part]]:
    """Groups of parts of one partition that are worth joining."""
    found = []
    ordered = sorted(known, key=lambda p: (p.kind, p.model, p.date, p.rows))
    for _, partition in groupby(ordered, key=lambda p: (p.kind, p.model, p.date)):
        group: list[Part] = []
        for part in partition:
            if part.rows < options.compact_rows and sum(p.rows for p in group) < options.compact_rows:
                group.append(part)
        if len(group) >= options.compact_parts:
            found.append(group)
    return found


def fits(store: Store, group: Sequence[Part]) -> list[Part]:
    """As many parts of a group, the first of them first, as may be in memory at once: wide ones are fewer rows."""
    import pyarrow.parquet as pq

    found: list[Part] = []
    names: set[str] = set()
    rows = 0
    for part in group:
        names.update(pq.read_schema(store.place.local(part.path)).names)
        rows += part.rows
        if rows * len(names) > MOST_CELLS:
            break
        found.append(part)
    return found


def compact(store: Store, group: Sequence[Part]) -> None:
    """Replace the parts of a group by one."""
    import pyarrow.parquet as pq

    first = group[0]
    in_order = sorted(group, key=lambda p: p.path)
    table = unified([pq.ParquetFile(store.place.local(part.path)).read() for part in in_order])
    by = "prediction_at" if first.kind == "labels" else "at"
    table = table.sort_by([(by, "ascending"), ("request_id", "ascending")])
    between = min(p.since for p in group), max(p.until for p in group)
    earliest = sorted(group, key=lambda p: p.since)
    versions = tuple(dict.fromkeys(version for part in earliest for version in part.versions))
    made = store.put(first.kind, first.model, first.date, table, between, versions)
    names = {part.path for part in group}
    known = store.manifest
    store.commit(
        replace(
            known,
            parts=(*(p for p in known.parts if p.path not in names), made),
            dead=(*known.dead, *(Dead(path, store.now) for path in sorted(names))),
        )
    )


def sweep(store: Store, options: Options) -> None:
    """Remove files that were replaced long enough ago, and those that a crash left without a name."""
    known = store.manifest
    gone = {dead.path for dead in known.dead if dead.since <= store.now - options.grace_s}
    for path in sorted(gone):
        store.place.remove(path)
    if gone:
        known = store.commit(replace(known, dead=tuple(d for d in known.dead if d.path not in gone)))
    named = known.files()
    for path in store.place.paths():
        if path not in named:
            store.place.remove(path)
    for run in (store.folder / "index").glob("*/*.run"):
        if run.relative_to(store.folder).as_posix() not in named:
            run.unlink(missing_ok=True)
    # what was being written when a process was killed: nobody else writes while this one runs
    for torn in store.folder.rglob(".*"):
        if torn.is_file():
            torn.unlink(missing_ok=True)
