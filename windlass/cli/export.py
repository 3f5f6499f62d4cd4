"""`windlass export`: a serving bundle of any model of the registry."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "export",
        help="write a model's serving bundle, in its fastest faithful form",
        description="Exports an MLflow model (scikit-learn, XGBoost, LightGBM, Keras, ONNX, or any pyfunc) to all "
        "forms that apply, holds each to the library's own prediction on real rows, measures it, and writes a "
        "bundle that `python -m serving.runtime --bundle DIR` serves.",
        epilog="example: windlass export models:/flights@champion --out bundles/flights --rows rows.parquet",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model",
        metavar="MODEL_URI",
        help="models:/name/version, models:/name@alias, runs:/…, or the folder of an MLflow model",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the bundle's folder; must not exist"
    )
    parser.add_argument(
        "--rows",
        type=Path,
        metavar="FILE",
        help="real rows to judge parity on: .csv, .parquet or .npy (default: the model's logged input example)",
    )
    parser.add_argument("--int8", action="store_true", help="try an 8-bit form of a dense network too")
    parser.add_argument(
        "--method",
        choices=("predict_proba", "predict"),
        help="what a classifier answers with (default: its probabilities where it has them)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import json
    import os
    from dataclasses import asdict

    # read when the OpenMP runtime is loaded: forms are timed on the one thread that a server gives them
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from components.export import command
    from windlass import settings

    report = command.run(
        settings.load(),
        arguments.model,
        arguments.out,
        rows=arguments.rows,
        int8=arguments.int8,
        method=arguments.method,
    )
    found = json.loads(json.dumps(asdict(report)))
    print(
        json.dumps({**found, "bundle": str(arguments.out)})
        if arguments.json
        else _table(found, arguments.out)
    )
    return 0


def _table(report: dict[str, Any], out: Path) -> str:
    made = f" and {report['made_rows']} made of them" if report["made_rows"] else ""
    lines = [
        f"{report['model']} version {report['version']}, judged on {report['rows']} rows{made}",
        f"{'form':<10} {'file':<18} {'precision':<9} {'KB':>9} {'us a row':>9} {'difference':>10} {'bound':>8}",
    ]
    for tried in report["forms"]:
        form, head = tried["form"], f"{tried['format']:<10} {tried['file']:<18} {tried['precision']:<9}"
        if form is None:
            lines.append(f"{head} {tried['reason']}")
            continue
        parity = form["parity"]
        mark = "  picked" if tried["picked"] else "" if parity["holds"] else "  not faithful, left out"
        lines.append(
            f"{head} {form['size_bytes'] / 1024:>9.1f} {form['single_row_us']:>9.1f} "
            f"{parity['max_difference']:>10.1e} {parity['bound']:>8.0e}{mark}"
        )
    lines += [f"note: {w}" for w in report["warnings"]]
    return "\n".join([*lines, f"the bundle is in {out}"])
