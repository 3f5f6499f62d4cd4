"""A connection to redis for the event loop: many commands in one write, replies matched by their order.

The only importer of hiredis, which packs commands and parses replies; everything between is here, because a
general client spends more on a command than the command costs. What it holds to:

- A question is answered once: with its replies, or with the reason why there are none, no later than it is due.
- A question whose asker has gone stays in line, and its replies are dropped when they come. When the oldest
  question is overdue the connection is replaced, so nothing that still comes over it can answer another.
- A connection that was lost is opened again for what was under way, once, a random moment later. Who asks again
  after that, and when, is the breaker's business.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

import hiredis

from serving.runtime.features.reader import StoreBusyError, StoreError, StoreLostError, StoreTimeoutError
from serving.runtime.features.redis_address import Address

CONNECT_TIMEOUT_S = 1.0
RETRY_JITTER_S = 0.002
MOST_COMMANDS = 16_384  # without a reply yet
MOST_BYTES = 1 << 20  # of one reply
_INCOMPLETE = object()

Outcome = list[Any] | StoreError
Done = Callable[[Outcome], None]


def pack(*words: str | bytes) -> bytes:
    """One command as it goes over the wire."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type] # its stub takes one word
    return packed


class Replies:
    """What came over one connection, cut into replies.

    An error of redis is such a reply too, an `Exception`; inside a list it is an element of it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._parser = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._bytes = 0

    def take(self, data: bytes) -> list[Any]:
        """Return the replies that `data` completes.

        Raises:
            StoreError: this is not redis' protocol, or a reply is larger than any that was asked for.
        """
        found: list[Any] = []
        try:
            self._parser.feed(data)
            while (reply := self._parser.gets()) is not _INCOMPLETE:
                found.append(reply)
        except (hiredis.HiredisError, MemoryError) as error:
            raise StoreError(f"online store {self._name}: {str(error) or 'a reply without end'}") from error
        self._bytes = len(data) if found else self._bytes + len(data)
        if self._bytes > MOST_BYTES and self._parser.has_data():
            raise StoreError(f"online store {self._name}: one reply is larger than {MOST_BYTES} bytes")
        return found


@dataclass(slots=True)
class _Question:
    """Commands in one write; `done` is None once it was answered or given up."""

    payload: bytes
    commands: int
    due: float
    done: Done | None
    retried: bool = False
    replies: list[Any] = field(default_factory=list)

    def answer(self, outcome: Outcome) -> None:
        done, self.done = self.done, None
        if done is not None:
            done(outcome)


class _Wire(asyncio.Protocol):
    """One connection, from its opening to its end; its questions are in the order of their sending."""

    def __init__(self, connection: RedisConnection, address: Address) -> None:
        self.questions: deque[_Question] = deque()
        self._connection = connection
        self._entry = address.entry
        self._entered = 0
        self._name = address.name
        self._replies = Replies(address.name)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # questions follow at once: to wait until the entry is acknowledged costs a round trip more
        self._transport.write(b"".join(pack(*command) for command in self._entry))
        self._connection.opened(self)

    def send(self, question: _Question) -> None:
        assert self._transport is not None  # noqa: S101 - sent after connection_made only
        self.questions.append(question)
        self._transport.write(question.payload)

    def data_received(self, data: bytes) -> None:
        try:
            for reply in self._replies.take(data):
                self._match(reply)
        except StoreError as error:
            self.end(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.lost(self, exc)

    def end(self, error: StoreError) -> None:
        """Leave this connection; every question on it fails."""
        if self._transport is not None:
            self._transport.abort()
        self._connection.left(self)
        while self.questions:
            self.questions.popleft().answer(error)

    def _match(self, reply: Any) -> None:
        if self._entered < len(self._entry):
            if isinstance(reply, Exception):
                command = self._entry[self._entered][0]
                raise StoreError(f"online store {self._name}: {command} was refused: {str(reply)[:60]}")
            self._entered += 1
            return
        if not self.questions:
            raise StoreError(
                f"online store {self._name}: a reply to nothing that was asked: {str(reply)[:60]}"
            )
        question = self.questions[0]
        question.replies.append(reply)
        if len(question.replies) == question.commands:
            self.questions.popleft()
            question.answer(question.replies)


class RedisConnection:
    """The one connection of a reader, opened by the first question and again after it was lost.

    Belongs to the event loop that first asks. Nothing here blocks it.
    """

    def __init__(self, address: Address, *, random: Random | None = None) -> None:
        self._address = address
        self._random = random or Random()  # noqa: S311 - jitter, no secret
        self._wire: _Wire | None = None
        self._waiting: list[_Question] = []  # for a connection
        self._opening: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._looks_at = 0.0

    @property
    def connected(self) -> bool:
        return self._wire is not None

    def ask(self, payload: bytes, commands: int, budget_s: float, done: Done) -> None:
        """Send `commands` commands; `done` is called once, with as many replies or a StoreError."""
        loop = asyncio.get_running_loop()
        under_way = sum(q.commands for q in self._line())
        if under_way and under_way + commands > MOST_COMMANDS:
            done(
                StoreBusyError(
                    f"online store {self._address.name}: {under_way} commands wait for their replies"
                )
            )
            return
        question = _Question(payload, commands, loop.time() + budget_s, done)
        if self._wire is not None:
            self._wire.send(question)
        else:
            self._waiting.append(question)
            self._open(0.0)
        self._look_at(question.due)

    async def open(self) -> None:
        """Connect and enter, so that the first question finds a connection.

        Raises:
            StoreError: there is none.
        """
        answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.ask(pack("PING"), 1, CONNECT_TIMEOUT_S, answered.set_result)
        outcome = await asyncio.shield(answered)
        if isinstance(outcome, StoreError):
            raise outcome

    def close(self) -> None:
        """Leave; what is under way fails. A later question opens another connection."""
        error = StoreLostError(f"online store {self._address.name}: closed")
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._wire is not None:
            self._wire.end(error)
        self._fail_waiting(error)

    # ---- what a wire reports

    def opened(self, wire: _Wire) -> None:
        self._wire, self._opening = wire, None
        waiting, self._waiting = self._waiting, []
        for question in waiting:
            wire.send(question)

    def left(self, wire: _Wire) -> None:
        if wire is self._wire:
            self._wire = None

    def lost(self, wire: _Wire, error: Exception | None) -> None:
        self.left(wire)
        reason = StoreLostError(f"online store {self._address.name}: {error or 'the connection was closed'}")
        for question in wire.questions:
            if question.retried:
                question.answer(reason)
            elif question.done is not None:
                question.retried = True
                question.replies.clear()
                self._waiting.append(question)
        wire.questions.clear()
        if self._waiting:
            self._open(self._random.uniform(0.0, RETRY_JITTER_S))

    # ---- opening, and time

    def _open(self, delay_s: float) -> None:
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._connect(delay_s))

    async def _connect(self, delay_s: float) -> None:
        loop, address = asyncio.get_running_loop(), self._address
        wire = _Wire(self, address)
        try:
            if delay_s:
                await asyncio.sleep(delay_s)
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                if address.path is not None:
                    await loop.create_unix_connection(lambda: wire, address.path)
                else:
                    await loop.create_connection(lambda: wire, address.host, address.port, ssl=address.tls)
        except (OSError, TimeoutError, ValueError) as error:  # ValueError: a host name that is none
            self._opening = None
            reason = str(error) or f"no connection within {CONNECT_TIMEOUT_S:g} s"
            lost = StoreLostError(f"online store {address.name}: {reason}")
            # it may be open: where time is over just then, uvloop closes what it has announced, and tells nobody
            wire.end(lost)
            self._fail_waiting(lost)

    def _fail_waiting(self, error: StoreError) -> None:
        waiting, self._waiting = self._waiting, []
        for question in waiting:
            question.answer(error)

    def _look_at(self, when: float) -> None:
        if self._watch is not None:
            if self._looks_at <= when:
                return
            self._watch.cancel()
        # kept here: what uvloop gives for a moment that has come cannot be asked for it
        self._looks_at = when
        self._watch = asyncio.get_running_loop().call_at(when, self._look)

    def _look(self) -> None:
        """Answer what is overdue, and look again when the next is due."""
        self._watch = None
        now = asyncio.get_running_loop().time()
        error = StoreTimeoutError(f"online store {self._address.name}: no complete answer in time")
        if self._wire is not None and self._wire.questions and self._wire.questions[0].due <= now:
            self._wire.end(error)
        for question in self._line():
            if question.due <= now:
                question.answer(error)
        self._waiting = [q for q in self._waiting if q.done is not None]
        if dues := [q.due for q in self._line() if q.done is not None]:
            self._look_at(min(dues))

    def _line(self) -> Sequence[_Question]:
        """What is under way: sent over the wire, or waiting for one."""
        return self._waiting if self._wire is None else self._wire.questions
