"""The fuzzer's side of the wire: connections that send cases and hold every answer to what was expected.

Beside the one that is fuzzed stand others that must not notice: a canary that is asked all the time on one connection,
clients that send a byte now and then, requests that are never finished, and a crowd of idle connections.
"""

from __future__ import annotations

import json
import math
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from benchmarks.serving import fuzz_documents
from benchmarks.serving.fuzz_case import Case, Expected, encoded, one
from benchmarks.serving.fuzz_subject import plain_scores

PATIENCE_S = 30.0
TOLERANCE = 1e-4
PREDICTIONS = ("probability", "probabilities", "total")


class LostError(Exception):
    """The connection ended, or the answer did not come."""


@dataclass(frozen=True)
class Answer:
    """A response as it was read."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One connection, which is opened when it is needed and again after its end."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._buffer = b""
        self.opened = 0

    def send(self, data: bytes) -> None:
        """Write; a server that has ended the connection already is noticed by who reads."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._buffer = b""
            self.opened += 1
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def read(self, *, head: bool = False) -> Answer:
        """Read one response.

        Raises:
            LostError: the connection ended first, or nothing came in time.
        """
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        text, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = text.decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = 0 if head else int(headers["content-length"])
        while len(self._buffer) < length:
            self._receive()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return Answer(int(first.split()[1]), headers, body)

    def ended(self) -> bool:
        """Whether the server ends the connection without another word."""
        try:
            self._receive()
        except LostError as error:
            return str(error) != "timed out"
        return False

    def half_close(self) -> None:
        if self._socket is not None:
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _receive(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(1 << 18)
        except OSError as error:
            raise LostError(str(error) or type(error).__name__) from None
        if not data:
            raise LostError("the server closed the connection")
        self._buffer += data


def exchange(connection: Connection, case: Case) -> tuple[list[int], list[str]]:
    """Send a case and read what comes; returns the statuses and what is wrong with them."""
    for piece in case.pieces:
        connection.send(piece)
    if case.half_close:
        connection.half_close()
    statuses: list[int] = []
    problems: list[str] = []
    closes = case.half_close
    for expected in case.expected:
        try:
            answer = connection.read(head=expected.head)
        except LostError as error:
            problems.append(f"no answer {len(statuses) + 1} of {len(case.expected)}: {error}")
            connection.close()
            return statuses, problems
        statuses.append(answer.status)
        problems += judged(answer, expected)
        closes |= expected.closes or answer.headers.get("connection") == "close"
    if closes:
        if not connection.ended():
            problems.append("the connection stays open")
        connection.close()
    return statuses, problems


def judged(answer: Answer, expected: Expected) -> list[str]:
    """What is wrong with an answer."""
    problems = []
    if answer.status not in expected.statuses:
        problems.append(
            f"{answer.status} {answer.body[:200]!r}, expected {sorted(expected.statuses)} {expected.names}"
        )
    elif answer.status != 200:
        problems += message_problems(_message(answer.body), expected.names)
    elif expected.scores is not None:
        problems += score_problems(_scores(answer), expected.scores)
    closes = answer.headers.get("connection") == "close"
    if closes != expected.closes and answer.status in expected.statuses and expected.closes:
        problems.append(f"{answer.status} keeps the connection, whose framing is broken")
    if closes and not expected.closes:
        problems.append(f"{answer.status} closes the connection")
    return problems


def message_problems(message: str, names: Sequence[str]) -> list[str]:
    """Whether a refusal says what is wrong."""
    if not message:
        return ["a refusal without a message"]
    return [f"{message!r} does not name {name!r}" for name in names if name not in message]


def score_problems(given: Sequence[Any], wanted: Sequence[float]) -> list[str]:
    """Whether the scores are the model's."""
    right = len(given) == len(wanted) and all(
        isinstance(g, int | float) and math.isclose(g, w, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        for g, w in zip(given, wanted, strict=True)
    )
    return [] if right else [f"scores {list(given)[:4]}, expected {list(wanted)[:4]}"]


def _message(body: bytes) -> str:
    try:
        message = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    return message if isinstance(message, str) else ""


def _scores(answer: Answer) -> list[Any]:
    length = answer.headers.get("inference-header-content-length")
    text, raw = (
        (answer.body, b"") if length is None else (answer.body[: int(length)], answer.body[int(length) :])
    )
    document = json.loads(text)
    if "predictions" in document:
        return list(document["predictions"])
    for output in document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        content, raw = (b"", raw) if size is None else (raw[:size], raw[size:])
        if output["name"] in PREDICTIONS:
            return list(output["data"]) if size is None else list(struct.unpack(f"<{size // 4}f", content))
    return []


class Bystanders:
    """Connections that what happens on others must not touch.

    Args:
        idle: how many only stand there.
        unfinished: how many hold a request that never ends.
        slow: how many send a byte at a time.
    """

    def __init__(self, port: int, random: Random, *, idle: int, unfinished: int, slow: int) -> None:
        self._random = random
        self._canary = Connection(port)
        self._idle = [Connection(port) for _ in range(idle)]
        self._unfinished = [Connection(port) for _ in range(unfinished)]
        self._slow = [(Connection(port), self._request(), [0]) for _ in range(slow)]
        for connection in self._unfinished:
            wire = self._request().pieces[0]
            connection.send(wire[: random.randrange(1, len(wire))])
        for connection in self._idle:
            connection.send(b"\r\n")  # allowed before a request, and nothing yet

    def _request(self) -> Case:
        rows = fuzz_documents.rows_of(self._random, 1)
        expected = Expected(frozenset((200,)), scores=plain_scores(rows))
        return one("/v2/models/plain/infer", encoded(fuzz_documents.plain_v2(rows)), expected)

    def ask(self) -> list[str]:
        """Ask on the canary's connection, and let every slow client send its next byte."""
        problems = self._answered(self._canary)
        for connection, case, at in self._slow:
            wire, begin = case.pieces[0], at[0]
            at[0] = begin + 1
            connection.send(wire[begin : begin + 1])
            if at[0] == len(wire):
                at[0] = 0
                try:
                    problems += judged(connection.read(), case.expected[0])
                except LostError as error:
                    problems.append(f"a slow client: {error}")
        return [f"canary: {problem}" for problem in problems]

    def leave(self) -> list[str]:
        """Ask on every connection that has been idle, and close all of them; says which one had been lost."""
        problems = [f"idle: {p}" for connection in self._idle for p in self._answered(connection)]
        everyone = [self._canary, *self._idle, *self._unfinished, *(slow for slow, _, _ in self._slow)]
        problems += ["a bystander's connection was opened again" for c in everyone if c.opened > 1]
        for connection in everyone:
            connection.close()
        return problems

    def _answered(self, connection: Connection) -> list[str]:
        return exchange(connection, self._request())[1]
