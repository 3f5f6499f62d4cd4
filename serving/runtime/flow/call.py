"""One inference request on its way through a lane, whatever protocol it came by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.runtime.engines.engine import Array
from serving.runtime.features.ladder import Features, Source
from serving.runtime.refusal import Refusal
from serving.runtime.signature import Row

AnsweredBy = Literal["model", "cache", "fallback", "static"]
ANSWERERS: tuple[AnsweredBy, ...] = ("model", "cache", "fallback", "static")


@dataclass(slots=True)
class Asked:
    """What a request asks of a model. One of `rows`, `values` and `arrays` is given.

    Attributes:
        count: number of rows.
        rows: entity keys and request fields.
        values: all inputs of all rows, one row after the other, of a model that needs nothing else: doubles as
            bytes, which are joined and handed to numpy without a copy for each, or [count, F].
        text: of `values` as JSON, without brackets, where it came so.
        arrays: the inputs of a model of tensors, in the engine's order.
        id: the id that the message states, to be given back.
        outputs: the outputs asked for; None for all.
        binary: of those, the ones to be sent as raw bytes.
    """

    count: int
    rows: list[Row] | None = None
    values: bytes | NDArray[np.float32] | None = None
    arrays: list[Array] | None = None
    id: str | None = None
    outputs: Sequence[str] | None = None
    binary: Sequence[str] = ()
    text: bytes | None = None


class Outcome(NamedTuple):
    """What a run made of one call.

    Attributes:
        outputs: for each output of the model its rows, as an array or as a list of plain numbers; empty with a problem.
    """

    outputs: list[Any]
    answered_by: AnsweredBy
    problem: Refusal | None


PENDING = Outcome([], "model", None)
"""Of a call that nothing came of yet."""


@dataclass(slots=True, eq=False)
class Call:
    """A request, and in the end its answer or its refusal.

    Attributes:
        at: "now" of its features, epoch seconds.
        deadline: on the event loop's clock; after it nobody reads the answer any more.
        started: `time.perf_counter()` when the request was complete.
        reply: called once, on the event loop, with `outcome` there.
        context: what `reply` needs (the exchange, the future).
        features: for each row, what the ladder gave.
        source: the lowest rung that a feature of this request came from.
        vectors: for each of `asked.rows` the model's inputs before rounding to float32.
        route, unit: what the router says of why this version, and of whom; None where it says nothing.
    """

    asked: Asked
    request_id: str
    at: float
    deadline: float
    started: float
    reply: Callable[[Call], None]
    context: Any = None
    mirrored: bool = False
    features: list[Features] | None = None
    source: Source = "online"
    vectors: list[list[float]] | None = None
    outcome: Outcome = PENDING
    route: bytes | str | None = None
    unit: bytes | str | None = None

    def finish(self, outcome: Outcome) -> bool:
        """Hand over what came of it; False where it was answered before: its model came back after its deadline."""
        if self.outcome is not PENDING:
            return False
        self.outcome = outcome
        self.reply(self)
        return True
