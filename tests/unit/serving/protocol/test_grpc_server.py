"""The gRPC port: a real client over a real socket, and the server's own lanes behind it."""

from __future__ import annotations

import asyncio
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from serving.runtime.protocol import messages
from serving.runtime.transport.grpc_server import GrpcServer
from windlass.errors import PortInUseError

MESSAGES = messages.load()
SERVICE = "/inference.GRPCInferenceService"
CHECK = "/grpc.health.v1.Health/Check"
Serve = Callable[..., Any]
Ask = Callable[..., Awaitable[Any]]


def body(rows: int = 1, **more: Any) -> bytes:
    request = MESSAGES["inference.ModelInferRequest"](
        model_name="tumours", raw_input_contents=[struct.pack(f"<{30 * rows}f", *[0.5] * 30 * rows)], **more
    )
    request.inputs.add(name="features", datatype="FP32", shape=[rows, 30])
    return bytes(request.SerializeToString())


def grpc_server(made: Any, *, ready: bool = True) -> GrpcServer:
    server = made.server
    return GrpcServer(server.repository, server.metrics, made.options, made.loop, lambda: ready, pytest.fail)


def talk(made: Any, asking: Callable[[Ask], Awaitable[None]], *, ready: bool = True) -> None:
    """Run `asking` with a client of the server's gRPC port; it calls `ask(method, body, …)`."""

    async def run() -> None:
        listening = grpc_server(made, ready=ready)
        port = await listening.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:

            def ask(method: str, content: bytes = b"", response: str = "", **more: Any) -> Any:
                read = MESSAGES[response].FromString if response else None
                return channel.unary_unary(method, response_deserializer=read)(content, **more)

            await asking(ask)
        await listening.stop(1.0)

    made.loop.run_until_complete(run())


async def refusal(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as found:
        await call
    return found.value


def answers(made: Any, code: int) -> int:
    found: int = made.loaded.requests.assigned.responses.get(("grpc", code), 0)
    return found


def test_requests_that_arrive_together_run_together(serve: Serve) -> None:
    """Verify that each of many concurrent callers gets its own rows' scores, out of fewer runs than calls."""
    # however long a busy machine makes a run look: none of them is to be shed
    made = serve("tumours", grpc_port=0, queue_s=60.0)
    lane = made.loaded.lane

    async def asking(ask: Ask) -> None:
        await ask(f"{SERVICE}/ModelInfer", body())  # connects
        before = lane.counts.runs
        asked = [
            ask(f"{SERVICE}/ModelInfer", body(n, id=f"id-{n}"), "inference.ModelInferResponse")
            for n in range(1, 33)
        ]
        for n, response in enumerate(await asyncio.gather(*asked), 1):
            assert (response.id, list(response.outputs[0].shape)) == (f"id-{n}", [n])
        assert lane.counts.runs - before < 32

    talk(made, asking)
    assert answers(made, 200) == 33


def test_whoever_chose_the_version_is_counted_apart(serve: Serve) -> None:
    """Verify that the router's word decides, or the version in the message, of answers as of refusals."""
    made = serve("tumours", grpc_port=0)
    (version,) = (loaded.version for loaded in made.server.repository)

    async def asking(ask: Ask) -> None:
        for route in ("weights", "segment/match", "unassigned", "match"):
            await ask(f"{SERVICE}/ModelInfer", body(), metadata=(("x-windlass-route", route),))
        await ask(f"{SERVICE}/ModelInfer", body(model_version=version))
        await refusal(ask(f"{SERVICE}/ModelInfer", body(id="a b"), metadata=(("x-windlass-route", "match"),)))

    talk(made, asking)
    assert made.loaded.requests.assigned.responses == {("grpc", 200): 2}
    assert made.loaded.requests.unassigned.responses == {("grpc", 200): 3, ("grpc", 400): 1}


@pytest.mark.parametrize(
    ("content", "more", "code", "names"),
    [
        pytest.param(b"\xff\xff\xff", {}, "INVALID_ARGUMENT", "ModelInferRequest", id="no-message"),
        pytest.param(body()[:-10], {}, "INVALID_ARGUMENT", "ModelInferRequest", id="truncated"),
        pytest.param(b"", {}, "NOT_FOUND", "''", id="empty"),
        pytest.param(body(model_version="9"), {}, "NOT_FOUND", "'9'", id="unknown-version"),
        pytest.param(body(id="a b"), {}, "INVALID_ARGUMENT", "id", id="id-with-a-space"),
        pytest.param(
            body(parameters={"timeout": {"int64_param": 0}}), {}, "INVALID_ARGUMENT", "timeout", id="no-time"
        ),
        pytest.param(
            body(),
            {"metadata": (("x-request-id", "a b"),)},
            "INVALID_ARGUMENT",
            "x-request-id",
            id="metadata-id",
        ),
        pytest.param(
            body(),
            {"metadata": (("x-windlass-at", "noon"),)},
            "INVALID_ARGUMENT",
            "x-windlass-at",
            id="clock",
        ),
        pytest.param(body(4097), {}, "INVALID_ARGUMENT", "4096", id="too-many-rows"),
        pytest.param(b"\0" * (5 << 20), {}, "RESOURCE_EXHAUSTED", "larger than max", id="too-large"),
        pytest.param(
            b"\0" * (64 << 20),
            {"compression": grpc.Compression.Gzip},
            "RESOURCE_EXHAUSTED",
            "larger than max",
            id="too-large-when-decompressed",
        ),
    ],
)
def test_a_bad_request_is_its_callers_fault(
    serve: Serve, content: bytes, more: dict[str, Any], code: str, names: str
) -> None:
    """Verify code and message, and that the connection serves the next request."""

    async def asking(ask: Ask) -> None:
        found = await refusal(ask(f"{SERVICE}/ModelInfer", content, **more))
        assert found.code().name == code
        assert names in str(found.details())
        assert await ask(f"{SERVICE}/ModelInfer", body())

    talk(serve("tumours", grpc_port=0, replay_clock=True), asking)


def test_what_is_too_much_is_shed(serve: Serve) -> None:
    """Verify RESOURCE_EXHAUSTED, with the seconds after which to ask again."""

    async def asking(ask: Ask) -> None:
        found = await refusal(ask(f"{SERVICE}/ModelInfer", body()))
        assert found.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(found.trailing_metadata() or ())["retry-after"] == "1"

    made = serve("tumours", grpc_port=0, most_waiting=0)
    talk(made, asking)
    assert answers(made, 503) == 1


def test_a_deadline_that_is_over_is_said(serve: Serve) -> None:
    """Verify DEADLINE_EXCEEDED from the server, for a request whose time was over before its turn came."""
    made = serve("tumours", grpc_port=0)

    async def asking(ask: Ask) -> None:
        found = await refusal(ask(f"{SERVICE}/ModelInfer", body(parameters={"timeout": {"int64_param": 1}})))
        assert found.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "tumours" in str(found.details())

    talk(made, asking)
    assert answers(made, 504) == 1


def test_an_id_of_the_metadata_comes_back(serve: Serve) -> None:
    """Verify that the message's own id goes back where it has one, else the metadata's."""

    async def asking(ask: Ask) -> None:
        metadata = (("x-request-id", "outer"),)
        for content, expected in ((body(), "outer"), (body(id="inner"), "inner")):
            response = await ask(
                f"{SERVICE}/ModelInfer", content, "inference.ModelInferResponse", metadata=metadata
            )
            assert response.id == expected

    talk(serve("tumours", grpc_port=0), asking)


def test_what_the_router_says_in_the_metadata_is_kept(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that a call knows its route and unit, as over HTTP, for its record."""
    made = serve("tumours", grpc_port=0)
    calls: list[Any] = []
    submit = made.loaded.lane.submit
    monkeypatch.setattr(
        type(made.loaded.lane), "submit", lambda lane, call: calls.append(call) or submit(call)
    )

    async def asking(ask: Ask) -> None:
        told = (("x-windlass-route", "arm"), ("x-windlass-unit", "00c0ffee00c0ffee"))
        await ask(f"{SERVICE}/ModelInfer", body(), metadata=told)
        await ask(f"{SERVICE}/ModelInfer", body())

    talk(made, asking)
    assert [(call.route, call.unit) for call in calls] == [("arm", "00c0ffee00c0ffee"), (None, None)]


@pytest.mark.parametrize(("ready", "status"), [(True, 1), (False, 2)])
def test_a_probe_is_told_whether_the_server_is_ready(serve: Serve, ready: bool, status: int) -> None:
    """Verify gRPC's health protocol, and that a server which drains is alive all the same."""
    name = "grpc.health.v1.HealthCheckRequest"

    async def asking(ask: Ask) -> None:
        answer = "grpc.health.v1.HealthCheckResponse"
        assert (await ask(CHECK, b"", answer)).status == status
        alive = MESSAGES[name](service="liveness").SerializeToString()
        assert (await ask(CHECK, alive, answer)).status == 1
        unknown = await refusal(ask(CHECK, MESSAGES[name](service="nobody").SerializeToString()))
        assert unknown.code() is grpc.StatusCode.NOT_FOUND
        state = await ask(f"{SERVICE}/ServerReady", b"", "inference.ServerReadyResponse")
        assert state.ready is ready

    talk(serve("tumours", grpc_port=0), asking, ready=ready)


def test_without_a_token_the_repository_is_closed(serve: Serve) -> None:
    """Verify PERMISSION_DENIED where no token was set, whatever the request bears."""

    async def asking(ask: Ask) -> None:
        for method in ("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"):
            found = await refusal(ask(f"{SERVICE}/{method}", metadata=(("authorization", "Bearer "),)))
            assert found.code() is grpc.StatusCode.PERMISSION_DENIED

    talk(serve("tumours", grpc_port=0), asking)


def test_a_port_that_is_taken_is_named(serve: Serve) -> None:
    """Verify the message of a second server on one port."""

    first = serve("tumours", grpc_port=0)

    async def run() -> None:
        one = grpc_server(first)
        port = await one.start()
        with pytest.raises(PortInUseError, match=str(port)):
            await grpc_server(serve("tumours", grpc_port=port)).start()
        await one.stop(0.0)

    first.loop.run_until_complete(run())


def test_grpc_is_not_imported_where_nobody_asked_for_it(folders: dict[str, Path]) -> None:
    """Verify that a server without a gRPC port pays for neither grpc nor protobuf."""
    code = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom serving.runtime import bundle\n"
        "from serving.runtime.app import Server\nfrom serving.runtime.options import Options\n"
        "loop = asyncio.new_event_loop()\n"
        "Server([bundle.load(Path(sys.argv[1]))], Options(port=0), loop)\n"
        "print([m for m in ('grpc', 'google.protobuf') if m in sys.modules])"
    )
    asked = subprocess.run(
        [sys.executable, "-c", code, str(folders["tumours"])], capture_output=True, text=True, check=True
    )
    assert asked.stdout.strip() == "[]"
