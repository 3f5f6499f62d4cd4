"""`windlass down`: end the running platform."""

from __future__ import annotations

import argparse
from typing import Any


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "down",
        help="end the running platform",
        description="Ends the platform that `windlass up` started; requests in flight are answered first.",
        epilog="example: windlass down",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json

    from windlass import settings
    from windlass.local import up

    pid = up.down(settings.load())
    if arguments.json:
        print(json.dumps({"stopped": pid is not None, "pid": pid}))
    else:
        print("no platform was running" if pid is None else f"stopped (process {pid})")
    return 0
