"""`windlass train`: the training pipeline on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train, judge and register a model",
        description="Validates the data, joins the features point in time, tunes, trains, judges the candidate against "
        "its gates and the champion, and registers it.",
        epilog="example: windlass train flights --from 2013-01-01 --to 2013-03-31\n"
        "A bare --to date includes that day. A candidate that fails a gate is registered as rejected and the command\n"
        "still exits with 0 (see `passed`): the run did what it is for. 1 means that the run failed, 2 bad input.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workload", help="name of the workload")
    parser.add_argument(
        "--from", dest="start", required=True, metavar="DATE", help="first day (or time) of the data, UTC"
    )
    parser.add_argument(
        "--to", dest="end", required=True, metavar="DATE", help="last day (or end time) of the data, UTC"
    )
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="a file to read instead of the workload's own source"
    )
    parser.add_argument(
        "--trials", type=int, metavar="N", help="models to try (default: 6, at least one a family)"
    )
    parser.add_argument(
        "--run-id", metavar="ID", help="name of the run; a finished run of that name is not run again"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON and nothing else on stdout"
    )
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json

    from pipelines import local
    from windlass import settings

    request = local.Request(
        arguments.workload, arguments.start, arguments.end, arguments.data, arguments.trials, arguments.run_id
    )
    result = local.train(settings.load(), request)
    print(json.dumps(result) if arguments.json else _summary(result))
    return 0


def _summary(result: dict[str, Any]) -> str:
    metrics = result["metrics"]
    low, high = metrics["auc_interval"]
    lines = [
        f"{result['model']} version {result['version']}: {result['state']}, trained {result['trained_from'][:10]} to "
        f"{result['trained_to'][:10]}",
        f"AUC {metrics['auc']:.4f} [{low:.4f}, {high:.4f}], Brier {metrics['brier']:.4f}, log loss "
        f"{metrics['log_loss']:.4f}, calibration error {metrics['calibration_error']:.4f}",
    ]
    for check in result["gates"]:
        value = "-" if check["value"] is None else f"{check['value']:.4f}"
        bound = "-" if check["bound"] is None else f"{check['bound']:.4f}"
        lines.append(
            f"  {'ok  ' if check['passed'] else 'FAIL'} {check['check']:<28} {value:>9}  bound {bound:>8}"
        )
    if result["reused"]:
        lines.append("unchanged and reused: " + ", ".join(result["reused"]))
    if result["release"]:
        lines.append(f"release it: windlass release apply {result['release']}")
    lines.append(f"run {result['run_id']}, {result['seconds']:.1f} s")
    return "\n".join(lines)
