"""The endpoints: take Alertmanager's notifications and CloudEvents, say how it goes."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from monitoring.collector.http import Request, Response, error, route
from monitoring.retrain.service import alertmanager, events
from monitoring.retrain.service.core import Service
from monitoring.retrain.service.metrics import Metrics
from monitoring.retrain.service.notice import Notice, RunEnded, Word
from windlass.errors import UsageError, WindlassError


class Token:
    """The bearer token that senders must have, read from its file at every request: it is changed without a restart.

    Raises:
        UsageError: the file cannot be read, or is empty.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read()

    def _read(self) -> bytes:
        try:
            token = self._path.read_bytes().strip()
        except OSError as error:
            raise UsageError(
                f"token file {self._path}: {error.strerror}; write the senders' token into it, mode 0600"
            ) from error
        if not token:
            raise UsageError(f"token file {self._path} is empty; write the senders' token into it, mode 0600")
        return token

    def admits(self, request: Request) -> bool:
        """Whether a request carries the token; compared in constant time."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        try:
            expected = self._read()
        except UsageError:
            return False
        right = hmac.compare_digest(given.strip().encode("latin-1", "replace"), expected)
        return right and scheme.lower() == "bearer"


class App:
    """Answers requests.

    Args:
        token: None where everybody who reaches the address may send signals.
        wake: called when something was journaled, so that the next turn comes at once.
        ready: whether the first turn has recovered what an earlier process left.
        namespace: of a cluster, whose alerts are taken; None where alerts have none.
    """

    def __init__(
        self,
        service: Service,
        token: Token | None,
        wake: Callable[[], None],
        ready: Callable[[], bool],
        namespace: str | None = None,
    ) -> None:
        self._service = service
        self._token = token
        self._wake = wake
        self._is_ready = ready
        self._namespace = namespace
        self.metrics = Metrics(service)
        self._registry = CollectorRegistry()
        self._registry.register(self.metrics)
        self._routes = {
            "/alertmanager": ("POST", self._alerts),
            "/events": ("POST", self._events),
            "/health": ("GET", self._health),
            "/ready": ("GET", self._ready),
            "/metrics": ("GET", self._metrics),
            "/policies": ("GET", self._policies),
        }

    async def __call__(self, request: Request) -> Response:
        handle = route(self._routes, request)
        if isinstance(handle, Response):
            return handle
        if request.method == "POST" and self._token is not None and not self._token.admits(request):
            self.metrics.count("unauthorized")
            refusal = error(401, "send Authorization: Bearer with the token of this service's token file")
            return Response(refusal.status, refusal.body, headers=(("www-authenticate", "Bearer"),))
        return await handle(request)

    async def _alerts(self, request: Request) -> Response:
        try:
            notices, problems = alertmanager.parse(_json(request.body), self._namespace)
        except UsageError as problem:
            return self._invalid(str(problem))
        # an alert that can never be taken must not keep the others of its group from being heard
        heard = [notice for notice in notices if notice.workload in self._service.watched]
        problems += self._service.unknown(notices)
        for each in problems:
            self._service.say(f"an alert cannot be taken: {each}")
        if problems and not heard:
            return self._invalid("; ".join(problems))
        return await self._taken(heard, problems)

    async def _events(self, request: Request) -> Response:
        try:
            told = events.parse(request.headers, request.body, self._service.now().at)
        except UsageError as problem:
            return self._invalid(str(problem))
        notices = [each for each in told if isinstance(each, Notice)]
        words = [each for each in told if isinstance(each, Word)]
        strange = self._service.unknown([*notices, *words])
        if strange:
            return self._invalid("; ".join(strange))
        try:
            said = await asyncio.to_thread(self._service.hear, words)
        except UsageError as problem:
            return self._invalid(str(problem))
        except WindlassError as problem:
            return error(503, str(problem))
        for each in told:
            if isinstance(each, RunEnded):
                self._service.run_ended(each)
        return await self._taken(notices, (), said)

    async def _taken(
        self, notices: Sequence[Notice], problems: Sequence[str], said: Sequence[str] = ()
    ) -> Response:
        try:
            decisions = await asyncio.to_thread(self._service.take, notices)
        except WindlassError as problem:
            # never 4xx, whatever it was: Alertmanager sends what was answered by 5xx again
            return error(503, str(problem))
        self.metrics.count("accepted")
        self.metrics.requests["invalid"] += len(problems)
        self._wake()
        content = {"signals": decisions, "problems": list(problems)}
        return Response(200, _encoded(content | ({"words": list(said)} if said else {})))

    def _invalid(self, message: str) -> Response:
        self.metrics.count("invalid")
        return error(400, message)

    async def _health(self, request: Request) -> Response:
        return Response(200, b'{"status":"ok"}')

    async def _ready(self, request: Request) -> Response:
        if self._is_ready():
            return Response(200, b'{"status":"ready"}')
        return error(503, "what an earlier process left is being recovered")

    async def _policies(self, request: Request) -> Response:
        return Response(200, _encoded(await asyncio.to_thread(self._service.account)))

    async def _metrics(self, request: Request) -> Response:
        text = await asyncio.to_thread(generate_latest, self._registry)
        return Response(200, text, CONTENT_TYPE_LATEST)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the body is no JSON ({error}); send Alertmanager's webhook notification") from None


def _encoded(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
