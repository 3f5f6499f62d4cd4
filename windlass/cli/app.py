"""The `windlass` command: one argument tree put together from the group modules, and one mapping of errors.

A group module `windlass/cli/<group>.py` defines `register(subparsers)`, which states its arguments and sets
`handler=<function>` as a default of its parser; the function takes the parsed arguments and returns an exit code.
Nothing heavy may be imported before a handler runs: `windlass --help` answers in a fraction of a second, and a
test looks at `sys.modules`.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import json
import os
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from windlass import __version__, settings, telemetry
from windlass.errors import UsageError, WindlassError

# In the order of `windlass --help`: see it, run it, train, release, watch, look after it.
GROUPS = (
    "demo",
    "up",
    "down",
    "status",
    "predict",
    "score",
    "train",
    "pipeline",
    "export",
    "fetch",
    "features",
    "data",
    "release",
    "sim",
    "feedback",
    "drift",
    "retrain",
    "lineage",
    "report",
    "drill",
    "doctor",
    "backup",
    "restore",
    "bench",
    "render",
    "manifests",
    "new",
)

INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
BROKEN_PIPE = 141  # 128 + SIGPIPE


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints take the same way out as every other error."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; `{self.prog} --help` shows what it takes")


def run(argv: Sequence[str], *, parser: argparse.ArgumentParser | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 cannot be meant, 130 interrupted."""
    telemetry.switch_off()
    arguments = list(argv)
    as_json = "--json" in arguments
    try:
        try:
            namespace = (parser or build_parser()).parse_args(arguments)
            code = int(namespace.handler(namespace) or 0)
            sys.stdout.flush()
        except SystemExit as stop:  # argparse ends `--help` and `--version` this way
            return int(stop.code or 0)
    except WindlassError as error:
        return _report(error, as_json, error.exit_code)
    except KeyboardInterrupt:
        print("windlass: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # the reader of our output went away (`windlass … | head`); without this Python complains again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        return _report(_explained(error, arguments), as_json, WindlassError.exit_code)
    return code


def build_parser() -> argparse.ArgumentParser:
    """Put the tree together from the group modules."""
    parser = Parser(
        prog="windlass",
        description="Turns the loop of a live model: features, training, gates, careful release, monitoring, "
        "retraining.",
        epilog="example: windlass demo --fast --out demo-out\n"
        "Exit codes: 0 done, 1 failed, 2 the request cannot be meant, 130 interrupted.\n"
        "State lies under WINDLASS_HOME (default: .windlass); `windlass doctor` says what is wrong and how to fix it.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"windlass {__version__}")
    subparsers = parser.add_subparsers(
        metavar="COMMAND", title="commands", parser_class=Parser, required=True
    )
    for group in GROUPS:
        importlib.import_module(f"windlass.cli.{group}").register(subparsers)
    return parser


def _report(error: WindlassError, as_json: bool, code: int) -> int:
    print(f"windlass: error: {error}", file=sys.stderr)
    if as_json:
        kind = type(error).__name__
        print(json.dumps({"error": {"type": kind, "message": str(error), "exit_code": code}}))
    return code


def _explained(error: Exception, arguments: Sequence[str]) -> WindlassError:
    """Turn an exception that nobody foresaw into one line that says where the rest is."""
    if _is_disk_full(error):
        return WindlassError(
            f"no space left on the device ({error}); free some space and run the command again, "
            "what was there before is unharmed"
        )
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    text = "".join(traceback.format_exception(error))
    try:
        path = _keep(text, arguments)
    except (OSError, WindlassError):
        print(text, file=sys.stderr)
        return WindlassError(f"{what}; the traceback is above; `windlass doctor` looks for a cause")
    return WindlassError(f"{what}; the traceback is in {path}; `windlass doctor` looks for a cause")


def _is_disk_full(error: BaseException | None) -> bool:
    # sqlite and duckdb have texts of their own; a pipeline wraps the cause
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(text in str(error) for text in ("No space left on device", "database or disk is full")):
            return True
        error = error.__cause__ or error.__context__
    return False


def _keep(text: str, arguments: Sequence[str]) -> Path:
    folder = settings.load().logs_dir
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"error-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.txt"
    path.write_text(f"windlass {' '.join(arguments)}\nwindlass {__version__}, Python {sys.version}\n\n{text}")
    return path
