"""Serving the trigger until SIGTERM: HTTP on one side, turns in a thread on the other."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal

from monitoring.collector.connection import Connections, listen
from monitoring.retrain.service.app import App, Token
from monitoring.retrain.service.core import Service
from windlass.errors import UsageError

TURN_S = 1.0
DRAIN_SECONDS = 5.0


def require_safe(host: str, token: Token | None) -> None:
    """Refuse to take signals from everybody on an address that others reach.

    Raises:
        UsageError: there is no token and `host` is no loopback address.
    """
    if token is not None:
        return
    with contextlib.suppress(ValueError):  # a name is no address, and is not taken for loopback
        if ipaddress.ip_address(host).is_loopback:
            return
    raise UsageError(
        f"--insecure-no-auth with --host {host}: whoever reaches it could start retrainings; "
        "give --token-file, or a loopback address"
    )


async def serve(
    service: Service,
    token: Token | None,
    host: str,
    port: int,
    *,
    namespace: str | None = None,
    turn_s: float = TURN_S,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        namespace: see `App`.

    Raises:
        UsageError: no token on an address that others reach, or no such address.
        PortInUseError: somebody else listens there.
    """
    require_safe(host, token)
    loop = asyncio.get_running_loop()
    stop, wake, recovered = asyncio.Event(), asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    app = App(service, token, wake.set, recovered.is_set, namespace)
    count = app.metrics.count
    connections = Connections(refused=lambda: count("invalid"), crowded=lambda: count("full"))
    try:
        server = await listen(app, connections, host, port)
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"--host {host} --port {port} cannot be listened on: {error}; name an address of this machine and a port "
            "below 65536"
        ) from error
    turns = loop.create_task(_turns(service, wake, stop, recovered, turn_s))
    await stop.wait()
    server.close()
    await connections.drain(DRAIN_SECONDS)
    wake.set()
    await turns


async def _turns(
    service: Service, wake: asyncio.Event, stop: asyncio.Event, recovered: asyncio.Event, turn_s: float
) -> None:
    """Turn once a second, and at once after something was journaled."""
    while not stop.is_set():
        wake.clear()
        await asyncio.to_thread(service.turn)
        recovered.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wake.wait(), turn_s)
