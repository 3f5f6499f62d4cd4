"""`python -m serving.runtime`: serve one bundle."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from serving.runtime import app, bundle
from windlass.errors import WindlassError


def parse(argv: Sequence[str] | None = None) -> tuple[Path, app.Options]:
    """Read the command line: the bundle's folder and how to serve it."""
    parser = argparse.ArgumentParser(prog="python -m serving.runtime", description="Serve one model version.")
    parser.add_argument("--bundle", type=Path, required=True, metavar="DIR", help="folder with serving.json")
    parser.add_argument("--port", type=int, required=True, help="port to listen on; 0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--log", type=Path, required=True, metavar="FILE", help="prediction log to append to")
    parser.add_argument(
        "--online", required=True, metavar="STORE", help="sqlite:PATH or redis://HOST:PORT/DB"
    )
    parser.add_argument("--replay-clock", action="store_true", help='take the header x-windlass-at for "now"')
    parser.add_argument(
        "--as-of",
        type=float,
        metavar="SECONDS",
        help="with --replay-clock: the time of requests that state none",
    )
    parser.add_argument("--workers", type=int, choices=(1,), default=1, help="processes on this port")
    arguments = parser.parse_args(argv)
    options = app.Options(
        port=arguments.port,
        log=arguments.log,
        online=arguments.online,
        host=arguments.host,
        replay_clock=arguments.replay_clock,
        as_of=arguments.as_of,
    )
    return arguments.bundle, options


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; the exit code is that of the command line."""
    folder, options = parse(argv)
    try:
        app.serve(bundle.load(folder), options)
    except WindlassError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
