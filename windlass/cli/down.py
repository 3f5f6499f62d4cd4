"""`windlass down`: end the running platform."""

from __future__ import annotations

import argparse
from typing import Any


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "down",
        help="end the running platform",
        description="Ends the platform that `windlass up` started, its data plane included, also where the engine is "
        "dead; requests in flight are answered first.",
        epilog="example: windlass down",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json

    from windlass import settings
    from windlass.local import up

    found = up.down(settings.load())
    if arguments.json:
        print(json.dumps(found))
    elif not found["stopped"]:
        print("no platform was running")
    elif found["pid"] is not None:
        print(f"stopped (process {found['pid']})")
    else:
        print(f"stopped what an engine that died had left: {', '.join(found['ended'])}")
    return 0
