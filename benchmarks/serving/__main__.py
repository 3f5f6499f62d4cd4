"""`windlass bench serving`: our runtime beside its Python peers and the floors under them, on the same model and rows.

Servers have one core and the load generator has another. The contenders take turns in rounds, and ratios are taken
within a round: on a machine that others use too, nothing else means anything.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving import environments, online, overload, plots, report, subject
from benchmarks.serving.generator import Generator
from benchmarks.serving.lineup import OURS, SERVERS, chosen
from benchmarks.serving.results import Load, Results
from benchmarks.serving.rounds import Rounds
from benchmarks.serving.running import pin
from windlass import atomic
from windlass.cli import app
from windlass.errors import UsageError
from windlass.local.lifeline import Lifeline

PARTS = ("rest", "grpc", "rows32", "engines", "features", "overload")
BATCH = 32


def build_parser() -> argparse.ArgumentParser:
    """What `windlass bench serving` takes."""
    parser = app.Parser(
        prog="windlass bench serving",
        description="Measures the model server beside its peers: requests/s, latency, CPU, memory, time to ready.",
        epilog="example: windlass bench serving --contenders windlass,asgi --only rest --out bench-out\n"
        f"Parts: {', '.join(PARTS)}. Contenders: {', '.join(s.name for s in SERVERS)};\n"
        "each gets an environment of its own from the package index under .tools/bench, the first time.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else on stdout"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the JSON and the plots there")
    parser.add_argument("--contenders", type=_names, metavar="A,B", help="these only")
    parser.add_argument("--only", type=_names, default=list(PARTS), metavar="A,B", help="these parts only")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="turns of each (default 5)")
    parser.add_argument("--requests", type=int, default=6000, metavar="N", help="of one turn (default 6000)")
    parser.add_argument(
        "--concurrency", type=_numbers, default=[1, 16, 64], metavar="A,B", help="default 1,16,64"
    )
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="of one overload (default 5)")
    parser.add_argument("--quick", action="store_true", help="one round of few requests: does it work at all")
    parser.set_defaults(handler=handle)
    return parser


def handle(told: argparse.Namespace) -> int:
    """Run and print.

    Raises:
        UsageError: a part or a contender is not known.
        WindlassError: nothing can be measured.
    """
    if unknown := set(told.only) - set(PARTS):
        raise UsageError(f"no part {sorted(unknown)[0]!r}; there are: {', '.join(PARTS)}")
    if told.quick:
        told.rounds, told.requests, told.seconds = 1, 500, 1.0
    chosen(told.contenders)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    lifeline = Lifeline()
    try:
        with tempfile.TemporaryDirectory(prefix="windlass-bench-") as folder:
            found = report.document(run(told, Path(folder)))
    finally:
        lifeline.close()
    if told.out:
        atomic.write_text(told.out / "serving.json", json.dumps(found, indent=1) + "\n")
        plots.write(found, told.out)
    print(json.dumps(found) if told.json else report.table(found))
    return 0


def plan(parts: Sequence[str], concurrency: Sequence[int]) -> dict[str, list[Load]]:
    """The loads of each protocol."""
    singles = [Load(1, n) for n in concurrency]
    formats = {format for server in SERVERS for format in server.formats}
    loads: dict[str, list[Load]] = {}
    for format in sorted(formats):
        asked = singles if ("grpc" if format == "grpc" else "rest") in parts else []
        if "rows32" in parts:
            asked = [*asked, Load(BATCH, 16)]
        if asked:
            loads[format] = asked
    return loads


def run(told: argparse.Namespace, folder: Path) -> Results:
    """Measure what was asked for."""
    servers = chosen(told.contenders)
    mine = OURS in [server.name for server in servers]
    # the generator lives in the floors' environment: without it nothing can be measured
    environments.make("floor")
    sys.stderr.write("training the model\n")
    (folder / "model").mkdir()
    served = subject.make(folder / "model")
    results = Results()
    if "engines" in told.only:
        engines(results)
    core = pin()
    generator = Generator(served.rows, core)
    try:
        results.note("one row in process", "model", [served.row_us], "us")
        loads = plan(told.only, told.concurrency)
        if loads:
            Rounds(served, folder, generator, loads, told.requests, results).run(servers, told.rounds)
        if "overload" in told.only and mine:
            (folder / "slow").mkdir()
            models = {"small model": served, "slow model": subject.slowed(served, folder / "slow")}
            results.note("one row in process", "slow model", [models["slow model"].row_us], "us")
            overload.measure(models, folder, generator, min(told.rounds, 3), told.seconds, results)
    finally:
        generator.close()
    if "features" in told.only and mine:
        online.measure(
            served, folder, core, [Load(1, n) for n in told.concurrency], told.rounds, told.requests, results
        )
    return results


def engines(results: Results) -> None:
    """Take over what `benchmarks.serving.engines` finds: the exports in process, and its targets."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving.engines", "--json"], stdout=subprocess.PIPE, check=False
    )
    if done.returncode:
        results.not_run["engines"] = f"ended with {done.returncode}; its last words are above"
        return
    found = json.loads(done.stdout)
    results.extra += found["measurements"]
    results.targets += found["targets"]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    sys.exit(app.run(sys.argv[1:], parser=build_parser()))
