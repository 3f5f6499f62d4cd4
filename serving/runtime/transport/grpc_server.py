"""The Open Inference Protocol (V2) and the health checking protocol over gRPC, on a port of their own.

The counterpart of `routes`: the same models, lanes and refusals, and messages instead of documents. The port is
grpc.aio's; messages are parsed here and not by it, so that what is no message is refused as the caller's fault.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

from serving.runtime import terms
from serving.runtime.flow.call import Call
from serving.runtime.identity import RequestIds, checked_id
from serving.runtime.management import authorize
from serving.runtime.metrics import Metrics
from serving.runtime.options import Options
from serving.runtime.protocol import grpc_infer, messages
from serving.runtime.refusal import (
    BadRequest,
    DeadlineExceeded,
    FieldError,
    Forbidden,
    ModelFailed,
    NotFound,
    Overloaded,
    Refusal,
    Unauthorized,
    Unavailable,
)
from serving.runtime.repository import Repository
from serving.runtime.routes import server_metadata
from serving.runtime.transport.grpc_turns import Turns
from windlass.errors import PortInUseError, WindlassError

SERVICE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
LIVENESS = "liveness"
"""The service by whose name a health check asks whether a restart would help; any other asks for readiness."""
MOST_STREAMS = 1024
"""Of one connection at once; a client keeps what is beyond that to itself."""
CODES = {
    BadRequest: "INVALID_ARGUMENT",
    NotFound: "NOT_FOUND",
    Unauthorized: "UNAUTHENTICATED",
    Forbidden: "PERMISSION_DENIED",
    Overloaded: "RESOURCE_EXHAUSTED",
    Unavailable: "UNAVAILABLE",
    DeadlineExceeded: "DEADLINE_EXCEEDED",
}

Metadata = Mapping[str, Any]
Answer = Callable[[Any, Metadata], Any]
Handler = Callable[[bytes, Any], Awaitable[bytes]]


class GrpcServer:
    """Answers the same models as `Routes`.

    Args:
        ready: whether the server takes traffic.
        trace: says where a bug is.
    """

    def __init__(
        self,
        repository: Repository,
        metrics: Metrics,
        options: Options,
        loop: asyncio.AbstractEventLoop,
        ready: Callable[[], bool],
        trace: Callable[[BaseException], None],
    ) -> None:
        self._repository = repository
        self._options = options
        self._loop = loop
        self._ready = ready
        self._trace = trace
        self._ids = RequestIds()
        self._nobody = metrics.of("", "").assigned
        self._messages = messages.load()
        self._request_class = self._messages["inference.ModelInferRequest"]
        self._encoder = grpc_infer.Encoder(self._messages["inference.ModelInferResponse"])
        self._decode_error = messages.decode_error()
        self._turns = Turns(loop)
        self._server: Any = None

    # ---- its life

    async def start(self) -> int:
        """Listen; returns the port.

        Raises:
            PortInUseError: the port is taken.
        """
        import grpc

        options = self._options
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", options.most_body_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", MOST_STREAMS),
                ("grpc.max_metadata_size", 16 * 1024),
                # one process alone must not share its port with another server by accident
                ("grpc.so_reuseport", int(options.workers > 1)),
            ]
        )
        for service, methods in self._services().items():
            handlers = {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        try:
            port: int = self._server.add_insecure_port(f"{options.host}:{options.grpc_port}")
        except RuntimeError as problem:
            raise PortInUseError(
                f"cannot listen on {options.host}:{options.grpc_port} for gRPC: {problem}; give another --grpc-port"
            ) from problem
        await self._server.start()
        return port

    async def stop(self, grace_s: float) -> None:
        """Take no more requests, and return when those in flight are answered or `grace_s` is over."""
        await self._server.stop(grace_s)

    def _services(self) -> dict[str, dict[str, Handler]]:
        load = self._answering("RepositoryModelRequest", self._load)
        unload = self._answering("RepositoryModelRequest", self._unload)
        return {
            SERVICE: {
                "ServerLive": self._answering("ServerLiveRequest", self._server_live),
                "ServerReady": self._answering("ServerReadyRequest", self._server_ready),
                "ServerMetadata": self._answering("ServerMetadataRequest", self._server_metadata),
                "ModelReady": self._answering("ModelReadyRequest", self._model_ready),
                "ModelMetadata": self._answering("ModelMetadataRequest", self._model_metadata),
                "ModelInfer": self._infer,
                "RepositoryIndex": self._answering("RepositoryIndexRequest", self._index),
                "RepositoryModelLoad": load,
                "RepositoryModelUnload": unload,
            },
            HEALTH: {"Check": self._answering("HealthCheckRequest", self._check, "grpc.health.v1")},
        }

    # ---- predictions

    async def _infer(self, body: bytes, context: Any) -> bytes:
        started = time.perf_counter()
        counts = self._nobody
        try:
            request = self._parsed(self._request_class, body)
            loaded = self._repository.find(request.model_name, request.model_version)
            metadata = dict(context.invocation_metadata())
            route = metadata.get("x-windlass-route")
            of_version = loaded.requests
            counts = of_version.unassigned if request.model_version else of_version.of((route or "").encode())
            patience_s = self._patience_s(request, metadata, context.time_remaining())
            loaded.lane.admit(patience_s)
            contract = loaded.served.contract
            asked = grpc_infer.decode(request, contract, self._options.most_rows)
            call = Call(
                asked,
                self._request_id(asked.id, metadata.get("x-request-id")),
                terms.now(self._options, metadata.get("x-windlass-at")),
                self._loop.time() + patience_s,
                started,
                _reply,
                self._loop.create_future(),
                route=route,
                unit=metadata.get("x-windlass-unit"),
            )
            self._turns.submit(loaded.lane, call)
            await call.context
            if call.outcome.problem is not None:
                raise call.outcome.problem
            answer = self._encoder.encode(call, contract)
        except Exception as problem:
            refusal = self._refusal(problem)
            counts.answered("grpc", refusal.status, time.perf_counter() - started)
            await _abort(context, refusal)
        counts.answered("grpc", 200, time.perf_counter() - started)
        return answer

    def _request_id(self, of_message: str | None, of_metadata: str | None) -> str:
        if of_metadata:
            return checked_id(of_metadata, "metadata x-request-id")
        return checked_id(of_message, "id") if of_message else self._ids.new()

    def _patience_s(self, request: Any, metadata: Metadata, remaining_s: float | None) -> float:
        limit_s = self._options.deadline_s
        if remaining_s is not None:
            limit_s = min(limit_s, terms.RESERVE * remaining_s)
        timeout_us = grpc_infer.parameters_of(request).get("timeout") if request.parameters else None
        return terms.patience_s(limit_s, metadata.get("x-envoy-expected-rq-timeout-ms"), timeout_us)

    # ---- everything else: a function of the request and the metadata, which returns the response or awaits it

    def _answering(self, name: str, answer: Answer, package: str = "inference") -> Handler:
        request_class = self._messages[f"{package}.{name}"]

        async def handle(body: bytes, context: Any) -> bytes:
            started = time.perf_counter()
            try:
                response = answer(self._parsed(request_class, body), dict(context.invocation_metadata()))
                if asyncio.iscoroutine(response):
                    response = await response
            except Exception as problem:
                refusal = self._refusal(problem)
                self._nobody.answered("grpc", refusal.status, time.perf_counter() - started)
                await _abort(context, refusal)
            self._nobody.answered("grpc", 200, time.perf_counter() - started)
            content: bytes = response.SerializeToString()
            return content

        return handle

    def _live(self) -> bool:
        return not any(loaded.lane.wedged for loaded in self._repository)

    def _made(self, name: str, /, **fields: Any) -> Any:
        return self._messages[f"inference.{name}"](**fields)

    def _server_live(self, request: Any, metadata: Metadata) -> Any:
        return self._made("ServerLiveResponse", live=self._live())

    def _server_ready(self, request: Any, metadata: Metadata) -> Any:
        return self._made("ServerReadyResponse", ready=self._ready())

    def _server_metadata(self, request: Any, metadata: Metadata) -> Any:
        return self._made("ServerMetadataResponse", **server_metadata(self._repository))

    def _model_ready(self, request: Any, metadata: Metadata) -> Any:
        loaded = self._repository.find(request.name, request.version)
        return self._made("ModelReadyResponse", ready=self._ready() and not loaded.lane.wedged)

    def _model_metadata(self, request: Any, metadata: Metadata) -> Any:
        document = self._repository.find(request.name, request.version).served.contract.metadata()
        document.pop("parameters")  # the message has no field for them
        return self._made("ModelMetadataResponse", **document)

    def _index(self, request: Any, metadata: Metadata) -> Any:
        self._authorize(metadata)
        models = [
            {"name": e.model, "version": e.version, "state": e.state, "reason": e.reason}
            for e in self._repository.index()
            if not request.ready or e.state == "READY"
        ]
        return self._made("RepositoryIndexResponse", models=models)

    async def _load(self, request: Any, metadata: Metadata) -> Any:
        self._authorize(metadata)
        version = grpc_infer.parameters_of(request).get("version")
        if version is not None and not isinstance(version, str):
            raise FieldError("parameters.version", version, "a version of the repository's folder")
        loaded = await self._repository.load(_model_of(request), version)
        return self._made("RepositoryModelResponse", model_name=loaded.model, done=True)

    async def _unload(self, request: Any, metadata: Metadata) -> Any:
        self._authorize(metadata)
        await self._repository.unload(_model_of(request))
        return self._made("RepositoryModelResponse", model_name=_model_of(request), done=True)

    def _authorize(self, metadata: Metadata) -> None:
        authorize(self._options.token, str(metadata.get("authorization", "")))

    def _check(self, request: Any, metadata: Metadata) -> Any:
        response = self._messages["grpc.health.v1.HealthCheckResponse"]
        if request.service not in ("", SERVICE, LIVENESS):
            raise NotFound(f"service {request.service[:60]!r}: known are {SERVICE!r}, {LIVENESS!r} and ''")
        healthy = self._live() if request.service == LIVENESS else self._ready()
        return response(status=response.SERVING if healthy else response.NOT_SERVING)

    def _parsed(self, message_class: Any, body: bytes) -> Any:
        try:
            return message_class.FromString(body)
        except self._decode_error:
            raise BadRequest(f"the message is no {message_class.DESCRIPTOR.name}") from None

    # ---- refusals

    def _refusal(self, problem: Exception) -> Refusal:
        if isinstance(problem, Refusal):
            return problem
        if isinstance(problem, WindlassError):  # of a bundle that cannot be loaded
            return BadRequest(str(problem))
        self._trace(problem)  # a bug costs this request and nothing else
        return ModelFailed("the server failed on this request; its log says why")


def _reply(call: Call) -> None:
    if not call.context.done():  # else the caller has left
        call.context.set_result(None)


def _model_of(request: Any) -> str:
    name: str = request.triton_model_name or request.kserve_model_name
    return name


async def _abort(context: Any, refusal: Refusal) -> NoReturn:
    """End the call with the refusal's code; what gRPC raises for it passes through the handler."""
    import grpc

    code = next((CODES[c] for c in type(refusal).__mro__ if c in CODES), "INTERNAL")
    trailing = (("retry-after", str(refusal.retry_after_s)),) if isinstance(refusal, Unavailable) else ()
    await context.abort(grpc.StatusCode[code], str(refusal), trailing)
    raise refusal
