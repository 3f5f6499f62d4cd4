"""The server: its parts put together, started, and drained at the end.

`serve` is what `python -m serving.runtime` calls; another process may call it with a reader or a protocol of
its own around the real ones (a fault under test, a delay); everything else stays what it is in production:

    real = open_reader(options.online, bundle)
    serve(bundle, options, reader=Faulty(real), protocol_factory=Delayed)   # class Delayed(HttpProtocol)
"""

from __future__ import annotations

import asyncio
import errno
import gc
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from serving.runtime import loading
from serving.runtime.bundle import Bundle
from serving.runtime.features.reader import FeatureReader
from serving.runtime.loading import Opened
from serving.runtime.metrics import Metrics
from serving.runtime.options import Options
from serving.runtime.refusal import Refusal
from serving.runtime.repository import Loaded, Repository
from serving.runtime.routes import Routes
from serving.runtime.transport.http import HttpProtocol
from serving.runtime.transport.message import Exchange, Response
from windlass.errors import PortInUseError, WindlassError

if TYPE_CHECKING:
    from serving.runtime.transport.grpc_server import GrpcServer

BACKLOG = 1024

__all__ = ["Options", "Server", "serve"]


class Server:
    """The models of one process on one port; the `Application` of its connections."""

    def __init__(
        self,
        bundles: Sequence[Bundle],
        options: Options,
        loop: asyncio.AbstractEventLoop,
        *,
        reader: FeatureReader | None = None,
        protocol_factory: Callable[[Server], HttpProtocol] | None = None,
        shared: Path | None = None,
        opened: Opened | None = None,
    ) -> None:
        self.most_body_bytes = options.most_body_bytes
        self.request_timeout_s = options.request_timeout_s
        self.idle_timeout_s = options.idle_timeout_s
        self.draining = False
        self._options = options
        self._loop = loop
        self._protocol_factory = protocol_factory or HttpProtocol
        self._connections: set[HttpProtocol] = set()
        self._held_bytes = 0
        self._stopping = asyncio.Event()
        self._grpc: GrpcServer | None = None
        self.metrics = Metrics(shared)
        self.repository = Repository(options.repository, self._load, self._changed)
        self._routes = Routes(self.repository, self.metrics, options, loop, ready=lambda: not self.draining)
        self._routes.rebuild()
        for bundle in bundles:
            engines = (opened or {}).get((bundle.model, bundle.version))
            self.repository.add(loading.loaded(bundle, options, loop, self.metrics, reader, engines))

    def _load(self, folder: Path) -> Loaded:
        bundle = loading.verified(folder, self._options)
        return loading.loaded(bundle, self._options, self._loop, self.metrics)

    def _changed(self) -> None:
        self._routes.rebuild()

    # ---- what connections ask

    def handle(self, exchange: Exchange) -> None:
        """See `http.Application.handle`."""
        self._routes.handle(exchange)

    def refuse(self, problem: Refusal) -> Response:
        """See `http.Application.refuse`."""
        return self._routes.refused(problem)

    def holds(self, more: int) -> bool:
        """See `http.Application.holds`."""
        if more > 0 and self._held_bytes + more > self._options.most_held_bytes:
            return False
        self._held_bytes += more
        return True

    def opened(self, connection: HttpProtocol) -> None:
        self._connections.add(connection)
        self.metrics.connections += 1

    def closed(self, connection: HttpProtocol) -> None:
        self._connections.discard(connection)
        self.metrics.connections -= 1

    # ---- its life

    async def run(self, listener: socket.socket) -> None:
        """Serve until a signal to stop; returns once every request received was answered."""
        loop = self._loop
        for loaded in self.repository:
            await loaded.served.ladder.warm()
        make = self._protocol_factory
        server = await loop.create_server(lambda: make(self), sock=listener, backlog=BACKLOG)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        host, port = listener.getsockname()[:2]
        # what was loaded stays: no collection needs to look at it again; and requests leave no cycles behind,
        # so that looking for them now and then is enough
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        names = ", ".join(loaded.served.name for loaded in self.repository) or "no model yet"
        if self._options.grpc_port is not None:
            # before the line that callers wait for: then both ports answer
            sys.stderr.write(f"serving {names} on grpc://{host}:{await self._start_grpc()}\n")
        sys.stderr.write(f"serving {names} on http://{host}:{port}\n")
        sys.stderr.flush()
        clock = loop.create_task(self._watch_time())
        await self._stopping.wait()
        clock.cancel()
        await self._drain(server)

    async def _start_grpc(self) -> int:
        # grpc costs a quarter of a second and twenty megabytes: only where it is asked for
        from serving.runtime.transport.grpc_server import GrpcServer

        self._grpc = GrpcServer(
            self.repository,
            self.metrics,
            self._options,
            self._loop,
            lambda: not self.draining,
            self._routes.trace,
        )
        return await self._grpc.start()

    def close(self) -> None:
        """Write what the logs still hold, and let go of everything."""
        self.repository.close()

    async def _watch_time(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            for connection in list(self._connections):
                connection.check_time(now)
            try:
                self.metrics.leave(self.repository)
            except OSError as problem:  # the other workers' pages miss a second; the clock must go on
                sys.stderr.write(f"counts for the other workers: {problem.strerror}\n")

    async def _drain(self, server: asyncio.Server) -> None:
        # readiness turns at once; a caller that has not looked yet is still answered, and told to leave
        self.draining = True
        await asyncio.sleep(self._options.drain_linger_s)
        server.close()
        stopping = None
        if self._grpc is not None:
            stopping = self._loop.create_task(self._grpc.stop(self._options.drain_timeout_s))
        deadline = time.monotonic() + self._options.drain_timeout_s
        while self._connections and time.monotonic() < deadline:
            for connection in list(self._connections):
                connection.drain()
            await asyncio.sleep(0.01)
        if self._connections:
            patience = self._options.drain_timeout_s
            sys.stderr.write(f"{len(self._connections)} connections were cut after {patience:.0f} s\n")
            for connection in list(self._connections):
                connection.transport.abort()
        if stopping is not None:
            await stopping


def serve(
    bundles: Bundle | Sequence[Bundle],
    options: Options,
    *,
    reader: FeatureReader | None = None,
    protocol_factory: Callable[[Server], HttpProtocol] | None = None,
    listener: socket.socket | None = None,
    shared: Path | None = None,
    opened: Opened | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return.

    Args:
        reader: instead of the one for `options.online`.
        protocol_factory: instead of `HttpProtocol`; called with the server for each connection.
        listener: a bound socket; None binds one.
        shared: folder in which the workers of one server leave their counts.
        opened: engines of bundles that are open already.

    Raises:
        UsageError: a bundle cannot be served.
        PortInUseError: the port is taken.
    """
    several = [bundles] if isinstance(bundles, Bundle) else bundles

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = Server(
            several,
            options,
            loop,
            reader=reader,
            protocol_factory=protocol_factory,
            shared=shared,
            opened=opened,
        )
        try:
            await server.run(listener or bind(options.host, options.port))
        finally:
            server.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    # whoever asks twice must not turn an orderly end into a killed process
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Bind a socket.

    Args:
        shared: whether other processes of ours may bind the same port.

    Raises:
        PortInUseError: the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            # a server that was killed a moment ago leaves its port in TIME_WAIT
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            raise PortInUseError(
                f"port {port} of {host} is in use; stop what listens or give another --port"
            ) from problem
        raise WindlassError(f"cannot listen on {host}:{port}: {problem.strerror}; give another") from problem
    return listener
