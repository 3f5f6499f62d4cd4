"""One loaded model version: from requests to their answers, and what stands in where the model does not answer.

The only place where the parts of a prediction meet: features up their ladder, transformations, vector, model;
then a cache's, another model's or a stated answer. Whatever protocol a request came by ends here.
"""

from __future__ import annotations

import math
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.runtime import records
from serving.runtime.bundle import Bundle
from serving.runtime.contract import Contract
from serving.runtime.engines.engine import DTYPES, Array, Engine, ModelError, TensorSpec
from serving.runtime.features.ladder import RUNGS, Ladder
from serving.runtime.flow.breaker import Breaker
from serving.runtime.flow.cache import PredictionCache
from serving.runtime.flow.call import ANSWERERS, PENDING, AnsweredBy, Call, Outcome
from serving.runtime.flow.costs import Costs, measure
from serving.runtime.payload.queue import RecordQueue
from serving.runtime.refusal import ModelFailed, Refusal, Unavailable
from serving.runtime.signature import Signature
from serving.runtime.vectors import Vectors
from windlass.errors import WindlassError

ISOLATED = frozenset(("pyfunc", "keras", "skops"))
"""Engines that run Python that is not ours: never on the event loop."""
TRACES_APART_S = 1.0
QUICK_S = 0.002
_new = tuple.__new__


@dataclass
class Counts:
    """What was answered, for the metrics page."""

    rows: dict[AnsweredBy, int] = field(default_factory=lambda: dict.fromkeys(ANSWERERS, 0))
    failures: int = 0


class Served:
    """See `lane.Work`, whose methods these are.

    Args:
        fallback: what answers when the model does not; takes and gives what the model does.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        form: str,
        ladder: Ladder,
        sink: RecordQueue | None,
        breaker: Breaker,
        *,
        fallback: Engine | None = None,
    ) -> None:
        self.bundle = bundle
        self.name = f"{bundle.model} version {bundle.version}"
        self.ladder = ladder
        self.sink = sink
        self.breaker = breaker
        self.counts = Counts()
        signature = Signature(bundle) if bundle.inputs else None
        self._signature = signature
        self._vectors = Vectors(bundle, signature) if signature else None
        self._engine = engine
        self._fallback = fallback
        self._fallback_lock = threading.Lock()
        self._fallback_is_quick = fallback is not None and fallback.format not in ISOLATED
        self.cache = PredictionCache(bundle.cache, signature.names) if bundle.cache and signature else None
        self._traced = -TRACES_APART_S
        self.contract = Contract(
            bundle.model, bundle.version, signature, engine.inputs, engine.outputs, form, _parameters(bundle)
        )
        self._static = _static_answer(bundle)
        self.immediate = ladder.immediate
        self.threaded = not {e.format for e in (engine, fallback) if e is not None}.isdisjoint(ISOLATED)
        self._example = [_example(s, signature) for s in engine.inputs]
        self.costs: Costs = measure(engine, self._example)
        if self._fallback_is_quick and fallback is not None:
            # on the event loop it runs only where nobody notices
            self._fallback_is_quick = measure(fallback, self._example).single_s < QUICK_S
        self.batches = self.costs.batches and _rows_are_free(engine)

    def expected_s(self, rows: int) -> float:
        costs = self.costs
        return costs.single_s if rows == 1 else costs.single_s + (rows - 1) * costs.row_s

    # ---- features

    def prepare(self, calls: Sequence[Call]) -> None:
        """Look up the features of the calls that name entities."""
        asking = [c for c in calls if c.asked.rows is not None]
        if asking:
            entities, nows = _keys(asking)
            self._hand_out(asking, self.ladder.climb(entities, nows))

    async def prepare_later(self, calls: Sequence[Call]) -> None:
        """Look up the same without holding up the event loop."""
        asking = [c for c in calls if c.asked.rows is not None]
        if asking:
            entities, nows = _keys(asking)
            # the lane watches each request's own: one in a hurry must not cost the others their features
            deadline = max(c.deadline for c in asking)
            self._hand_out(asking, await self.ladder.climb_async(entities, nows, deadline))

    def _hand_out(self, calls: Sequence[Call], found: list[Any]) -> None:
        at = 0
        for call in calls:
            call.features = found[at : at + call.asked.count]
            at += call.asked.count
            if len(call.features) == 1:
                call.source = call.features[0].source
            else:
                call.source = max((f.source for f in call.features), key=RUNGS.index)

    # ---- the model

    def run(self, calls: Sequence[Call]) -> list[Outcome]:
        if self._vectors is None:
            return self._run(calls, _joined(calls))
        try:
            matrix = self._vectors.matrix(calls)
        except Exception as problem:
            if len(calls) > 1:
                return self._apart(calls, self._vectors)
            if isinstance(problem, Refusal):
                return [Outcome([], "model", problem)]
            self._trace(problem)  # a transformation is the model's own code, and fails as the model does
            return [self._stated(calls[0], self._failure(problem))]
        return self._run(calls, [matrix]) if self.cache is None else self._run_cached(calls, matrix)

    def _run(self, calls: Sequence[Call], arrays: Sequence[Array]) -> list[Outcome]:
        admission = self.breaker.admit()
        if admission == "refused":
            text = f"model {self.name} has failed repeatedly and is left alone for a while"
            return self._instead(calls, arrays, Unavailable(text))
        began = time.perf_counter()
        try:
            outputs = self._infer(self._engine, arrays)
        except Exception as problem:  # whatever a model raises costs its own request and nothing else
            self.counts.failures += 1
            self._trace(problem)
            if not self._works():
                self.breaker.failed(admission, time.perf_counter() - began)
            else:
                self.breaker.succeeded(admission)
                if len(calls) > 1:
                    return self._one_by_one(calls)
            return self._instead(calls, arrays, self._failure(problem))
        if all(c.outcome is not PENDING for c in calls):  # each was answered without it: its time was over
            self.breaker.failed(admission, time.perf_counter() - began)
        else:
            self.breaker.succeeded(admission)
        return _outcomes(calls, outputs, "model")

    def _failure(self, problem: Exception) -> ModelFailed:
        # what other code raises may say more than a caller should read
        text = str(problem) if isinstance(problem, WindlassError) else "it failed; the server's log says why"
        return ModelFailed(f"model {self.name}: {text}")

    def _works(self) -> bool:
        """Whether the model still answers what it answered at load: that tells its failure from a request's."""
        try:
            self._infer(self._engine, self._example)
        except Exception:
            return False
        return True

    def _infer(self, engine: Engine, arrays: Sequence[Array]) -> list[Any]:
        """Run the model; the output of a model of rows becomes a list of plain numbers.

        Raises:
            ModelError: it failed or gave something that is no answer.
        """
        outputs = engine.run(arrays)
        if self._signature is None:
            return list(outputs)
        scores: Any = outputs[0]
        if scores.ndim == 2 and scores.shape[1] == 1:
            scores = scores.reshape(-1)
        if scores.dtype.kind == "f" and not math.isfinite(scores.sum()):
            wrong = scores[~np.isfinite(scores)].flat[0]
            raise ModelError(f"the model gave {wrong} as a score")
        return [scores.tolist()]

    def _run_cached(self, calls: Sequence[Call], matrix: NDArray[np.float32]) -> list[Outcome]:
        """Take from the cache the calls all of whose rows are in it, and run the others."""
        cache = self.cache
        if cache is None:
            return self._run(calls, [matrix])
        keys = cache.keys(matrix)
        outcomes: dict[int, Outcome] = {}
        missed: list[tuple[int, int, int]] = []
        at = 0
        for i, call in enumerate(calls):
            end = at + call.asked.count
            scores = cache.get(keys[at:end])
            if scores is not None:
                outcomes[i] = Outcome([scores], "cache", None)
            else:
                missed.append((i, at, end))
            at = end
        if missed:
            rows = np.concatenate([matrix[a:b] for _, a, b in missed])
            ran = self._run([calls[i] for i, _, _ in missed], [rows])
            for (i, a, b), outcome in zip(missed, ran, strict=True):
                outcomes[i] = outcome
                if outcome.answered_by == "model" and outcome.problem is None:
                    cache.put(keys[a:b], outcome.outputs[0])
        return [outcomes[i] for i in range(len(calls))]

    # ---- without the model

    def _apart(self, calls: Sequence[Call], vectors: Vectors) -> list[Outcome]:
        """Leave out the calls whose inputs are refused, and run the others together as before."""
        outcomes: dict[int, Outcome] = {}
        for i, call in enumerate(calls):
            try:
                vectors.matrix([call])
            except Exception:
                outcomes[i] = self.run([call])[0]
        rest = [i for i in range(len(calls)) if i not in outcomes]
        # none is left out where they fail only together: then each is run alone
        together = self.run if outcomes else self._one_by_one
        if rest:
            outcomes.update(zip(rest, together([calls[i] for i in rest]), strict=True))
        return [outcomes[i] for i in range(len(calls))]

    def _one_by_one(self, calls: Sequence[Call]) -> list[Outcome]:
        """Find out which of the calls is at fault: no request pays for its neighbour's."""
        return [self.run([call])[0] for call in calls]

    def _instead(
        self,
        calls: Sequence[Call],
        arrays: Sequence[Array],
        problem: Refusal,
    ) -> list[Outcome]:
        """Answer by the fallback model, else by the stated answer, else not."""
        if self._fallback is not None:
            try:
                with self._fallback_lock:
                    outputs = self._infer(self._fallback, arrays)
                return _outcomes(calls, outputs, "fallback")
            except Exception as second:
                self._trace(second)
        return [self._stated(c, problem) for c in calls]

    def _stated(self, call: Call, problem: Refusal) -> Outcome:
        if self._static is None:
            return Outcome([], "model", problem)
        return Outcome([[self._static] * call.asked.count], "static", None)

    def instead(self, calls: Sequence[Call], problem: Refusal) -> None:
        self.finished(calls, [self._without_model(c, problem) for c in calls])

    def _without_model(self, call: Call, problem: Refusal) -> Outcome:
        ready = call.asked.rows is None or call.features is not None
        if not self._fallback_is_quick or self._vectors is None or not ready or self._fallback_lock.locked():
            return self._stated(call, problem)
        try:
            matrix = self._vectors.matrix([call])
        except Exception as fault:  # this request's own: nothing answers what cannot be asked
            return Outcome([], "model", fault) if isinstance(fault, Refusal) else self._stated(call, problem)
        return self._instead([call], [matrix], problem)[0]

    # ---- the answers

    def finished(self, calls: Sequence[Call], outcomes: Sequence[Outcome]) -> None:
        kept: list[bytes] = []
        count = 0
        rows = self.counts.rows
        ended = time.perf_counter()
        for call, outcome in zip(calls, outcomes, strict=True):
            if call.finish(outcome) and outcome.problem is None:
                rows[outcome.answered_by] += call.asked.count
                if self.sink is not None:
                    kept.append(records.lines(call, self.contract, ended))
                    count += 1 if call.asked.values is not None else call.asked.count
        if self.sink is not None and count:
            self.sink.append_lines(b"".join(kept), count)

    def _trace(self, problem: Exception) -> None:
        now = time.monotonic()
        if now - self._traced >= TRACES_APART_S:  # a model that fails at every request must not fill the disk
            self._traced = now
            traceback.print_exception(problem, file=sys.stderr)


def _outcomes(calls: Sequence[Call], outputs: list[Any], by: AnsweredBy) -> list[Outcome]:
    if len(calls) == 1:
        return [Outcome(outputs, by, None)]
    if len(outputs) == 1 and len(outputs[0]) == len(calls) and outputs[0].__class__ is list:
        # one row each, the common case; a named tuple's own constructor would cost three times as much
        return [_new(Outcome, ([[score]], by, None)) for score in outputs[0]]
    made, at = [], 0
    for call in calls:
        end = at + call.asked.count
        made.append(Outcome([o[at:end] for o in outputs], by, None))
        at = end
    return made


def _joined(calls: Sequence[Call]) -> list[Array]:
    """The inputs of a model of tensors, the rows of all calls behind each other."""
    inputs = zip(*(c.asked.arrays or () for c in calls), strict=True)
    return [i[0] if len(i) == 1 else np.concatenate(i) for i in inputs]


def _keys(calls: Sequence[Call]) -> tuple[list[dict[str, str]], list[float]]:
    entities, nows = [], []
    for call in calls:
        for row in call.asked.rows or ():
            entities.append(row.entities)
            nows.append(call.at)
    return entities, nows


def _parameters(bundle: Bundle) -> dict[str, Any]:
    parameters: dict[str, Any] = {"feature_service": bundle.feature_service}
    if bundle.classes:
        parameters["classes"] = list(bundle.classes)
    return parameters


def _static_answer(bundle: Bundle) -> Any:
    """What is stated for one row: a number, or a list for an output of several columns."""
    if bundle.static_answer is None:
        return None
    columns = bundle.tensor_outputs[0].shape[1:]
    return list(bundle.static_answer) if columns else bundle.static_answer[0]


def _example(spec: TensorSpec, signature: Signature | None) -> Array:
    """One row for measuring: zeros, since what is missing is cheap for some models and costly for none."""
    dtype = DTYPES[spec.datatype]
    shape = [1, *(max(1, size) for size in spec.shape[1:])]
    if signature is not None:
        shape = [1, signature.width]
    return np.full(shape, "", dtype=object) if dtype.kind == "O" else np.zeros(shape, dtype=dtype)


def _rows_are_free(engine: Engine) -> bool:
    """Whether the first dimension of all tensors is open, and the others are known: rows can be put together."""
    specs = (*engine.inputs, *engine.outputs)
    return all(s.shape and s.shape[0] == -1 for s in specs) and all(
        -1 not in s.shape[1:] for s in engine.inputs
    )
