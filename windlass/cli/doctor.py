"""`windlass doctor`: what is wrong here, and the command that puts it right."""

from __future__ import annotations

import argparse
from typing import Any


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="check the machine, the environment and the local state; each problem with its remedy",
        description="Checks what is installed, running, missing or misconfigured. Each problem comes with its cause "
        "and a command that fixes it. Exit code 1 where a check fails; a warning does not fail.",
        epilog="example: windlass doctor --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--port", type=int, metavar="N", help="check also that this port is free for `windlass up --port N`"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import dataclasses
    import json
    import os

    from windlass.doctor.examination import examine

    findings = examine(os.environ, port=arguments.port)
    healthy = all(f.status != "fail" for f in findings)
    if arguments.json:
        print(json.dumps({"ok": healthy, "checks": [dataclasses.asdict(f) for f in findings]}))
        return 0 if healthy else 1
    width = max(len(f.name) for f in findings)
    for finding in findings:
        print(f"{finding.status:4}  {finding.name:{width}}  {finding.cause}")
        if finding.remedy:
            print(f"{'':4}  {'':{width}}  remedy: {finding.remedy}")
    counts = {status: sum(f.status == status for f in findings) for status in ("ok", "warn", "fail")}
    print(f"\n{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} failures")
    return 0 if healthy else 1
