"""`windlass drill`: break something on purpose, in a scratch folder, and see that what is documented happens."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "drill",
        help="inject a fault into a scratch platform and check alert, end state and runbook",
        description="Starts a platform with a small model of its own in a scratch folder, injects the fault, and "
        "checks that the documented alert fires by the real rules, that the documented state is reached, that nothing "
        "was lost, and that the runbook's commands work. Your own home is never touched.",
        epilog="example: windlass drill dead-feature-store\n"
        "The exit code is 1 where an expectation does not hold. docs/drills.md says what is expected of each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", help="the drill; --list shows them")
    parser.add_argument("--list", action="store_true", help="list the drills and what is expected of each")
    parser.add_argument("--all", action="store_true", help="play them all, one after the other")
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="scratch folder that is kept, and saves the training the next time (default: a new one, removed after)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json
    import sys
    import tempfile
    from dataclasses import asdict

    from windlass.drill import catalogue, drill
    from windlass.errors import UsageError

    named = sum((arguments.list, arguments.all, arguments.name is not None))
    if named != 1:
        raise UsageError("name one drill, or give --list or --all")
    if arguments.list:
        kept = [{k: v for k, v in asdict(d).items() if k != "play"} for d in catalogue.DRILLS]
        print(json.dumps({"drills": kept}) if arguments.json else _listed(kept))
        return 0
    chosen = catalogue.DRILLS if arguments.all else (catalogue.find(arguments.name),)

    def say(line: str) -> None:
        print(line, file=sys.stderr if arguments.json else sys.stdout, flush=True)

    records = []
    with _unwinding(), tempfile.TemporaryDirectory(prefix="windlass-drill-") as scratch:
        for found in chosen:
            say(f"{found.name}: {found.fault}")
            record = drill.run(found, arguments.folder or Path(scratch), say)
            say(f"{found.name}: {'as documented' if record.passed else 'NOT as documented'}")
            records.append(record)
    if arguments.json:
        print(
            json.dumps({"passed": all(r.passed for r in records), "drills": [r.as_json() for r in records]})
        )
    return 0 if all(r.passed for r in records) else 1


@contextlib.contextmanager
def _unwinding() -> Iterator[None]:
    """A SIGTERM or a closed terminal unwinds like a Ctrl-C, so that no process and no scratch folder is left."""
    import signal

    ends = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]  # nohup
    before = {n: signal.signal(n, signal.default_int_handler) for n in ends}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listed(drills: list[dict[str, str]]) -> str:
    lines = []
    for found in drills:
        lines += [
            f"{found['name']}",
            f"  fault: {found['fault']}",
            f"  alert: {found['alert']}",
            f"  ends:  {found['end_state']}",
            f"  proof: {found['proof']}",
        ]
    return "\n".join(lines)
