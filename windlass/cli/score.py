"""`windlass score`: predictions for the rows of a parquet file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "score",
        help="score a parquet file by a model server",
        description="Sends the rows to a model server in batches and writes them with their predictions.",
        epilog="example: windlass score flights --from today.parquet --to scored.parquet --url http://localhost:8080\n"
        "As a Job on Kubernetes, with a model server of its own: manifests/samples/kserve/batch.yaml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="name of the model, as the server knows it")
    parser.add_argument(
        "--from", dest="source", type=Path, required=True, metavar="FILE", help="parquet file"
    )
    parser.add_argument(
        "--to", dest="target", type=Path, required=True, metavar="FILE", help="where the result goes"
    )
    parser.add_argument("--url", required=True, help="the model server, http://HOST:PORT")
    parser.add_argument("--batch", type=int, default=1000, metavar="N", help="rows a request (default 1000)")
    parser.add_argument(
        "--patience", type=float, default=120.0, metavar="SECONDS",
        help="how long a server that does not answer is asked again (default 120)",
    )  # fmt: skip
    parser.add_argument(
        "--any-answer",
        action="store_true",
        help="take the fallback's and constant answers too, marked as such",
    )
    parser.add_argument(
        "--allow-defaults",
        action="store_true",
        help="take answers with the training defaults of features too, where the server's online store does not answer",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json

    from components import scoring

    done = scoring.score(
        arguments.source,
        arguments.target,
        arguments.url,
        arguments.model,
        batch=arguments.batch,
        patience_s=arguments.patience,
        any_answer=arguments.any_answer,
        allow_defaults=arguments.allow_defaults,
    )
    if arguments.json:
        told = {
            "rows": done.rows,
            "requests": done.requests,
            "versions": done.versions,
            "path": str(done.path),
        }
        print(json.dumps(told))
    else:
        print(f"{done.path}: {done.rows:,} rows scored by version {', '.join(done.versions)}")
    return 0
