"""`python -m monitoring.analysis WORKLOAD`: one analysis; with `--serve PORT` the newest ones as metrics.

A CronJob of the cluster and a task of this machine start the same command. The exit code is 0 for every verdict.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from monitoring.analysis import exporter, job
from monitoring.analysis.gathering import Moment, standing
from monitoring.analysis.job import Result, Told
from windlass import settings, telemetry
from windlass.errors import UsageError, WindlassError

EARLIEST = 1971
"""The first year of which a window may be asked for: the weeks before it are dates as well."""


def main(argv: list[str] | None = None) -> int:
    """Run the command; 1 where the analysis failed, 2 where it cannot be meant."""
    telemetry.switch_off()
    arguments = _parser().parse_args(argv)
    try:
        return _serve(arguments) if arguments.serve is not None else _analyse(arguments)
    except WindlassError as error:
        sys.stderr.write(f"windlass: error: {error}\n")
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m monitoring.analysis",
        description="Judge the newest window of a workload's live answers: drift, data quality, performance, skew, "
        "volume, latency. Results lie in HOME/analysis/WORKLOAD.",
    )
    parser.add_argument("workload", nargs="?", help="name of the workload")
    parser.add_argument("--now", metavar="TIME", help="labels known then count (default: now)")
    parser.add_argument(
        "--end",
        metavar="TIME",
        help="end of the window (default: the last full hour, or where the platform's clock stands)",
    )
    parser.add_argument(
        "--report", action="store_true", help="make Evidently's report also where nothing failed"
    )
    parser.add_argument("--signals-to", metavar="URL", help="the retrain trigger, which takes CloudEvents")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="holds the trigger's bearer token")
    parser.add_argument("--json", action="store_true", help="print the analysis as one JSON object")
    parser.add_argument(
        "--serve", type=int, metavar="PORT", help="serve the newest analyses as metrics instead"
    )
    parser.add_argument("--address", default="127.0.0.1", help="address of --serve (default: %(default)s)")
    return parser


def _analyse(arguments: argparse.Namespace) -> int:
    if arguments.workload is None:
        raise UsageError("name a workload, for example: python -m monitoring.analysis flights")
    configured = settings.load()
    clock = datetime.now(UTC)
    now = clock if arguments.now is None else moment("--now", arguments.now)
    if now > clock:
        raise UsageError(f"--now {arguments.now} lies in the future; nothing is known of it yet")
    # on historical data the newest window ends where the platform's clock stands
    end = standing(configured) if arguments.now is None else None
    if arguments.end is not None:
        end = moment("--end", arguments.end)
        if end > now:
            raise UsageError(
                f"--end {arguments.end} lies after {now:%Y-%m-%dT%H:%M}Z; the window is not over yet"
            )
    result = job.run(
        configured,
        arguments.workload,
        Moment.at(now, end),
        told=Told(arguments.signals_to, arguments.token_file),
        report=arguments.report,
    )
    for said in result.warnings:
        sys.stderr.write(f"windlass: warning: {said}\n")
    sys.stdout.write((json.dumps(result.document) if arguments.json else text(result)) + "\n")
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    end = exporter.serve(settings.load(), arguments.serve, arguments.address)
    stop.wait()
    end()
    return 0


def moment(option: str, given: str) -> datetime:
    """A date or time of ISO 8601; UTC where it names no zone.

    Raises:
        UsageError: it is none.
    """
    try:
        found = datetime.fromisoformat(given)
        if found.year < EARLIEST:
            raise ValueError(f"year {found.year}")
    except ValueError:
        raise UsageError(
            f"{option} {given!r} is not a date or time; use ISO 8601, for example 2013-03-31T06:00Z"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


def text(result: Result) -> str:
    """The verdicts, a line each."""
    found = result.document
    lines = [f"{found['workload']}, {found['from'][:16]} to {found['to'][:16]}: {result.path}"]
    lines += [f"  {c['name']:<17}{c['verdict']:<13} {c['reason']}" for c in found["checks"]]
    for version in found["versions"]:
        lines.append(f"version {version['version']}, {version['rows']:,} rows")
        lines += [f"  {c['name']:<17}{c['verdict']:<13} {c['reason']}" for c in version["checks"]]
        lines.append(f"  slices: {version['slices']['reason']}")
    if found["evidently"]:
        lines.append(f"Evidently's report: {found['evidently']}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
