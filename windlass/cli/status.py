"""`windlass status`: what runs, and who gets the traffic."""

from __future__ import annotations

import argparse
from typing import Any


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "status",
        help="show what runs and who gets the traffic",
        description="Shows the running platform: addresses, processes, the champion and the weights on the wire.",
        epilog="example: windlass status --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json

    from windlass import settings
    from windlass.local import status

    found = status.status(settings.load())
    if arguments.json:
        print(json.dumps(found))
    elif not found["running"]:
        print("no platform runs; start one with `windlass up --detach`")
    else:
        print(
            f"predict   {found['predict_url']}\nfeedback  {found['feedback_url']}\nreport    {found['report_url']}"
        )
        for model, weights in found["weights"].items():
            split = ", ".join(f"version {v}: {w} %" for v, w in weights.items())
            print(f"{model}: champion version {found['models'][model]}; traffic {split}")
        for name, process in found["processes"].items():
            print(f"  {name:<20} {process['pid']:>8}  {'running' if process['alive'] else 'DEAD'}")
    return 0
