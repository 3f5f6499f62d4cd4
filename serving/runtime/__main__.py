"""`python -m serving.runtime`: serve bundles."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from serving.runtime import app, loading
from serving.runtime.options import Options
from windlass.errors import UsageError, WindlassError

DEFAULTS = Options(port=0)
MOST_WORKERS = 64


def parse(argv: Sequence[str] | None = None) -> tuple[list[Path], Options]:
    """Read the command line: the bundles' folders and how to serve them.

    Raises:
        UsageError: neither a bundle nor a repository is named.
    """
    parser = argparse.ArgumentParser(
        prog="python -m serving.runtime", description="Serve models over KServe's protocols."
    )
    add = parser.add_argument
    add(
        "--bundle",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder with serving.json; repeatable",
    )
    add("--port", type=int, required=True, help="port to listen on; 0 takes a free one")
    add("--host", default="127.0.0.1")
    add("--grpc-port", type=int, metavar="PORT", help="port for the same over gRPC; 0 takes a free one")
    add(
        "--log",
        metavar="SINK",
        help="where predictions are kept: FILE, parquet:DIR or http://… (CloudEvents)",
    )
    add("--online", metavar="STORE", help="sqlite:PATH or redis://HOST:PORT/DB, where a model reads features")
    add("--workers", type=int, default=1, metavar="N", help="processes on this port (default 1)")
    add(
        "--verify-key",
        type=Path,
        metavar="FILE",
        help="public key that the bundles' signatures are checked with",
    )
    add("--require-signature", action="store_true", help="refuse a bundle without a signature")
    add("--allow-pickle", action="store_true", help="load bundles that declare a pickle (signed ones alone)")
    add("--repository", type=Path, metavar="DIR", help="load DIR/MODEL/VERSION while serving; needs a token")
    add(
        "--deadline-ms",
        type=float,
        default=DEFAULTS.deadline_s * 1e3,
        help="time for a request that states none (default %(default)g)",
    )
    add(
        "--store-budget-ms",
        type=float,
        default=DEFAULTS.store_budget_s * 1e3,
        help="time for a read of the online store (default %(default)g)",
    )
    add(
        "--queue-ms",
        type=float,
        default=DEFAULTS.queue_s * 1e3,
        help="shed what would wait longer than this (default %(default)g)",
    )
    add("--replay-clock", action="store_true", help='take the header x-windlass-at for "now"')
    add(
        "--as-of",
        type=float,
        metavar="SECONDS",
        help='"now" of requests that state none, since the epoch (default: the clock)',
    )
    arguments = parser.parse_args(argv)
    if not arguments.bundle and arguments.repository is None:
        raise UsageError("nothing to serve; give --bundle DIR, or --repository DIR to load from later")
    if not 1 <= arguments.workers <= MOST_WORKERS:
        raise UsageError(f"--workers is {arguments.workers}; give 1 to {MOST_WORKERS}")
    for name in ("deadline_ms", "store_budget_ms", "queue_ms"):
        if not 0 < getattr(arguments, name) < 1e7:
            raise UsageError(
                f"--{name.replace('_', '-')} is {getattr(arguments, name)}; give milliseconds above 0"
            )
    options = Options(
        port=arguments.port,
        log=arguments.log,
        online=arguments.online,
        host=arguments.host,
        grpc_port=arguments.grpc_port,
        repository=arguments.repository,
        # not an argument: a process list shows those to everybody
        token=os.environ.get("WINDLASS_REPOSITORY_TOKEN") or None,
        verify_key=arguments.verify_key,
        require_signature=arguments.require_signature,
        allow_pickle=arguments.allow_pickle,
        replay_clock=arguments.replay_clock,
        as_of=arguments.as_of,
        workers=arguments.workers,
        deadline_s=arguments.deadline_ms / 1e3,
        store_budget_s=arguments.store_budget_ms / 1e3,
        queue_s=arguments.queue_ms / 1e3,
    )
    return arguments.bundle, options


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; the exit code is that of the command line."""
    # read when an OpenMP library is loaded: its threads spin while they wait, on cores that answer requests
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        folders, options = parse(argv)
        bundles = [loading.verified(folder, options) for folder in folders]
        if options.workers > 1:
            from serving.runtime import workers

            return workers.serve(bundles, options)
        app.serve(bundles, options)
    except WindlassError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # everything is written and closed; a model's thread that does not come back must not keep the process
    os._exit(code)
