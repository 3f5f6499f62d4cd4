"""`windlass up`: serve the champion on this machine."""

from __future__ import annotations

import argparse
from typing import Any


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "up",
        help="serve the champion behind Envoy",
        description="Starts the champion's model server, Envoy, the feedback endpoint and the report page, carries out "
        "releases, and stays in the foreground.",
        epilog="example: windlass up --detach --json\n"
        "What answers predictions outlives this process: where it is killed, predictions go on, and the next\n"
        "`windlass up` takes over. Ctrl-C, SIGTERM and `windlass down` end everything.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", nargs="?", help="the workload to serve (default: the one that has a champion)"
    )
    parser.add_argument(
        "--detach", action="store_true", help="return once it serves; `windlass down` ends it"
    )
    parser.add_argument("--port", type=int, help="where Envoy listens (default: a free port, or as before)")
    parser.add_argument(
        "--json", action="store_true", help="print predict_url, feedback_url, report_url and pids as JSON"
    )
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    from windlass import settings
    from windlass.errors import UsageError
    from windlass.local import up

    if arguments.port is not None and not 0 < arguments.port < 65536:
        raise UsageError(f"--port {arguments.port} is not a port; use a number from 1 to 65535")
    start = up.detach if arguments.detach else up.foreground
    return start(settings.load(), arguments.model, port=arguments.port, as_json=arguments.json)
