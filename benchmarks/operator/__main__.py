"""`windlass bench operator`: what an operator with many Releases costs, and how quick it is, on a real API server."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.operator import scale
from benchmarks.operator.scale import Scene
from windlass import atomic
from windlass.cli import app
from windlass.errors import UsageError, WindlassError

P99_S, MEMORY_MB, CORES = 1.0, 300.0, 0.3


def build_parser() -> argparse.ArgumentParser:
    """What `windlass bench operator` takes."""
    parser = app.Parser(
        prog="windlass bench operator",
        description="Runs the operator beside a real etcd, API server and Prometheus, with doubles for gateway and "
        "KServe (they write status conditions) and for the model servers (a page of counters).",
        epilog="example: windlass bench operator --releases 200 --moving 20 --seconds 60 --outage 0\n"
        "The full proof is the default: 1,000 Releases, 100 of them moving, 3 minutes, 60 s without API server.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else on stdout"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the JSON there")
    parser.add_argument(
        "--releases", type=int, default=1000, metavar="N", help="Release objects (default 1000)"
    )
    parser.add_argument("--moving", type=int, default=100, metavar="N", help="of them live (default 100)")
    parser.add_argument(
        "--seconds", type=int, default=180, metavar="N", help="measured, once all move (default 180)"
    )
    parser.add_argument(
        "--outage",
        type=int,
        default=60,
        metavar="N",
        help="seconds without API server; 0 for none (default 60)",
    )
    parser.add_argument(
        "--first",
        action="store_true",
        help="let the bench's processes have a CPU before all others of this machine, as on one of its own (Linux, as "
        "root)",
    )
    parser.set_defaults(handler=handle)
    return parser


def handle(told: argparse.Namespace) -> int:
    """Run and print.

    Raises:
        UsageError: a count makes no sense.
    """
    if not 1 <= told.moving <= told.releases:
        raise UsageError(f"--moving is {told.moving}; give 1 to --releases ({told.releases})")
    if told.seconds < 10 or told.outage < 0:
        raise UsageError("--seconds must be 10 or more, and --outage 0 or more")
    with tempfile.TemporaryDirectory(prefix="windlass-operator-") as folder:
        scene = Scene(Path(folder), told.releases, told.moving, say, told.first)
        measured = scale.measure(scene, told.seconds, told.outage)
    measurements = [
        {"name": name, "contender": "operator", "value": round(value, 4), "unit": unit}
        for name, value, unit in measured.rows()
    ]
    result: dict[str, Any] = {
        "bench": "operator",
        "machine": report.machine(),
        "options": {
            name: getattr(told, name) for name in ("releases", "moving", "seconds", "outage", "first")
        },
        "measurements": measurements,
        "targets": [
            report.judged("p99 of a reconcile, from when it was due, s", measured.p99_s, "<=", P99_S),
            report.judged("memory, MB", measured.peak_mb, "<", MEMORY_MB),
            report.judged("cores", measured.cores, "<", CORES),
            report.judged(
                "decisions lost in an outage",
                None if measured.lost is None else float(measured.lost),
                "==",
                0.0,
            ),
        ],
    }
    if told.out is not None:
        told.out.mkdir(parents=True, exist_ok=True)
        atomic.write_text(told.out / "operator.json", json.dumps(result, indent=2) + "\n")
    if told.json:
        print(json.dumps(result))
        return 0
    print(f"{told.releases} Releases, {told.moving} of them moving, {told.seconds} s")
    for row in measurements:
        print(f"  {row['name']:58}{row['value']:>12,.3f} {row['unit']}")
    print("\n".join(report.targets_table(result["targets"])))
    return 0


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main() -> int:
    try:
        told = build_parser().parse_args()
        code: int = told.handler(told)
        return code
    except WindlassError as error:
        sys.stderr.write(f"windlass bench operator: {error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
