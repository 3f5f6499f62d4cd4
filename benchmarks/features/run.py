"""What features cost: computing them, joining them for training, keeping them online.

Each of our ways stands beside Feast's plain one, on the same rows. Times are CPU seconds of this process, since a
shared machine makes wall time mean little. Prints one JSON object; progress goes to stderr.

    python benchmarks/features/run.py --home DIR [--month 2013-03]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from windlass import catalog, settings, telemetry
from windlass.contract import Workload
from windlass.features import asof, offline, partitions, store, stream
from windlass.settings import Settings

TICKS = 24 * 7
HOUR = timedelta(hours=1)


@contextlib.contextmanager
def measured(
    name: str, contender: str, into: list[dict[str, Any]], per: int = 1, unit: str = "s"
) -> Iterator[None]:
    """Measure the CPU time of a block, divided by `per`."""
    begun = time.process_time()
    yield
    value = (time.process_time() - begun) / per * (1000 if unit == "ms" else 1)
    into.append({"name": name, "contender": contender, "value": round(value, 4), "unit": f"CPU {unit}"})
    print(f"{name} ({contender}): {value:.3f} {unit}", file=sys.stderr)


def requests(workload: Workload, month: str) -> pd.DataFrame:
    prepared = workload.prepare(workload.source.load(None))
    inside = prepared["event_timestamp"].dt.strftime("%Y-%m") == month
    return prepared.loc[inside, [*workload.entities, "event_timestamp"]].reset_index(drop=True)


def join(workload: Workload, s: Settings, month: str, into: list[dict[str, Any]]) -> None:
    """A month of training rows: in chunks, straight, and as a plain call of Feast would do it."""
    asked = requests(workload, month)
    store.training_frame(workload, s, asked.head(10))  # imports
    with measured(f"training frame, {len(asked)} rows", "windlass through Feast", into):
        store.training_frame(workload, s, asked)
    with measured(f"training frame, {len(asked)} rows", "windlass as-of join", into):
        asof.lookup(workload, s, asked)
    # Feast over everything there is takes minutes and gigabytes: a tenth of the rows shows it
    part = asked.sample(len(asked) // 10, random_state=0)
    with measured(f"training frame, {len(part)} rows", "plain Feast", into):
        opened = store.open_store(s)
        opened.get_historical_features(part, opened.get_feature_service(workload.feature_service)).to_df()
    with measured(f"training frame, {len(part)} rows", "windlass through Feast", into):
        store.training_frame(workload, s, part)


def online(workload: Workload, s: Settings, month: str, into: list[dict[str, Any]]) -> None:
    """A week of hourly ticks, and one tick by Feast's own push."""
    start = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC) + timedelta(days=9)
    with contextlib.closing(stream.OnlineStream(workload, s)) as ticking:
        with measured("materialize", "Feast", into):
            ticking.materialize(start - max(v.ttl for v in workload.views), start)
        ticking.advance(start + HOUR)
        written = 0
        with measured("hourly tick", "windlass", into, per=TICKS, unit="ms"):
            for tick in range(TICKS):
                written += ticking.advance(start + (2 + tick) * HOUR)
        into.append(
            {"name": "hourly tick", "contender": "windlass", "value": written / TICKS, "unit": "rows"}
        )
        opened = store.open_store(s)
        at = start + (2 + TICKS) * HOUR
        rows = {v.name: partitions.read(s, v, at, at).to_pandas() for v in workload.views if v.stream}
        for view, frame in rows.items():
            stream.push(opened, view, frame)
        with measured("hourly tick", "FeatureStore.push", into, per=5, unit="ms"):
            for _ in range(5):
                for view, frame in rows.items():
                    stream.push(opened, view, frame)
        into.append(
            {
                "name": "hourly tick",
                "contender": "FeatureStore.push",
                "value": sum(map(len, rows.values())),
                "unit": "rows",
            }
        )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="scratch folder for features")
    parser.add_argument("--month", default="2013-03", help="month of flights to join (default: 2013-03)")
    told = parser.parse_args(arguments)
    telemetry.switch_off()
    warnings.simplefilter("ignore")
    s = replace(settings.load(), home=told.home.resolve())
    workload = catalog.load("flights", s.project)
    measurements: list[dict[str, Any]] = []
    steps: list[Callable[[], None]] = [
        lambda: join(workload, s, told.month, measurements),
        lambda: online(workload, s, told.month, measurements),
    ]
    with measured("offline build, one year", "windlass", measurements):
        offline.build(workload, s)
    with measured("offline build, unchanged", "windlass", measurements):
        offline.build(workload, s)
    for step in steps:
        step()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = {"cores": os.cpu_count(), "memory_gb": round(memory, 1), "python": platform.python_version()}
    half_year = 6 * next(m["value"] for m in measurements if m["contender"] == "windlass through Feast")
    tick = next(m["value"] for m in measurements if m["name"] == "hourly tick" and m["unit"] == "CPU ms")
    targets = [
        {"name": "training frame of half a year, CPU s", "value": half_year, "target": 60, "op": "<"},
        {"name": "hourly tick over all views, CPU ms", "value": tick, "target": 4, "op": "<="},
    ]
    for target in targets:
        target["holds"] = (
            target["value"] < target["target"] if target["op"] == "<" else target["value"] <= target["target"]
        )
    print(
        json.dumps(
            {"bench": "features", "machine": machine, "measurements": measurements, "targets": targets},
            indent=1,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
