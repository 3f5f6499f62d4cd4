"""`windlass bench collector`: what the collector takes on one core, and what it loses when it is killed."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import report
from benchmarks.collector import chaos, full_disk, throughput
from windlass import atomic
from windlass.cli import app
from windlass.errors import UsageError, WindlassError

PARTS = ("throughput", "release", "chaos", "disk")
#: with and without a live release, in turns
ROUNDS = 5
RATE = 5000.0


@dataclass
class Found:
    """What was measured so far."""

    measurements: list[dict[str, Any]] = field(default_factory=list)
    targets: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, contender: str, value: float, unit: str) -> None:
        self.measurements.append(
            {"name": name, "contender": contender, "value": round(float(value), 4), "unit": unit}
        )

    def hold(self, name: str, value: float | None, op: str, bound: float) -> None:
        self.targets.append(report.judged(name, value, op, bound))


def build_parser() -> argparse.ArgumentParser:
    """What `windlass bench collector` takes."""
    parser = app.Parser(
        prog="windlass bench collector",
        description="Sends events to a collector on one core as fast as it takes them; kills it; fills its disk.",
        epilog="example: windlass bench collector --events 100000 --kills 4\n"
        f"Parts: {', '.join(PARTS)}. The full proof is the default: 2 million events and 20 kills, some minutes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else on stdout"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the JSON and a plot there")
    parser.add_argument("--only", default=",".join(PARTS), metavar="A,B", help="these parts only")
    parser.add_argument(
        "--events", type=int, default=2_000_000, metavar="N", help="of the kills (default 2 million)"
    )
    parser.add_argument(
        "--kills", type=int, default=20, metavar="N", help="how often it is killed (default 20)"
    )
    parser.add_argument(
        "--rate-events",
        type=int,
        default=300_000,
        metavar="N",
        help="of each way of sending (default 300000)",
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of everything random (default 1)")
    parser.set_defaults(handler=handle)
    return parser


def handle(told: argparse.Namespace) -> int:
    """Run and print.

    Raises:
        UsageError: a part is not known, or a count is none.
    """
    wanted = told.only.split(",")
    if unknown := [name for name in wanted if name not in PARTS]:
        raise UsageError(f"no part {unknown[0]!r}; there are: {', '.join(PARTS)}")
    for name in ("events", "kills", "rate_events"):
        if getattr(told, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} is {getattr(told, name)}; give 1 or more")
    found = Found()
    with tempfile.TemporaryDirectory(prefix="windlass-collector-") as folder, _apart() as core:
        if "throughput" in wanted:
            _throughput(found, Path(folder), told.rate_events, core)
        if "release" in wanted:
            _release(found, Path(folder), told.rate_events, core)
        if "chaos" in wanted:
            _chaos(found, Path(folder), told, core)
        if "disk" in wanted:
            _disk(found, Path(folder))
    result = {
        "bench": "collector",
        "machine": report.machine(),
        "options": {
            "events": told.events,
            "kills": told.kills,
            "rate_events": told.rate_events,
            "seed": told.seed,
        },
        "measurements": found.measurements,
        "targets": found.targets,
    }
    if told.out is not None:
        told.out.mkdir(parents=True, exist_ok=True)
        atomic.write_text(told.out / "collector.json", json.dumps(result, indent=2) + "\n")
        _plot(found, told.out)
    print(json.dumps(result) if told.json else "\n".join(_text(found)))
    return 0


@contextlib.contextmanager
def _apart() -> Iterator[int | None]:
    """Leave one core to the collector, yield it, and send from the others; None where there is one core only."""
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        yield None
        return
    core = min(cores)
    os.sched_setaffinity(0, cores - {core})
    try:
        yield core
    finally:
        os.sched_setaffinity(0, cores)


def _throughput(found: Found, folder: Path, events: int, core: int | None) -> None:
    for mode in throughput.CONNECTIONS:
        # one event a request takes longer, and half as many tell as much
        count = events // 2 if mode == "binary" else events
        measured = throughput.measure(mode, count, folder / mode, core=core, say=_progress("throughput"))
        found.add("stored", mode, measured.stored_per_s, "events/s")
        found.add("acknowledged", mode, measured.acknowledged_per_s, "events/s")
        found.add("a CPU second", mode, measured.per_cpu_s, "events")
        found.add("acknowledgement p50", mode, measured.p50_ms, "ms")
        found.add("acknowledgement p99", mode, measured.p99_ms, "ms")
        found.add("peak memory", mode, measured.peak_mb, "MiB")
        found.add("missing in parquet", mode, measured.count.missing, "predictions")
        found.hold(f"{mode}: events/s into parquet on one core", measured.stored_per_s, ">=", RATE)


def _release(found: Found, folder: Path, events: int, core: int | None) -> None:
    """What a live release that is asked for takes away: both in turns, since a machine has better and worse minutes."""
    measured: dict[bool, list[throughput.Throughput]] = {False: [], True: []}
    for turn in range(2 * ROUNDS):
        live = turn % 2 == 1
        home = folder / f"release-{turn}"
        measured[live].append(
            throughput.measure("lines", events, home, core=core, say=_progress("release"), live=live)
        )
        shutil.rmtree(home)
    for live, runs in measured.items():
        name = "a live release" if live else "no release"
        found.add("acknowledged", name, median(run.acknowledged_per_s for run in runs), "events/s")
        found.add("a CPU second", name, median(run.per_cpu_s for run in runs), "events")
        found.add("acknowledgement p99", name, median(run.p99_ms for run in runs), "ms")
        found.hold(f"{name}: events a CPU second", median(run.per_cpu_s for run in runs), ">=", RATE)


def _chaos(found: Found, folder: Path, told: argparse.Namespace, core: int | None) -> None:
    measured = chaos.measure(
        told.events, told.kills, folder / "chaos", seed=told.seed, core=core, say=_progress("chaos")
    )
    for name, value, unit in (
        ("acknowledged", measured.events, "events"),
        ("predictions", measured.predictions, "predictions"),
        ("kills", measured.kills, "kills"),
        ("kills while it consolidated", measured.consolidating, "kills"),
        ("messages sent again", measured.sent_again, "messages"),
        ("duplicates recognized", measured.duplicates, "events"),
        ("in parquet", measured.count.rows, "predictions"),
        ("halves without the other", measured.count.halves, "predictions"),
        ("time", measured.seconds, "s"),
    ):
        found.add(name, "chaos", value, unit)
    found.hold("kill -9: events acknowledged, of 2 million", measured.events, ">=", 2_000_000)
    found.hold("kill -9: times", measured.kills, ">=", 20)
    found.hold("kill -9: acknowledged and lost", measured.lost, "==", 0)
    found.hold("kill -9: stored twice", measured.twice, "==", 0)
    found.hold("kill -9: stored without their other half", measured.count.halves, "==", 0)


def _disk(found: Found, folder: Path) -> None:
    measured = full_disk.measure(folder / "disk")
    _progress("disk")(
        f"{measured.means}: refused {measured.refusals} times, recovered in {measured.recovered_s:.1f} s"
    )
    found.add("acknowledged before", measured.means, measured.before, "predictions")
    found.add("acknowledged after", measured.means, measured.after, "predictions")
    found.add("refused with 507", measured.means, measured.refusals, "requests")
    found.add("space to storage_ok", measured.means, measured.recovered_s, "s")
    found.hold("full disk: requests refused with 507", measured.refusals, ">=", 1)
    found.hold("full disk: other answers", measured.other, "==", 0)
    found.hold("full disk: acknowledged and lost", measured.lost, "==", 0)
    found.hold("full disk: storage_ok once there is space", measured.storage_ok_free, "==", 1)


def _progress(part: str) -> Callable[[str], None]:
    def say(text: str) -> None:
        sys.stderr.write(f"{part}: {text}\n")

    return say


def _text(found: Found) -> list[str]:
    lines = [
        f"{m['name']:32}{m['contender']:>18}{m['value']:>16,.2f} {m['unit']}" for m in found.measurements
    ]
    return [*lines, "", *report.targets_table(found.targets)]


def _plot(found: Found, folder: Path) -> None:
    rates = [(m["contender"], m["value"]) for m in found.measurements if m["name"] == "stored"]
    if not rates:
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 2.6), layout="constrained")
    axes.barh([mode for mode, _ in rates], [rate for _, rate in rates], color="#c2410c")
    axes.axvline(RATE, color="#64748b", linestyle="--", label="target")
    axes.set_xlabel("events/s into parquet, one core")
    axes.legend(frameon=False)
    for kind in ("png", "svg"):
        with atomic.replacing(folder / f"collector.{kind}") as path:
            figure.savefig(path, format=kind)
    pyplot.close(figure)


def main(argv: list[str] | None = None) -> int:
    """Run as a command: 2 for what cannot be meant, 1 for what failed."""
    arguments = build_parser().parse_args(argv)
    try:
        return handle(arguments)
    except WindlassError as error:
        sys.stderr.write(f"windlass bench collector: error: {error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
