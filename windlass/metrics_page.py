"""Serving metrics to Prometheus from a thread: the one way for every process that has no HTTP server of its own."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, start_http_server

from windlass.errors import WindlassError


def serve(registry: CollectorRegistry, port: int, address: str = "127.0.0.1") -> Callable[[], None]:
    """Serve the metrics of a registry at `http://address:port/metrics`; the result ends it.

    Raises:
        WindlassError: the port is taken, or none.
    """
    try:
        server, thread = start_http_server(port, address, registry)
    except (OSError, OverflowError) as error:
        raise WindlassError(
            f"metrics cannot be served on {address}:{port} ({error}); choose another port"
        ) from error

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
