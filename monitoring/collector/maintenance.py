"""Keeping the store small: files of a partition are joined, old partitions go, and what nothing names is swept.

Each step is a commit of its own, so that a crash between two loses neither and doubles nothing. A file that a commit
replaced stays for a while, for those who are reading it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from monitoring.collector.manifest import Dead, Manifest, Part, counted
from monitoring.collector.options import Options
from monitoring.collector.place import Place, place, root
from monitoring.collector.reading import unified
from windlass.settings import Settings

if TYPE_CHECKING:
    from monitoring.collector.consolidation import Consolidation


def maintain(work: Consolidation, settings: Settings, options: Options, *, now: float) -> None:
    """Expire, compact and sweep."""
    there = place(settings)
    expire(work, options, now=now)
    for group in small(work.manifest.parts, options):
        compact(work, there, group, now=now)
    sweep(work, there, settings, options, now=now)


def expire(work: Consolidation, options: Options, *, now: float) -> None:
    """Leave out partitions past their time."""
    known = work.manifest
    old = past(known, options)
    if old:
        names = {part.path for part in old}
        work.commit(
            replace(
                known,
                parts=tuple(p for p in known.parts if p.path not in names),
                dead=(*known.dead, *(Dead(part.path, now) for part in old)),
                counts=counted(known.counts, {"expired.rows": sum(part.rows for part in old)}),
            )
        )


def past(known: Manifest, options: Options) -> list[Part]:
    """Parts older than their kind is kept, from the newest day of their model on, or of the kind where it has none."""
    from monitoring.collector.consolidation import day_of, newest_days

    newest = newest_days(known.parts)
    for kind in ("early", "contradictions"):
        newest[kind] = max((day_of(p.date) for p in known.parts if p.kind == kind), default=0)
    keep = {"predictions": options.keep_predictions_days}
    return [
        part
        for part in known.parts
        if day_of(part.date)
        <= newest.get(part.model or part.kind, 0) - keep.get(part.kind, options.keep_labels_days)
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


def compact(work: Consolidation, there: Place, group: Sequence[Part], *, now: float) -> None:
    """Replace the parts of a group by one."""
    import pyarrow.parquet as pq

    first = group[0]
    in_order = sorted(group, key=lambda p: p.path)
    table = unified([pq.read_table(there.local(part.path), partitioning=None) for part in in_order])
    by = "at" if first.kind != "labels" else "prediction_at"
    table = table.sort_by([(by, "ascending"), ("request_id", "ascending")])
    between = min(p.since for p in group), max(p.until for p in group)
    earliest = sorted(group, key=lambda p: p.since)
    versions = tuple(dict.fromkeys(version for part in earliest for version in part.versions))
    made = work.put_table(
        first.kind, first.model, first.date, work.manifest.generation + 1, table, between, versions
    )
    names = {part.path for part in group}
    known = work.manifest
    work.commit(
        replace(
            known,
            parts=(*(p for p in known.parts if p.path not in names), made),
            dead=(*known.dead, *(Dead(path, now) for path in sorted(names))),
        )
    )


def sweep(work: Consolidation, there: Place, settings: Settings, options: Options, *, now: float) -> None:
    """Remove files that were replaced long enough ago, and those that a crash left without a name."""
    known = work.manifest
    gone = [dead for dead in known.dead if dead.since <= now - options.grace_s]
    for dead in gone:
        there.remove(dead.path)
    if gone:
        names = {dead.path for dead in gone}
        known = work.commit(replace(known, dead=tuple(d for d in known.dead if d.path not in names)))
    named = known.files()
    for path in there.paths():
        if path not in named:
            there.remove(path)
    for run in (root(settings) / "index").glob("*/*.run"):
        if run.relative_to(root(settings)).as_posix() not in named:
            run.unlink(missing_ok=True)
    # what was being written when a process was killed: nobody else writes while this one runs
    for torn in root(settings).rglob(".*"):
        if torn.is_file():
            torn.unlink(missing_ok=True)
