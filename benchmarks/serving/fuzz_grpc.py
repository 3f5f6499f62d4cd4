"""Mutations of gRPC: messages that are cut, or say what cannot be, and HTTP/2 frames that are none."""

from __future__ import annotations

import functools
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from benchmarks.serving.fuzz_client import PATIENCE_S, message_problems, score_problems
from benchmarks.serving.fuzz_documents import rows_of
from benchmarks.serving.fuzz_subject import FEATURES, REQUIRED, plain_scores
from serving.runtime.protocol import messages

INFER = "/inference.GRPCInferenceService/ModelInfer"
METADATA = "/inference.GRPCInferenceService/ModelMetadata"
INVALID = frozenset(("INVALID_ARGUMENT",))
ABSENT = frozenset(("NOT_FOUND",))
TOO_LARGE = frozenset(("RESOURCE_EXHAUSTED", "OUT_OF_RANGE"))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
DATA, HEADERS, RST_STREAM, GOAWAY = 0, 1, 3, 7
END_STREAM, END_HEADERS = 1, 4


@dataclass(frozen=True)
class Case:
    """One call, or, where `frames` are given, bytes for a connection of their own.

    Attributes:
        codes: of which one must come back; "OK" with `scores`.
        names: what the message must hold, each of them.
    """

    body: bytes = b""
    codes: frozenset[str] = INVALID
    names: tuple[str, ...] = ()
    scores: list[float] | None = None
    method: str = INFER
    metadata: tuple[tuple[str, str], ...] = ()
    frames: bytes = b""


Mutation = Callable[[Random], Case]


@functools.cache
def _classes() -> dict[str, Any]:
    return messages.load()


def _request(random: Random, *, raw: bool) -> tuple[Any, Any]:
    """A valid request to the plain model, and its rows."""
    rows = rows_of(random)
    request = _classes()["inference.ModelInferRequest"](model_name="plain", id="a")
    tensor = request.inputs.add(name="features", datatype="FP32", shape=rows.shape)
    if raw:
        request.raw_input_contents.append(rows.astype("<f4").tobytes())
    else:
        tensor.contents.fp32_contents.extend(rows.ravel().tolist())
    return request, rows


def _accepted(request: Any, rows: Any, **more: Any) -> Case:
    return Case(request.SerializeToString(), frozenset(("OK",)), scores=plain_scores(rows), **more)


def _refused(request: Any, *names: str, codes: frozenset[str] = INVALID) -> Case:
    return Case(request.SerializeToString(), codes, names)


def valid(random: Random) -> Case:
    """A request as it should be."""
    request, rows = _request(random, raw=random.random() < 0.5)
    metadata = random.choice(
        ((), (("x-request-id", "a-1"),), (("x-envoy-expected-rq-timeout-ms", "9" * 500),))
    )
    if random.random() < 0.3:
        request.parameters["timeout"].int64_param = random.choice((5_000_000, (1 << 63) - 1))
    return _accepted(request, rows, metadata=metadata)


def missing(random: Random) -> Case:
    """NaN and infinities."""
    request, rows = _request(random, raw=True)
    row, column = random.randrange(len(rows)), random.randrange(FEATURES)
    rows[row, column] = random.choice((np.nan, np.nan, np.inf, -np.inf))
    request.raw_input_contents[0] = rows.astype("<f4").tobytes()
    if np.isinf(rows[row, column]) or column < REQUIRED:
        return _refused(request, f"f{column}")
    return _accepted(request, rows)


def cut(random: Random) -> Case:
    """A message that ends too early, or is none."""
    body = _request(random, raw=random.random() < 0.5)[0].SerializeToString()
    at = random.randrange(1, len(body))
    bodies = (
        body[:at],
        random.randbytes(random.randint(1, 200)),
        b"\xff" * at,
        body + b"\x0a\xff",
        b"\x0a\x02\xff\xfe",
    )
    return Case(random.choice(bodies), INVALID | ABSENT)


def absent(random: Random) -> Case:
    """Models and versions that nobody serves."""
    request, _ = _request(random, raw=True)
    if random.random() < 0.5:
        request.model_name = random.choice(("", "nobody", "é", "plain ", "x" * 4000))
        return _refused(request, "model", codes=ABSENT)
    request.model_version = random.choice(("3", "é", "01", "x" * 4000))
    return _refused(request, "version", codes=ABSENT)


def described(random: Random) -> Case:
    """A tensor that is described as it is not."""
    request, rows = _request(random, raw=random.random() < 0.5)
    tensor = request.inputs[0]
    way = random.randrange(5)
    if way == 0:
        tensor.datatype = random.choice(("", "FP33", "BYTES", "BOOL", "float"))
        return _refused(request, "[0]")
    if way == 1:
        shapes: tuple[list[int], ...] = (
            [],
            [-1, 30],
            [len(rows) + 1, 30],
            [30],
            [1 << 62, 30],
            [2] * 9,
            [0, 30],
            [1 << 40, 1 << 40],
        )
        del tensor.shape[:]
        tensor.shape.extend(random.choice(shapes))
        return _refused(request, "[0]")
    if way == 2:
        request.inputs.append(tensor)
        return _refused(request, "input")
    if way == 3:
        del request.inputs[:]
        return _refused(request, "input")
    request.outputs.add(name=random.choice(("", "nothing", "é" * 200)))
    return _refused(request, "outputs[0].name")


def contents(random: Random) -> Case:
    """Contents that are too few, too many, given twice, or in the field of another type."""
    raw = random.random() < 0.5
    request, _ = _request(random, raw=raw)
    if raw:
        content = request.raw_input_contents[0]
        way = random.randrange(3)
        if way == 0:
            request.raw_input_contents[0] = random.choice((content[:-1], content + b"\x00", b"", content * 2))
        elif way == 1:
            request.raw_input_contents.append(content)
        else:
            request.inputs[0].contents.fp32_contents.append(1.0)
        return _refused(request, "raw_input_contents" if way < 2 else "contents")
    values = request.inputs[0].contents
    if random.random() < 0.5:
        del values.fp32_contents[random.randrange(len(values.fp32_contents)) :]
    else:
        values.int_contents.extend([1] * len(values.fp32_contents))
        values.ClearField("fp32_contents")
    return _refused(request, "fp32_contents")


def stated(random: Random) -> Case:
    """Ids and times that cannot be meant."""
    request, _ = _request(random, raw=True)
    way = random.randrange(3)
    if way == 0:
        request.id = random.choice(("a b", "é", "x" * 129, "\x00", "a\r\nb"))
        return _refused(request, "id")
    if way == 1:
        request.parameters["timeout"].int64_param = random.choice((0, -1))
        return _refused(request, "timeout")
    return Case(request.SerializeToString(), names=("x-request-id",), metadata=(("x-request-id", "x" * 200),))


def large(random: Random) -> Case:
    """A message, or metadata, over the limit: gRPC itself refuses it."""
    request, _ = _request(random, raw=True)
    if random.random() < 0.3:
        request.raw_input_contents[0] = b"\x00" * (5 << 20)
        return _refused(request, codes=TOO_LARGE)
    return Case(request.SerializeToString(), TOO_LARGE, metadata=(("x-flood", "y" * 70_000),))


def other_method(random: Random) -> Case:
    """Methods that are not there, and messages of other methods."""
    if random.random() < 0.5:
        method = random.choice(
            ("/inference.GRPCInferenceService/Nothing", "/x.Y/Z", "/inference.Other/ModelInfer")
        )
        return Case(b"", frozenset(("UNIMPLEMENTED",)), method=method)
    name = random.choice((b"\x0a\x06nobody", b"\x0a\xff", b"\x0a\x02\xff\xfe", b""))
    return Case(name, INVALID | ABSENT, method=METADATA)


def _frame(kind: int, flags: int, stream: int, payload: bytes, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _headers() -> bytes:
    fields = {":method": "POST", ":scheme": "http", ":path": INFER, ":authority": "x", "te": "trailers",
              "content-type": "application/grpc"}  # fmt: skip
    # a literal that is not indexed, with a name of its own (RFC 7541, 6.2.2)
    return b"".join(
        b"\x00" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
        for name, value in fields.items()
    )


def frames(random: Random) -> Case:
    """A connection that is broken off or speaks no HTTP/2: it ends, or its call does, and nothing else."""
    body = _request(random, raw=True)[0].SerializeToString()
    begin = PREFACE + SETTINGS
    call = begin + _frame(HEADERS, END_HEADERS, 1, _headers())
    message = b"\x00" + struct.pack(">I", len(body)) + body
    at = random.randrange(1, len(message))
    sent = random.choice(
        (
            PREFACE[: random.randrange(1, len(PREFACE))],
            begin + random.randbytes(64),
            begin + _frame(HEADERS, END_HEADERS, 1, b"\xff" * 40),
            begin + _frame(HEADERS, END_HEADERS, 0, _headers()),
            begin + _frame(DATA, END_STREAM, 1, message),
            begin + _frame(DATA, 0, 1, b"", length=(1 << 24) - 1),
            call + _frame(DATA, END_STREAM, 1, message[:at]),
            call + _frame(DATA, 0, 1, message)[:at],
            call + _frame(DATA, END_STREAM, 1, b"\x00" + struct.pack(">I", 0xFFFFFFFF) + body),
            call + _frame(DATA, END_STREAM, 1, b"\x07" + message[1:]),
            call + _frame(DATA, 0, 1, message[:at]) + _frame(RST_STREAM, 0, 1, b"\x00\x00\x00\x08"),
            b"GET / HTTP/1.1\r\n\r\n",
        )
    )
    return Case(frames=sent)


class Client:
    """Sends gRPC cases over one channel, and frames over connections of their own."""

    def __init__(self, port: int) -> None:
        import grpc

        self._grpc = grpc
        self._port = port
        unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_metadata_size", 1 << 20)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=unlimited)
        self._canary = grpc.insecure_channel(
            f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
        )
        self._asked = 0
        # the server's health is asked for on its other port
        for channel in (self._channel, self._canary):
            grpc.channel_ready_future(channel).result(PATIENCE_S)

    def exchange(self, case: Case) -> tuple[list[str], list[str]]:
        """Send a case; returns the code and what is wrong with the answer."""
        if case.frames:
            return ["ended"], self._broken(case.frames)
        return self._called(self._channel, case)

    def ask(self) -> list[str]:
        """Ask on the canary's channel."""
        self._asked += 1
        request, rows = _request(Random(self._asked), raw=True)
        return [f"gRPC canary: {p}" for p in self._called(self._canary, _accepted(request, rows))[1]]

    def close(self) -> None:
        self._channel.close()
        self._canary.close()

    def _called(self, channel: Any, case: Case) -> tuple[list[str], list[str]]:
        call = channel.unary_unary(case.method)
        try:
            answer = call(case.body, timeout=PATIENCE_S, metadata=case.metadata)
        except self._grpc.RpcError as error:
            code, message = error.code().name, error.details() or ""
            if code not in case.codes:
                return [code], [f"{code} {message[:200]!r}, expected {sorted(case.codes)} {case.names}"]
            return [code], message_problems(message, case.names)
        if "OK" not in case.codes:
            return ["OK"], [f"OK, expected {sorted(case.codes)} {case.names}"]
        response = _classes()["inference.ModelInferResponse"].FromString(answer)
        raw = response.raw_output_contents
        given = (
            np.frombuffer(raw[0], "<f4").tolist() if raw else list(response.outputs[0].contents.fp32_contents)
        )
        return ["OK"], score_problems(given, case.scores or [])

    def _broken(self, sent: bytes) -> list[str]:
        with socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE_S) as connection:
            try:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass
            except TimeoutError:
                return ["a broken connection stays open"]
            except OSError:
                return []
        return []


MUTATIONS: dict[str, Mutation] = {
    "gRPC valid": valid,
    "gRPC missing value": missing,
    "gRPC cut message": cut,
    "gRPC unknown model": absent,
    "gRPC tensor": described,
    "gRPC contents": contents,
    "gRPC ids and times": stated,
    "gRPC too large": large,
    "gRPC method": other_method,
    "gRPC frames": frames,
}
