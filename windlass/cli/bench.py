"""`windlass bench`: run one of the project's benchmarks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from windlass.errors import UsageError


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "bench",
        help="run a benchmark of the project",
        description="Runs the package `benchmarks/NAME` of the project; what stands behind NAME is for it.",
        epilog="example: windlass bench serving --only rest --json\n"
        "Every benchmark takes --json (one object) and --out DIR (the same, and plots);\n"
        "`windlass bench NAME --help` shows the rest. A missed target is a result: the command still exits with 0.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="name of the benchmark")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("options", nargs=argparse.REMAINDER, metavar="...", help="options of the benchmark")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    import subprocess
    import sys

    from windlass import settings

    project = settings.load().project
    check(arguments.name, project)
    options = [*(["--json"] if arguments.json else []), *arguments.options]
    command = [sys.executable, "-m", f"benchmarks.{arguments.name}", *options]
    with subprocess.Popen(command, cwd=project) as child:
        try:
            return child.wait()
        except KeyboardInterrupt:
            child.wait()  # it was interrupted as well, and ends the servers that it started
            raise


def check(name: str, project: Path) -> None:
    """Hold a name to the benchmarks that there are.

    Raises:
        UsageError: there is none of that name.
    """
    folder = project / "benchmarks"
    known = sorted(path.parent.name for path in folder.glob("*/__main__.py"))
    if name not in known:
        raise UsageError(
            f"unknown benchmark {name!r}; in {folder} there are: {', '.join(known) or 'none'}; "
            "WINDLASS_PROJECT names another project folder"
        )
