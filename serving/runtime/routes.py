"""Which path answers what: KServe's V1, the Open Inference Protocol V2, health and metrics.

One table from the request target to its handlers, so that a request costs one look-up; only a target that
is not in it is taken apart, to say what about it is unknown.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Mapping

import orjson

from serving.runtime.bundle import Bundle
from serving.runtime.metrics import CONTENT_TYPE, Metrics
from serving.runtime.payload.lines import PredictionLog
from serving.runtime.predictor import Prediction, Predictor
from serving.runtime.protocol import v1, v2
from serving.runtime.refusal import BadRequest, FieldError, MethodNotAllowed, NotFound
from serving.runtime.signature import Row, Signature
from serving.runtime.transport.message import Request, Response

LONGEST_ID = 128
SERVER = {"name": "windlass", "extensions": []}

Answer = tuple[Response, Callable[[], None] | None]
Handler = Callable[[Request], Answer]


class Routes:
    """Answers requests for one model.

    Args:
        ready: whether the server takes traffic.
        metrics_page: renders the metrics.
        most_rows: rows of one request at most.
        replay_clock: whether the header x-windlass-at is "now".
        as_of: "now" of requests that state none, for a store of historical data; None takes the clock.
    """

    def __init__(
        self,
        bundle: Bundle,
        signature: Signature,
        predictor: Predictor,
        log: PredictionLog,
        metrics: Metrics,
        *,
        ready: Callable[[], bool],
        metrics_page: Callable[[], bytes],
        most_rows: int,
        replay_clock: bool,
        as_of: float | None = None,
    ) -> None:
        self._bundle = bundle
        self._signature = signature
        self._predictor = predictor
        self._log = log
        self._metrics = metrics
        self._ready = ready
        self._metrics_page = metrics_page
        self._most_rows = most_rows
        self._replay_clock = replay_clock
        self._as_of = as_of
        self._version_header = f"x-windlass-version: {bundle.version}\r\n".encode()
        self._table = self._build_table()

    def answer(self, request: Request) -> Answer:
        """Find the handler and let it answer.

        Raises:
            Refusal: the request cannot be answered as it stands.
        """
        handlers = self._table.get(request.target)
        if handlers is None:
            handlers = self._unknown(request.target)
        handler = handlers.get(b"GET" if request.method == b"HEAD" else request.method)
        if handler is None:
            allowed = " or ".join(m.decode() for m in handlers)
            method = request.method.decode("latin-1")
            raise MethodNotAllowed(f"{_shown(request.target)} takes {allowed}, not {method}")
        return handler(request)

    def headers(self, request: Request | None) -> bytes:
        """Headers of an answer that is no prediction."""
        try:
            request_id = _id_of(request.headers) if request is not None else None
        except BadRequest:
            request_id = None
        return b"%sx-request-id: %s\r\n" % (self._version_header, (request_id or _new_id()).encode())

    def protocol_of(self, target: bytes) -> str:
        """The protocol under which a request is counted."""
        return "v1" if target.startswith(b"/v1/") else "v2" if target.startswith(b"/v2") else "other"

    def _build_table(self) -> dict[bytes, Mapping[bytes, Handler]]:
        model, version = self._bundle.model, self._bundle.version
        table: dict[str, Mapping[bytes, Handler]] = {
            f"/v1/models/{model}:predict": {b"POST": self._predict_v1},
            "/v1/models": {b"GET": lambda r: self._document(r, {"models": [model]})},
            f"/v1/models/{model}": {b"GET": lambda r: self._state(r, {"name": model}, "ready")},
            "/v2": {b"GET": lambda r: self._document(r, {**SERVER, "version": version})},
            "/v2/health/live": {b"GET": lambda r: self._document(r, {"live": True})},
            "/v2/health/ready": {b"GET": lambda r: self._state(r, {}, "ready")},
            "/metrics": {b"GET": self._page},
        }
        for path in (f"/v2/models/{model}", f"/v2/models/{model}/versions/{version}"):
            table[path] = {b"GET": lambda r: self._document(r, v2.metadata(self._bundle, self._signature))}
            table[f"{path}/ready"] = {b"GET": lambda r: self._state(r, {"name": model}, "ready")}
            table[f"{path}/infer"] = {b"POST": self._infer_v2}
        return {path.encode(): handlers for path, handlers in table.items()}

    def _unknown(self, target: bytes) -> Mapping[bytes, Handler]:
        path = target.partition(b"?")[0]
        if path != b"/" and path.endswith(b"/"):
            path = path[:-1]
        if path in self._table:
            return self._table[path]
        parts = path.decode("latin-1").split("/")
        bundle = self._bundle
        if len(parts) > 3 and parts[1] in ("v1", "v2") and parts[2] == "models":
            model = parts[3].partition(":")[0] if parts[1] == "v1" else parts[3]
            if model != bundle.model:
                raise NotFound(f"model {model[:60]!r} is not served here; served is {bundle.model!r}")
            if len(parts) > 5 and parts[4] == "versions" and parts[5] != bundle.version:
                raise NotFound(
                    f"version {parts[5][:60]!r} of {model!r} is not served here; served is {bundle.version!r}"
                )
        raise NotFound(f"there is nothing at {_shown(target)}; see /v2/models/{bundle.model}")

    # ---- predictions

    def _predict_v1(self, request: Request) -> Answer:
        request_id = _id_of(request.headers) or _new_id()
        rows = v1.decode(request.body, self._signature, self._most_rows)
        return self._predict(request, request_id, rows, v1.encode)

    def _infer_v2(self, request: Request) -> Answer:
        if b"inference-header-content-length" in request.headers:
            raise BadRequest("inference-header-content-length: binary tensors are not read here; send JSON")
        rows, stated = v2.decode(request.body, self._signature, self._bundle.output, self._most_rows)
        request_id = _id_of(request.headers) or (_checked_id(stated, "id") if stated else _new_id())
        return self._predict(
            request, request_id, rows, lambda p: v2.encode(p, self._bundle, stated or request_id)
        )

    def _predict(
        self, request: Request, request_id: str, rows: list[Row], encode: Callable[[Prediction], bytes]
    ) -> Answer:
        at = self._now(request.headers)
        prediction = self._predictor.predict(rows, at)
        body = encode(prediction)
        headers = b"%sx-windlass-feature-source: %s\r\nx-request-id: %s\r\n" % (
            self._version_header,
            prediction.source.encode(),
            request_id.encode(),
        )
        self._metrics.rows += len(rows)
        latency_ms = round((time.perf_counter() - request.started) * 1000, 4)

        def record() -> None:
            self._record(request, request_id, at, prediction, latency_ms)

        return Response(200, body, headers), record

    def _record(
        self, request: Request, request_id: str, at: float, prediction: Prediction, latency_ms: float
    ) -> None:
        mirrored = _is_mirrored(request.headers.get(b"host", b""))
        batch = len(prediction.rows) > 1
        for i, row in enumerate(prediction.rows):
            self._log.append(
                {
                    "request_id": f"{request_id}/{i}" if batch else request_id,
                    "model": self._bundle.model,
                    "version": self._bundle.version,
                    "at": at,
                    "entities": row.entities,
                    "request": row.request,
                    "features": prediction.vectors[i],
                    "score": prediction.scores[i],
                    "latency_ms": latency_ms,
                    "source": prediction.sources[i],
                    "mirrored": mirrored,
                }
            )

    def _now(self, headers: Mapping[bytes, bytes]) -> float:
        stated = headers.get(b"x-windlass-at") if self._replay_clock else None
        if stated is None:
            return time.time() if self._as_of is None else self._as_of
        try:
            at = float(stated)
        except ValueError:
            at = math.nan
        if not math.isfinite(at):
            raise FieldError("header x-windlass-at", stated.decode("latin-1"), "seconds since the epoch")
        return at

    # ---- everything else

    def _document(self, request: Request, document: object) -> Answer:
        return Response(200, orjson.dumps(document), self.headers(request)), None

    def _state(self, request: Request, document: dict[str, object], key: str) -> Answer:
        ready = self._ready()
        body = orjson.dumps({**document, key: ready})
        return Response(200 if ready else 503, body, self.headers(request)), None

    def _page(self, request: Request) -> Answer:
        return Response(200, self._metrics_page(), self.headers(request), CONTENT_TYPE), None


def _id_of(headers: Mapping[bytes, bytes]) -> str | None:
    stated = headers.get(b"x-request-id")
    return _checked_id(stated.decode("latin-1"), "header x-request-id") if stated else None


def _checked_id(value: str, where: str) -> str:
    # it goes into a response header and into one line of several logs
    if len(value) > LONGEST_ID or not value.isascii() or not value.isprintable() or " " in value:
        raise FieldError(where, value, f"at most {LONGEST_ID} visible ASCII characters")
    return value


def _new_id() -> str:
    return str(uuid.uuid4())


def _is_mirrored(host: bytes) -> bool:
    """Envoy marks a mirrored request by "-shadow" behind the host's name, before a port."""
    return b"-shadow" in host and host.rpartition(b":")[0 if b":" in host else 2].endswith(b"-shadow")


def _shown(target: bytes) -> str:
    return repr(target[:80].decode("latin-1"))
