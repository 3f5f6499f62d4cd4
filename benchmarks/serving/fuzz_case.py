"""One fuzzed exchange: the bytes that go over a connection, and what must come back for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

OK = frozenset((200,))
BAD = frozenset((400,))
UNKNOWN = frozenset((404,))

PLAIN_V1 = "/v1/models/plain:predict"
PLAIN_V2 = "/v2/models/plain/infer"
KEYED_V1 = "/v1/models/keyed:predict"
KEYED_V2 = "/v2/models/keyed/infer"
TENSORS_V2 = "/v2/models/tensors/infer"
CLASSES_V2 = "/v2/models/classes/infer"


@dataclass(frozen=True)
class Expected:
    """What must come back for one request.

    Attributes:
        names: what the message of a refusal must hold, each of them.
        scores: the numbers that a 200 must answer; None where any will do.
        head: whether the response has no body.
        closes: whether the server must close the connection after it.
    """

    statuses: frozenset[int]
    names: tuple[str, ...] = ()
    scores: Sequence[float] | None = None
    head: bool = False
    closes: bool = False


@dataclass(frozen=True)
class Case:
    """Bytes for one connection.

    Attributes:
        pieces: written one after the other; a turn of the server's event loop may come between them.
        expected: of the responses, in their order.
        half_close: whether the client then says that it has nothing more to send.
    """

    pieces: tuple[bytes, ...]
    expected: tuple[Expected, ...]
    half_close: bool = False


Mutation = Callable[[Random], Case]


def answered(scores: Sequence[float] | None = None) -> Expected:
    """A 200."""
    return Expected(OK, scores=scores)


def refused(*names: str, statuses: frozenset[int] = BAD) -> Expected:
    """A refusal that leaves the connection as it was."""
    return Expected(statuses, names)


def broken(*names: str, statuses: frozenset[int] = BAD) -> Expected:
    """A refusal after which nobody knows where the next request starts."""
    return Expected(statuses, names, closes=True)


def request(
    path: str, body: bytes, headers: Mapping[str, str | int] | None = None, *, method: str = "POST"
) -> bytes:
    """Write a request with a length; a header replaces the one that would be written."""
    written = {
        "host": "fuzz",
        "content-type": "application/json",
        "content-length": len(body),
        **(headers or {}),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in written.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("utf-8", "surrogateescape") + body


def one(path: str, body: bytes, expected: Expected, headers: Mapping[str, str | int] | None = None) -> Case:
    """A case of one request, which is framed well."""
    return Case((request(path, body, headers),), (expected,))


def encoded(document: object) -> bytes:
    """JSON with the numbers that are none."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def tensor(name: str, datatype: str, shape: Sequence[int], data: object) -> dict[str, Any]:
    """A tensor of V2, in JSON."""
    return {"name": name, "datatype": datatype, "shape": list(shape), "data": data}
