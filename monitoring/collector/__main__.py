"""`python -m monitoring.collector --port N --home DIR`: serve until SIGTERM, then finish what was begun."""

from __future__ import annotations

import argparse
import asyncio
import errno
import signal
import sys
from dataclasses import replace
from pathlib import Path

import uvloop

from monitoring import labels
from monitoring.collector.app import App
from monitoring.collector.feedback_log import FeedbackLog
from monitoring.collector.http import Connection, Connections
from windlass import settings, telemetry
from windlass.errors import PortInUseError, WindlassError

DRAIN_SECONDS = 5.0


async def serve(configured: settings.Settings, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        PortInUseError: somebody else listens there.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log = FeedbackLog(labels.path(configured))
    app, connections = App(configured, log), Connections()
    try:
        server = await loop.create_server(lambda: Connection(app, connections), host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(f"port {port} on {host} is taken; name another with --port") from error
        raise
    await stop.wait()
    server.close()
    await connections.drain(DRAIN_SECONDS)
    log.close()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m monitoring.collector", description="Takes feedback, shows the report."
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--home", type=Path, help="root of the local state; default: WINDLASS_HOME")
    arguments = parser.parse_args(argv)
    telemetry.switch_off()
    try:
        configured = settings.load()
        if arguments.home is not None:
            configured = replace(configured, home=arguments.home.resolve())
        uvloop.run(serve(configured, arguments.host, arguments.port))
    except WindlassError as error:
        sys.stderr.write(f"windlass collector: error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
