"""`windlass pipeline`: the compiled training pipeline."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("pipeline", help="compile the training pipeline for Kubeflow Pipelines")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    compile_ = actions.add_parser(
        "compile",
        help="write the pipeline's IR YAML",
        description="Writes what Kubeflow Pipelines runs; the same source gives the same bytes.",
        epilog="example: windlass pipeline compile --check",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compile_.add_argument("--check", action="store_true", help="compare with the kept file and write nothing")
    compile_.add_argument(
        "--out", type=Path, metavar="FILE", help="default: the kept file under pipelines/compiled/"
    )
    compile_.add_argument(
        "--image",
        metavar="NAME:VERSION",
        help="image of the steps (default: windlass/training of this version)",
    )
    compile_.add_argument("--json", action="store_true", help="print one JSON object")
    compile_.set_defaults(handler=handle_compile)


def handle_compile(arguments: argparse.Namespace) -> int:
    import json

    from pipelines import compile as compiling
    from windlass.errors import UsageError

    path = arguments.out or compiling.COMPILED / compiling.FILE
    if arguments.check and arguments.image:
        raise UsageError(
            "--check compares with the kept file, which names the default image; leave out --image"
        )
    if arguments.check:
        compiling.check(path)
    else:
        compiling.write(path, arguments.image)
    state = "up to date" if arguments.check else "written"
    print(json.dumps({"path": str(path), "state": state}) if arguments.json else f"{path}: {state}")
    return 0
