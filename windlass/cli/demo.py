"""`windlass demo`: a year of real flights through the whole loop, on one machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="replay a year of real flights through the whole loop",
        description="Trains on January 2013, serves behind Envoy, replays the rest of the year in event time, "
        "retrains, releases, and catches two sabotaged releases on live traffic.",
        epilog="example: windlass demo --fast --out demo-out",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--fast", action="store_true", help="the same story on fewer rows, in about a third of the time"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("demo-out"), metavar="DIR", help="results (default: demo-out)"
    )
    parser.add_argument(
        "--seed", type=int, default=13, help="draws the sample, the faults and the traffic (default: 13)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the summary as JSON and nothing else on stdout"
    )
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json

    from windlass import settings
    from windlass.demo import run

    summary = run.demo(
        settings.load(), out=arguments.out.resolve(), seed=arguments.seed, fast=arguments.fast, quiet=False
    )
    if arguments.json:
        print(json.dumps(summary))
    else:
        print(run.table(summary, arguments.out.resolve()))
    return 0
