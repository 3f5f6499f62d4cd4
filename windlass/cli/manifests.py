"""`windlass manifests`: write the YAML that is generated, or look whether what is there is what would be."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "manifests",
        help="write the generated Kubernetes manifests",
        description="Write the Kubernetes manifests that are generated: the custom resource definitions.",
        epilog="example: windlass manifests --out manifests\n         windlass manifests --check",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, default=Path("manifests"), metavar="FOLDER", help="where to (default: manifests)"
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail where a file is not what would be written"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=_manifests)


def _manifests(arguments: argparse.Namespace) -> int:
    from windlass import atomic
    from windlass.crds import files

    stale = {
        arguments.out / name: text
        for name, text in files.rendered().items()
        if not _holds(arguments.out / name, text)
    }
    if not arguments.check:
        for path, text in stale.items():
            atomic.write_text(path, text)
    _tell(arguments, list(stale))
    return 1 if arguments.check and stale else 0


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text() == text
    except (FileNotFoundError, UnicodeDecodeError):
        return False


def _tell(arguments: argparse.Namespace, paths: list[Path]) -> None:
    if arguments.json:
        print(json.dumps({"out": str(arguments.out), "changed": [str(path) for path in paths]}))
        return
    for path in paths:
        print(f"{path} is not what is generated" if arguments.check else f"{path} is written")
    if not paths:
        print(f"{arguments.out}: everything is as it is generated")
    elif arguments.check:
        print(f"write it with `windlass manifests --out {arguments.out}`")
