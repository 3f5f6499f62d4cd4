"""`windlass predict`: ask the running platform."""

from __future__ import annotations

import argparse
from typing import Any


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "predict",
        help="ask the running platform for a prediction",
        description="Sends entity keys and request-time fields; the features come from the online store.",
        epilog="example: windlass predict flights --entity carrier=UA origin=EWR dest=ORD tailnum=N14228 "
        "--field distance=719",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="the registered model's name")
    parser.add_argument(
        "--entity", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help="an entity key"
    )
    parser.add_argument(
        "--field", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help="a request-time field"
    )
    parser.add_argument(
        "--request-id", help="name of this request (feedback refers to it); default: a new one"
    )
    parser.add_argument(
        "--at", metavar="TIME", help="event time to predict at, ISO 8601 (platforms on historical data only)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json

    from windlass import settings
    from windlass.local import ask

    answer = ask.predict(
        settings.load(),
        arguments.model,
        ask.pairs(arguments.entity, "--entity"),
        ask.pairs(arguments.field, "--field"),
        request_id=arguments.request_id,
        at=arguments.at,
    )
    if arguments.json:
        print(json.dumps(answer))
    else:
        print(
            f"{answer['model']} version {answer['version']}: {answer['prediction']:.4f} "
            f"(features: {answer['feature_source']}, request {answer['request_id']}, {answer['latency_ms']:.1f} ms)"
        )
    return 0
