"""The one port of the operator: /metrics, /healthz (the process turns) and /readyz (it has reached the API)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from windlass.errors import PortInUseError

#: None where all is well, else what is wrong.
Health = Callable[[], str | None]

_TEXT = "text/plain; charset=utf-8"


class Page:
    """Serves until it is closed.

    Raises:
        PortInUseError: the port is taken.
    """

    def __init__(
        self, registry: CollectorRegistry, port: int, *, healthy: Health, ready: Health, host: str = ""
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 10.0

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self.answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
                elif path in ("/healthz", "/readyz"):
                    wrong = healthy() if path == "/healthz" else ready()
                    self.answer(200 if wrong is None else 503, f"{wrong or 'ok'}\n".encode(), _TEXT)
                else:
                    self.answer(404, b"there are /metrics, /healthz and /readyz\n", _TEXT)

            def answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing: a probe every few seconds is no news."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise PortInUseError(f"port {port} cannot be listened on ({error}); set WINDLASS_PORT") from error
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
