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
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop

from serving.runtime.bundle import Bundle
from serving.runtime.engines.onnx import Model
from serving.runtime.features.ladder import Ladder
from serving.runtime.features.reader import FeatureReader, open_reader
from serving.runtime.metrics import Metrics
from serving.runtime.payload.lines import PredictionLog
from serving.runtime.predictor import Predictor
from serving.runtime.refusal import Refusal
from serving.runtime.routes import Answer, Routes
from serving.runtime.signature import Signature
from serving.runtime.transport.http import HttpProtocol
from serving.runtime.transport.message import Request, Response, error
from windlass.errors import PortInUseError, WindlassError

BACKLOG = 1024
TRACES_APART_S = 1.0


@dataclass(frozen=True)
class Options:
    """How to serve a bundle.

    Attributes:
        port: 0 takes a free one; the line on stderr names it.
        log: file that the prediction log is appended to.
        online: `sqlite:PATH` or `redis://…`.
        replay_clock: whether the header x-windlass-at is "now".
        as_of: "now" of requests that state none, for a store of historical data; None takes the clock.
        drain_linger_s: how long a stopping server still accepts, for callers that have not seen it go.
        drain_timeout_s: how long it then waits for the requests in flight.
        idle_timeout_s: longer than a proxy keeps its idle connections (Envoy: an hour), so that it is the
            proxy who closes them and never a request that finds one closed.
    """

    port: int
    log: Path
    online: str
    host: str = "127.0.0.1"
    replay_clock: bool = False
    as_of: float | None = None
    most_body_bytes: int = 4 * 1024 * 1024
    most_rows: int = 4096
    request_timeout_s: float = 30.0
    idle_timeout_s: float = 3900.0
    drain_linger_s: float = 0.2
    drain_timeout_s: float = 10.0


class Server:
    """One model on one port; the `Application` of its connections."""

    def __init__(
        self,
        bundle: Bundle,
        options: Options,
        *,
        reader: FeatureReader | None = None,
        protocol_factory: Callable[[Server], HttpProtocol] | None = None,
    ) -> None:
        self.most_body_bytes = options.most_body_bytes
        self.request_timeout_s = options.request_timeout_s
        self.idle_timeout_s = options.idle_timeout_s
        self.draining = False
        self._options = options
        self._protocol_factory = protocol_factory or HttpProtocol
        self._connections: set[HttpProtocol] = set()
        self._stopping = asyncio.Event()
        self._traced = -TRACES_APART_S
        self._name = f"{bundle.model} version {bundle.version}"
        model = Model(bundle.read_model(), width=len(bundle.inputs), output=bundle.output, name=self._name)
        signature = Signature(bundle)
        self._ladder = Ladder(bundle, reader if reader is not None else open_reader(options.online, bundle))
        self._metrics = Metrics(bundle)
        self._log = PredictionLog(options.log)
        self._routes = Routes(
            bundle,
            signature,
            Predictor(signature, self._ladder, model),
            self._log,
            self._metrics,
            ready=lambda: not self.draining,
            metrics_page=self._metrics_page,
            most_rows=options.most_rows,
            replay_clock=options.replay_clock,
            as_of=options.as_of,
        )

    # ---- what connections ask

    def handle(self, request: Request) -> Answer:
        """See `http.Application.handle`."""
        answer: Answer
        try:
            answer = self._routes.answer(request)
        except Refusal as problem:
            answer = error(problem.status, str(problem), self._routes.headers(request)), None
        except Exception as problem:  # a bug or a broken model costs this request and nothing else
            self._trace(problem)
            text = "the server failed on this request; its log says why"
            answer = error(500, text, self._routes.headers(request)), None
        seconds = time.perf_counter() - request.started
        self._metrics.answered(self._routes.protocol_of(request.target), answer[0].status, seconds)
        return answer

    def refuse(self, problem: Refusal) -> Response:
        """See `http.Application.refuse`."""
        self._metrics.answered("other", problem.status, 0.0)
        return error(problem.status, str(problem), self._routes.headers(None))

    def opened(self, connection: HttpProtocol) -> None:
        self._connections.add(connection)
        self._metrics.connections += 1

    def closed(self, connection: HttpProtocol) -> None:
        self._connections.discard(connection)
        self._metrics.connections -= 1

    def _metrics_page(self) -> bytes:
        return self._metrics.page(self._ladder.counts, self._log.counts)

    def _trace(self, problem: Exception) -> None:
        now = time.monotonic()
        if now - self._traced >= TRACES_APART_S:  # a model that fails at every request must not fill the disk
            self._traced = now
            traceback.print_exception(problem, file=sys.stderr)

    # ---- its life

    async def run(self) -> None:
        """Serve until a signal to stop; returns once every request received was answered.

        Raises:
            PortInUseError: the port is taken.
        """
        loop = asyncio.get_running_loop()
        listener = _listen(self._options.host, self._options.port)
        make = self._protocol_factory
        server = await loop.create_server(lambda: make(self), sock=listener, backlog=BACKLOG)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        host, port = listener.getsockname()[:2]
        # what was loaded stays: no collection needs to look at it again
        gc.collect()
        gc.freeze()
        sys.stderr.write(f"serving {self._name} on http://{host}:{port}\n")
        sys.stderr.flush()
        clock = loop.create_task(self._watch_time())
        await self._stopping.wait()
        clock.cancel()
        await self._drain(server)

    def close(self) -> None:
        """Write what the log still holds."""
        self._log.close()

    async def _watch_time(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            for connection in list(self._connections):
                connection.check_time(now)

    async def _drain(self, server: asyncio.Server) -> None:
        # readiness turns at once; a caller that has not looked yet is still answered, and told to leave
        self.draining = True
        await asyncio.sleep(self._options.drain_linger_s)
        server.close()
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


def serve(
    bundle: Bundle,
    options: Options,
    *,
    reader: FeatureReader | None = None,
    protocol_factory: Callable[[Server], HttpProtocol] | None = None,
) -> None:
    """Serve `bundle` until SIGTERM or SIGINT, then drain and return.

    Args:
        reader: instead of the one for `options.online`.
        protocol_factory: instead of `HttpProtocol`; called with the server for each connection.

    Raises:
        UsageError: the bundle cannot be served.
        PortInUseError: the port is taken.
    """

    async def run() -> None:
        server = Server(bundle, options, reader=reader, protocol_factory=protocol_factory)
        try:
            await server.run()
        finally:
            server.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            # a server that was killed a moment ago leaves its port in TIME_WAIT
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
