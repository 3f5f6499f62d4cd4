"""Which path answers what: KServe's V1, the Open Inference Protocol V2, health, the repository and metrics.

One table from the request target to its handlers, made anew whenever a model comes or goes, so that a request
costs one look-up; only a target that is not in it is taken apart, to say what about it is unknown.
"""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from serving.runtime import terms
from serving.runtime.contract import Contract
from serving.runtime.counts import VersionCounts
from serving.runtime.flow.call import Asked, Call
from serving.runtime.identity import RequestIds, checked_id
from serving.runtime.management import Management
from serving.runtime.metrics import CONTENT_TYPE, Metrics
from serving.runtime.options import Options
from serving.runtime.protocol import docs_page, openapi, v1, v2
from serving.runtime.refusal import (
    BadRequest,
    MethodNotAllowed,
    ModelFailed,
    NotFound,
    Refusal,
    Unavailable,
    UnsupportedEncoding,
)
from serving.runtime.repository import Loaded, Repository
from serving.runtime.transport.compression import inflate
from serving.runtime.transport.message import Exchange, Response, error

EXTENSIONS = ["binary_tensor_data", "model_repository"]
HTML = b"text/html; charset=utf-8"
BINARY = b"application/octet-stream"
ROUTE = b"x-windlass-route"
TRACES_APART_S = 1.0

Handler = Callable[[Exchange], None]
Handlers = Mapping[bytes, Handler]
Encode = Callable[[Call, Contract], tuple[bytes, int | None]]


class Routes:
    """Answers requests.

    Args:
        ready: whether the server takes traffic.
    """

    def __init__(
        self,
        repository: Repository,
        metrics: Metrics,
        options: Options,
        loop: asyncio.AbstractEventLoop,
        ready: Callable[[], bool],
    ) -> None:
        self._repository = repository
        self._metrics = metrics
        self._options = options
        self._loop = loop
        self._ready = ready
        self._ids = RequestIds()
        self._nobody = metrics.of("", "").assigned
        self._counts: dict[bytes, VersionCounts] = {}
        self._version_header = b""
        self._management = Management(repository, options.token, loop, self._document, self.fail)
        self._table: dict[bytes, Handlers] = {}
        self._traced = -TRACES_APART_S

    def handle(self, exchange: Exchange) -> None:
        """Find the handler and let it answer; never raises."""
        try:
            handlers = self._table.get(exchange.target)
            if handlers is None:
                handlers = self._unknown(exchange)
            handler = handlers.get(exchange.method)
            if handler is None:
                handler = self._other_method(exchange, handlers)
            if b"content-encoding" in exchange.headers and exchange.target not in self._counts:
                self._decompress(exchange)
            handler(exchange)
        except Exception as problem:
            self.fail(exchange, problem)

    def fail(self, exchange: Exchange, problem: Exception) -> None:
        """Answer a request that could not be answered as it stands."""
        if not isinstance(problem, Refusal):  # a bug costs this request and nothing else
            self.trace(problem)
            problem = ModelFailed("the server failed on this request; its log says why")
        headers = self._headers(exchange)
        if isinstance(problem, Unavailable):
            headers += b"retry-after: %d\r\n" % problem.retry_after_s
        if isinstance(problem, MethodNotAllowed):
            headers += b"allow: %s\r\n" % problem.allowed.encode()
        self._answer(exchange, error(problem.status, str(problem), headers))

    def refused(self, problem: Refusal) -> Response:
        """Answer what could not be read as a request."""
        self._nobody.answered("other", problem.status, 0.0)
        headers = b"x-request-id: %s\r\n" % self._ids.new().encode()
        return error(problem.status, str(problem), headers)

    def trace(self, problem: BaseException) -> None:
        """Say on stderr where a bug is, but not at every request."""
        now = time.monotonic()
        if now - self._traced >= TRACES_APART_S:
            self._traced = now
            traceback.print_exception(problem, file=sys.stderr)

    def rebuild(self) -> None:
        """Make the table anew, after a model came or went."""
        table: dict[str, Handlers] = {
            "/": {b"GET": lambda e: self._document(e, {"status": "alive"})},
            "/v1/models": {b"GET": lambda e: self._document(e, {"models": self._repository.names})},
            "/v2": {b"GET": lambda e: self._document(e, server_metadata(self._repository))},
            "/v2/health/live": {b"GET": lambda e: self._state(e, {}, "live", self._live())},
            "/v2/health/ready": {b"GET": lambda e: self._state(e, {}, "ready", self._ready())},
            "/v2/repository/index": {b"POST": self._management.index},
            "/metrics": {b"GET": self._page},
            "/openapi.json": {b"GET": self._openapi},
            "/docs": {b"GET": self._docs},
        }
        versions = {loaded.version for loaded in self._repository}
        only = versions.pop() if len(versions) == 1 else None
        self._version_header = b"x-windlass-version: %s\r\n" % only.encode() if only else b""
        self._counts = {}
        for loaded in self._repository:
            default = self._repository.default(loaded.model) is loaded
            named = replace(loaded, requests=loaded.requests.chosen())
            self._add(table, named, f"/v2/models/{loaded.model}/versions/{loaded.version}")
            if default:
                self._add(table, loaded, f"/v2/models/{loaded.model}")
                self._add_v1(table, loaded)
            for action, handler in (("load", self._management.load), ("unload", self._management.unload)):
                table[f"/v2/repository/models/{loaded.model}/{action}"] = {b"POST": handler}
        self._table = {path.encode(): handlers for path, handlers in table.items()}

    def _add(self, table: dict[str, Handlers], loaded: Loaded, path: str) -> None:
        contract = loaded.served.contract
        table[path] = {b"GET": lambda e: self._document(e, contract.metadata())}
        table[f"{path}/ready"] = {
            b"GET": lambda e: self._state(e, {"name": loaded.model}, "ready", self._serves(loaded))
        }
        table[f"{path}/infer"] = {b"POST": lambda e: self._infer_v2(loaded, e)}
        self._counts[f"{path}/infer".encode()] = loaded.requests

    def _add_v1(self, table: dict[str, Handlers], loaded: Loaded) -> None:
        path = f"/v1/models/{loaded.model}"
        table[path] = {
            b"GET": lambda e: self._state(e, {"name": loaded.model}, "ready", self._serves(loaded))
        }
        table[f"{path}:predict"] = {b"POST": lambda e: self._predict_v1(loaded, e)}
        self._counts[f"{path}:predict".encode()] = loaded.requests

    # ---- what is not in the table

    def _unknown(self, exchange: Exchange) -> Handlers:
        target = exchange.target.partition(b"?")[0]
        if target != b"/" and target.endswith(b"/"):
            target = target[:-1]
        # everything that depends on the path is looked up by the path alone
        exchange.target = target
        if target in self._table:
            return self._table[target]
        parts = target.decode("latin-1").split("/")
        if (
            len(parts) == 6
            and parts[1:4] == ["v2", "repository", "models"]
            and parts[5] in ("load", "unload")
        ):
            return {b"POST": self._management.load if parts[5] == "load" else self._management.unload}
        if len(parts) > 3 and parts[1] in ("v1", "v2") and parts[2] == "models":
            model = parts[3].partition(":")[0] if parts[1] == "v1" else parts[3]
            versioned = len(parts) > 5 and parts[4] == "versions"
            self._repository.find(model, parts[5] if versioned else None)
        raise NotFound(f"there is nothing at {_shown(target)}; see /docs")

    def _other_method(self, exchange: Exchange, handlers: Handlers) -> Handler:
        if exchange.method == b"HEAD" and b"GET" in handlers:
            return handlers[b"GET"]
        allowed = ", ".join(m.decode() for m in handlers)
        method = exchange.method.decode("latin-1")
        raise MethodNotAllowed(f"{_shown(exchange.target)} takes {allowed}, not {method}", allowed)

    def _decompress(self, exchange: Exchange) -> None:
        encoding = exchange.headers[b"content-encoding"].lower()
        if encoding in (b"gzip", b"deflate"):
            exchange.body = inflate(exchange.body, encoding, self._options.most_body_bytes)
        elif encoding != b"identity":
            raise UnsupportedEncoding("content-encoding: send gzip, deflate, or the body as it is")

    # ---- predictions

    def _predict_v1(self, loaded: Loaded, exchange: Exchange) -> None:
        patience_s = self._admit(loaded, exchange)
        asked = v1.decode(exchange.body, loaded.served.contract, self._options.most_rows)
        self._submit(loaded, exchange, asked, patience_s, self._reply_v1)

    def _infer_v2(self, loaded: Loaded, exchange: Exchange) -> None:
        patience_s = self._admit(loaded, exchange)
        asked, parameters = v2.decode(
            exchange.body,
            loaded.served.contract,
            self._options.most_rows,
            exchange.headers.get(b"inference-header-content-length"),
        )
        patience_s = terms.patience_s(patience_s, None, parameters.get("timeout"))
        self._submit(loaded, exchange, asked, patience_s, self._reply_v2)

    def _admit(self, loaded: Loaded, exchange: Exchange) -> float:
        """Let a prediction in, before anything is read of its body: refusing must cost less than answering.

        Returns the seconds that its caller will wait.
        """
        headers = exchange.headers
        expected_ms = headers.get(b"x-envoy-expected-rq-timeout-ms")
        patience_s = terms.patience_s(self._options.deadline_s, expected_ms, None)
        loaded.lane.admit(patience_s)
        if b"content-encoding" in headers:
            self._decompress(exchange)
        return patience_s

    def _submit(
        self,
        loaded: Loaded,
        exchange: Exchange,
        asked: Asked,
        patience_s: float,
        reply: Callable[[Call], None],
    ) -> None:
        headers = exchange.headers
        stated = headers.get(b"x-request-id")
        request_id = checked_id(asked.id, "id") if asked.id else ""
        if stated:
            request_id = checked_id(stated.decode("latin-1"), "header x-request-id")
        elif not request_id:
            request_id = self._ids.new()
        loaded.lane.submit(
            Call(
                asked,
                request_id,
                terms.now(self._options, headers.get(b"x-windlass-at")),
                self._loop.time() + patience_s,
                exchange.started,
                reply,
                (exchange, loaded),
                mirrored=_is_mirrored(headers.get(b"host", b"")),
                route=headers.get(ROUTE),
                unit=headers.get(b"x-windlass-unit"),
            )
        )

    def _reply_v1(self, call: Call) -> None:
        self._reply(call, "v1", v1.encode)

    def _reply_v2(self, call: Call) -> None:
        self._reply(call, "v2", v2.encode)

    def _reply(self, call: Call, protocol: str, encode: Encode) -> None:
        exchange, loaded = call.context
        if (problem := call.outcome.problem) is not None:
            self.fail(exchange, problem)
            return
        contract = loaded.served.contract
        try:
            body, head = encode(call, contract)
        except Exception as fault:  # what a model gave cannot be written: its request's affair alone
            self.fail(exchange, fault)
            return
        headers = b"%sx-windlass-feature-source: %s\r\nx-request-id: %s\r\n" % (
            contract.version_header,
            call.source.encode(),
            call.request_id.encode(),
        )
        counts = loaded.requests.of(exchange.headers.get(ROUTE))
        counts.answered(protocol, 200, time.perf_counter() - exchange.started)
        if head is None:
            exchange.answer(Response(200, body, headers))
        else:
            headers += b"inference-header-content-length: %d\r\n" % head
            exchange.answer(Response(200, body, headers, BINARY))

    # ---- everything else

    def _live(self) -> bool:
        return not any(loaded.lane.wedged for loaded in self._repository)

    def _serves(self, loaded: Loaded) -> bool:
        return self._ready() and not loaded.lane.wedged

    def _document(self, exchange: Exchange, document: object) -> None:
        self._answer(exchange, Response(200, orjson.dumps(document), self._headers(exchange)))

    def _state(self, exchange: Exchange, document: dict[str, object], key: str, holds: bool) -> None:
        body = orjson.dumps({**document, key: holds})
        self._answer(exchange, Response(200 if holds else 503, body, self._headers(exchange)))

    def _page(self, exchange: Exchange) -> None:
        page = self._metrics.page(self._repository)
        self._answer(exchange, Response(200, page, self._headers(exchange), CONTENT_TYPE))

    def _openapi(self, exchange: Exchange) -> None:
        contracts = [loaded.served.contract for loaded in self._repository]
        self._document(exchange, openapi.document(contracts, self._options))

    def _docs(self, exchange: Exchange) -> None:
        contracts = [loaded.served.contract for loaded in self._repository]
        page = docs_page.render(openapi.document(contracts, self._options))
        self._answer(exchange, Response(200, page, self._headers(exchange), HTML))

    def _answer(self, exchange: Exchange, response: Response) -> None:
        target = exchange.target
        of_version = self._counts.get(target)
        counts = self._nobody if of_version is None else of_version.of(exchange.headers.get(ROUTE))
        protocol = "v2" if target.startswith(b"/v2") else "v1" if target.startswith(b"/v1/") else "other"
        counts.answered(protocol, response.status, time.perf_counter() - exchange.started)
        exchange.answer(response)

    def _headers(self, exchange: Exchange) -> bytes:
        """Headers of an answer that is no prediction."""
        try:
            stated = exchange.headers.get(b"x-request-id", b"").decode("latin-1")
            request_id = checked_id(stated, "header x-request-id") if stated else self._ids.new()
        except BadRequest:
            request_id = self._ids.new()
        return b"%sx-request-id: %s\r\n" % (self._version_header, request_id.encode())


def server_metadata(repository: Repository) -> dict[str, Any]:
    """Describe the server as V2's server metadata."""
    served = list(repository)
    version = served[0].version if len(served) == 1 else ""
    return {"name": "windlass", "version": version, "extensions": EXTENSIONS}


def _is_mirrored(host: bytes) -> bool:
    """Envoy marks a mirrored request by "-shadow" behind the host's name, before a port."""
    return b"-shadow" in host and host.rpartition(b":")[0 if b":" in host else 2].endswith(b"-shadow")


def _shown(target: bytes) -> str:
    return repr(target[:80].decode("latin-1"))
