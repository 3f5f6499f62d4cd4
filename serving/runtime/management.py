"""The repository over REST: which models there are, loading and unloading them while others answer."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Coroutine
from typing import Any

from serving.runtime.protocol.document import parse
from serving.runtime.refusal import BadRequest, FieldError, Forbidden, Unauthorized
from serving.runtime.repository import Repository
from serving.runtime.transport.message import Exchange
from windlass.errors import WindlassError


class Management:
    """Answers the requests to the repository, which must bear the token.

    Args:
        document: answers an exchange with JSON.
        fail: answers it with what went wrong.
    """

    def __init__(
        self,
        repository: Repository,
        token: str | None,
        loop: asyncio.AbstractEventLoop,
        document: Callable[[Exchange, object], None],
        fail: Callable[[Exchange, Exception], None],
    ) -> None:
        self._repository = repository
        self._token = token
        self._loop = loop
        self._document = document
        self._fail = fail
        self._tasks: set[asyncio.Task[None]] = set()

    def index(self, exchange: Exchange) -> None:
        """Answer with every version that answers or could be loaded."""
        self._authorize(exchange)
        ready_only = parse(exchange.body).get("ready", False) if exchange.body else False
        if not isinstance(ready_only, bool):
            raise FieldError("ready", ready_only, "true or false")
        entries = [
            {"name": e.model, "version": e.version, "state": e.state, "reason": e.reason}
            for e in self._repository.index()
            if not ready_only or e.state == "READY"
        ]
        self._document(exchange, entries)

    def load(self, exchange: Exchange) -> None:
        """Load a version, and answer once it has taken the place of the one before."""
        self._authorize(exchange)
        parameters = parse(exchange.body).get("parameters") if exchange.body else None
        if not isinstance(parameters, dict | None):
            raise FieldError("parameters", parameters, "an object")
        version = parameters.get("version") if parameters else None
        if version is not None and not isinstance(version, str):
            raise FieldError("parameters.version", version, "a version of the repository's folder")
        model = exchange.target.decode("latin-1").split("/")[4]

        async def load() -> None:
            loaded = await self._repository.load(model, version)
            self._document(exchange, {"name": loaded.model, "version": loaded.version, "state": "READY"})

        self._later(exchange, load())

    def unload(self, exchange: Exchange) -> None:
        """Take a model out, and answer once no new request reaches it."""
        self._authorize(exchange)
        model = exchange.target.decode("latin-1").split("/")[4]

        async def unload() -> None:
            await self._repository.unload(model)
            self._document(exchange, {"name": model, "state": "UNAVAILABLE"})

        self._later(exchange, unload())

    def _later(self, exchange: Exchange, work: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            try:
                await work
            except WindlassError as problem:
                self._fail(exchange, BadRequest(str(problem)))
            except Exception as problem:
                self._fail(exchange, problem)

        task = self._loop.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _authorize(self, exchange: Exchange) -> None:
        authorize(self._token, exchange.headers.get(b"authorization", b"").decode("latin-1"))


def authorize(token: str | None, stated: str) -> None:
    """Let a request to the repository through.

    Raises:
        Forbidden: no token was set, so nobody may.
        Unauthorized: the request does not bear it.
    """
    if token is None:
        raise Forbidden("the repository is switched off here: the server was started without a token")
    if not hmac.compare_digest(stated.encode(), f"Bearer {token}".encode()):
        raise Unauthorized("header authorization: expected Bearer and the server's token")
