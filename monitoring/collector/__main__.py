"""`python -m monitoring.collector --port N --home DIR`: serve until SIGTERM, then finish what was begun."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import uvloop

from monitoring import labels, predictions
from monitoring.analysis.exporter import AnalysisCollector
from monitoring.collector import privacy
from monitoring.collector.app import App
from monitoring.collector.connection import Connections, listen
from monitoring.collector.evidence import Evidence
from monitoring.collector.feedback_log import FeedbackLog
from monitoring.collector.follower import Follower
from monitoring.collector.intake import Intake
from monitoring.collector.journal import Journal
from monitoring.collector.names import Names
from monitoring.collector.options import Options
from monitoring.collector.place import root
from monitoring.collector.store import alone
from windlass import settings, telemetry
from windlass.errors import WindlassError

DRAIN_SECONDS = 5.0
CLOSE_SECONDS = 7.0
FOLLOW_EVERY_S = 1.0
COMPLAINTS_APART_S = 60.0
HELP = {
    "keep_predictions_days": "days that predictions are kept, counted from the newest day but one of their model",
    "keep_labels_days": "days that labels are kept",
    "late_days": "a label that became known so many days after its prediction is counted as late",
    "hold_s": "seconds that a request waits for its response",
    "consolidate_s": "seconds between two consolidations of the journal",
    "most_connections": "connections that may be open at a time before more are refused",
    "pending_bytes": "bytes that may wait for the disk before requests are refused",
    "wal_bytes": "bytes that may wait for the store before requests are refused",
    "compact_parts": "small files of a partition that become one",
    "compact_rows": "a file of so many rows is small no more",
    "grace_s": "seconds that a replaced file stays for its readers",
}


async def serve(
    configured: settings.Settings, options: Options, host: str, port: int, *, follow: bool, known_only: bool
) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        PortInUseError: somebody else listens there.
        AlreadyRunningError: another collector has this home.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with alone(root(configured)):
        journal = Journal(configured, options)
        intake = Intake(Names(configured), privacy.key(), time.time, known_only=known_only)
        log = FeedbackLog(labels.path(configured), journal.metrics.commit_seconds.observe)
        evidence = Evidence(configured, journal.metrics)
        app = App(configured, journal, intake, log, evidence=evidence)
        refused = journal.metrics.refused
        connections = Connections(
            refused=refused.labels("invalid").inc,
            most=options.most_connections,
            crowded=refused.labels("full").inc,
        )
        journal.metrics.registry.register(AnalysisCollector(configured))
        server = await listen(app, connections, host, port)
        tasks = [loop.create_task(journal.run())]
        logs = Follower(
            predictions.folder(configured) if follow else None,
            labels.path(configured),
            intake,
            journal.append,
            offsets=journal.offsets,
            now=time.time,
            refuse=lambda count: journal.metrics.refused.labels("invalid").inc(count),
            count=lambda kind, count: (
                None if kind == "label" else journal.metrics.events.labels(kind).inc(count)
            ),
            settled=log.commits.settled,
        )
        journal.complete, journal.wanted = lambda: logs.complete, evidence.wanted
        tasks.append(loop.create_task(_follow(logs, journal)))
        stopped = loop.create_task(stop.wait())
        await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        server.close()
        await connections.drain(DRAIN_SECONDS)
        await evidence.close()
        for task in (stopped, *tasks):
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        ends = time.monotonic() + CLOSE_SECONDS
        with contextlib.suppress(Exception):  # what cannot be read now is read at the next start
            while await logs.poll() and time.monotonic() < ends:
                pass
        await journal.close(max(0.0, ends - time.monotonic()))
        log.close()
        for failure in ended:
            # neither ever ends by itself: a collector that acknowledges and stores nothing would not be noticed
            if isinstance(failure, Exception):
                raise failure


async def _follow(logs: Follower, journal: Journal) -> None:
    """Read the logs of this machine for as long as the process lives."""
    told = -COMPLAINTS_APART_S
    while True:
        more = False
        try:
            await journal.probe()
            # what is refused from outside is not read from inside either
            journal.check_room(0)
            more = await logs.poll()
        except (WindlassError, OSError) as error:
            if time.monotonic() - told > COMPLAINTS_APART_S:
                told = time.monotonic()
                # the log of ours may lie on the very disk that is full: saying so must not end the reading
                with contextlib.suppress(OSError):
                    sys.stderr.write(f"windlass collector: logs wait to be read: {error}\n")
                    sys.stderr.flush()
        await asyncio.sleep(0 if more else FOLLOW_EVERY_S)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m monitoring.collector",
        description="Takes payload-logging events, predictions and feedback; shows the report.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--home", type=Path, help="root of the local state; default: WINDLASS_HOME")
    parser.add_argument(
        "--no-follow", action="store_true", help="leave the logs of this machine's model servers alone"
    )
    parser.add_argument(
        "--only-known-models", action="store_true", help="refuse models that are no workload of the project"
    )
    for option in fields(Options):
        if option.name in HELP:
            parser.add_argument(
                f"--{option.name.replace('_', '-')}",
                type=type(option.default),
                default=option.default,
                help=HELP[option.name],
            )
    arguments = parser.parse_args(argv)
    telemetry.switch_off()
    try:
        configured = settings.load()
        if arguments.home is not None:
            configured = replace(configured, home=arguments.home.resolve())
        options = Options(**{name: getattr(arguments, name) for name in HELP})
        uvloop.run(
            serve(
                configured, options, arguments.host, arguments.port,
                follow=not arguments.no_follow, known_only=arguments.only_known_models,
            )
        )  # fmt: skip
    except WindlassError as error:
        sys.stderr.write(f"windlass collector: error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
