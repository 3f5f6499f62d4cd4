"""From the journal into the store: `python -m monitoring.collector.consolidation`, a process of its own.

The process that acknowledges starts one every half minute: what this costs in time and memory never stands between a
caller and an answer, and a consolidation that dies is done again. One commit takes some segments, writes their parts
and index runs, and then the manifest, which names these and the first segment that is not among them. Before that
rename nothing has happened; after it the segments are superfluous, and removing them late does no harm.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from dataclasses import replace
from pathlib import Path

import orjson

from monitoring.collector import wal
from monitoring.collector.batch import groups
from monitoring.collector.commit import Committer
from monitoring.collector.maintenance import maintain
from monitoring.collector.manifest import Manifest
from monitoring.collector.names import Names
from monitoring.collector.options import Options
from monitoring.collector.place import root
from monitoring.collector.store import Store, alone, holding
from windlass import settings, telemetry
from windlass.errors import WindlassError
from windlass.settings import Settings

#: clocks differ, and are set back a little now and then
AHEAD_S = 60.0


def consolidate(
    configured: Settings, options: Options, until: int, *, now: float, complete: float = 0.0
) -> Manifest:
    """Bring every segment below `until` into the store, then compact it and remove what is past its time.

    Args:
        complete: everything that was received up to then is in those segments or before them, epoch seconds; 0 where
            that is not known.

    Raises:
        WindlassError: the disk or the object store did not take it; what is not in the store is in the journal.
    """
    folder = root(configured) / "wal"
    with holding(root(configured)):
        store = Store(configured, now=now)
        _remove_taken(folder, store.manifest.wal)
        work = Committer(store, Names(configured), options)
        before = store.manifest
        for group in groups(folder, store.manifest.wal, until):
            work.take(group)
            _remove_taken(folder, store.manifest.wal)
        if store.manifest is before and before.held is not None:
            work.take([])
        # a clock that was ahead must not leave the store complete up to a day that is to come
        if complete > store.manifest.until or 0 < complete < store.manifest.until - AHEAD_S:
            store.commit(replace(store.manifest, until=complete))
        maintain(store, options)
        return store.manifest


def finish(configured: Settings, options: Options | None = None, *, now: float) -> Manifest:
    """Bring all that a collector left behind into the store.

    Raises:
        AlreadyRunningError: a collector still writes its journal.
        WindlassError: as from `consolidate`.
    """
    with alone(root(configured)):
        numbers = wal.numbers(root(configured) / "wal")
        return consolidate(configured, options or Options(), max(numbers, default=-1) + 1, now=now)


def _remove_taken(folder: Path, until: int) -> None:
    for number in wal.numbers(folder):
        if number < until:
            wal.path(folder, number).unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m monitoring.collector.consolidation",
        description="Brings the collector's journal into the store; a collector does this by itself.",
    )
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument(
        "--until",
        type=int,
        help="the first segment that is still written to; without it no collector may run",
    )
    parser.add_argument(
        "--complete", type=float, default=0.0, help="what was received up to then comes before that segment"
    )
    parser.add_argument("--options", default="{}", help="monitoring.collector.options.Options as JSON")
    arguments = parser.parse_args(argv)
    telemetry.switch_off()
    try:
        configured = replace(settings.load(), home=arguments.home.resolve())
        options = Options(**orjson.loads(arguments.options))
        now = time.time()
        if arguments.until is None:
            done = finish(configured, options, now=now)
        else:
            done = consolidate(configured, options, arguments.until, now=now, complete=arguments.complete)
    except (WindlassError, OSError) as error:
        sys.stderr.write(f"windlass collector: the journal could not be brought into the store: {error}\n")
        return 1
    report = {"held": done.held is not None, "counts": done.counts}
    with contextlib.suppress(BrokenPipeError):  # whoever asked was killed meanwhile
        sys.stdout.write(orjson.dumps(report).decode() + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
