"""`windlass new`: the start of a workload from a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "new",
        help="write the start of a workload from a CSV or parquet file",
        description="Looks at the file and writes workloads/NAME and feature_repo/NAME.py: a workload that trains and "
        "serves as it is, with rolling features for each entity, and is yours to change.",
        epilog="example: windlass new churn --data visits.csv --label churned --time visited_at --entity customer_id",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help="the workload's and the model's name: small letters, digits and _")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FILE", help="CSV (UTF-8, header) or .parquet"
    )
    parser.add_argument(
        "--label", required=True, metavar="COL", help="the outcome to predict: 0 or 1, or see --positive"
    )
    parser.add_argument(
        "--time", required=True, metavar="COL", help="when a prediction is asked for, ISO 8601"
    )
    parser.add_argument(
        "--entity",
        action="extend",
        nargs="+",
        required=True,
        metavar="COL",
        help="what predictions are about",
    )
    parser.add_argument(
        "--label-delay",
        default="1d",
        metavar="TIME",
        help="so long after its event an outcome is known (default: 1d)",
    )
    parser.add_argument("--positive", metavar="VALUE", help="the label's value that means 1")
    parser.add_argument(
        "--ignore",
        action="extend",
        nargs="+",
        default=[],
        metavar="COL",
        help="columns not known when predicting",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json
    import sys

    from windlass import settings
    from windlass.scaffold.create import create
    from windlass.scaffold.request import Request, duration

    request = Request(
        name=arguments.name,
        data=arguments.data,
        label=arguments.label,
        time=arguments.time,
        entities=tuple(arguments.entity),
        label_delay=duration(arguments.label_delay),
        positive=arguments.positive,
        ignore=tuple(arguments.ignore),
    )
    created = create(settings.load(), request)
    found = created.profile
    for field, auc in found.suspicious.items():
        print(
            f"windlass: warning: {field} alone orders the outcomes with AUC {auc:.3f}: is it known when predicting? "
            f"Else: --ignore {field}",
            file=sys.stderr,
        )
    if arguments.json:
        document = {
            "workload": request.name,
            "files": [str(path) for path in created.files],
            "rows": found.rows,
            "from": found.first.isoformat(),
            "to": found.last.isoformat(),
            "entities": list(created.workload.entities),
            "request_fields": [f.name for f in created.workload.request_fields],
            "features": {view.name: list(view.features) for view in created.workload.views},
            "left_out": found.left_out,
            "suspicious": found.suspicious,
        }
        print(json.dumps(document))
        return 0
    for path in created.files:
        print(f"wrote {path}")
    fields = ", ".join(f.name for f in created.workload.request_fields) or "none"
    print(f"request fields: {fields} (take out what is known only after the prediction)")
    for column, reason in found.left_out.items():
        print(f"left out: {column} ({reason})")
    print(f"next: windlass train {request.name} --from {found.first:%Y-%m-%d} --to {found.last:%Y-%m-%d}")
    return 0
