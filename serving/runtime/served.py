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
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from serving.runtime.bundle import Bundle
from serving.runtime.contract import Contract
from serving.runtime.engines.engine import DTYPES, Array, Engine, ModelError, TensorSpec
from serving.runtime.features.ladder import RUNGS, Ladder
from serving.runtime.flow.breaker import Breaker
from serving.runtime.flow.cache import PredictionCache
from serving.runtime.flow.call import ANSWERERS, AnsweredBy, Call, Outcome, Vectors
from serving.runtime.flow.costs import Costs, measure
from serving.runtime.payload.queue import RecordQueue
from serving.runtime.refusal import ModelFailed, Refusal, Unavailable
from serving.runtime.signature import Signature
from windlass.errors import WindlassError

if TYPE_CHECKING:
    from serving.runtime.features.transformations import Transformations

ISOLATED = frozenset(("pyfunc", "keras", "skops"))
"""Engines that run Python that is not ours: never on the event loop."""
TRACES_APART_S = 1.0


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
        self._transformations = _transformations(bundle)
        self._engine = engine
        self._fallback = fallback
        self._fallback_lock = threading.Lock()
        self.cache = PredictionCache(bundle.cache, signature.names) if bundle.cache and signature else None
        self._traced = -TRACES_APART_S
        self.contract = Contract(
            bundle.model, bundle.version, signature, engine.inputs, engine.outputs, form, _parameters(bundle)
        )
        self._static = _static_answer(bundle)
        self._width = signature.width if signature else 0
        self.immediate = ladder.immediate
        self.threaded = engine.format in ISOLATED
        self._example = [_example(s, signature) for s in engine.inputs]
        self.costs: Costs = measure(engine, self._example)
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
            deadline = min(c.deadline for c in asking)
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
        if self._signature is None:
            arrays = [
                calls[0].asked.arrays[i]
                if len(calls) == 1
                else np.concatenate([c.asked.arrays[i] for c in calls])  # type: ignore[index]
                for i in range(len(self.contract.inputs))
            ]
            return self._run(calls, arrays, None)
        try:
            buffer = self._assemble(calls)
        except Exception as problem:  # a transformation is the model's own code, and fails as the model does
            if len(calls) > 1:
                return self._one_by_one(calls)
            self._trace(problem)
            return [self._stated(calls[0], self._failure(problem))]
        with np.errstate(over="ignore"):
            # a stored double beyond float32 is infinite to the model, as it was in training
            matrix = np.frombuffer(buffer).astype(np.float32).reshape(-1, self._width)
        if self._signature.plain and not math.isfinite(matrix.sum()):
            try:
                self._signature.check(matrix, "inputs")
            except Refusal as problem:
                return self._one_by_one(calls) if len(calls) > 1 else [Outcome([], "model", problem, None)]
        if self.cache is not None:
            return self._run_cached(calls, matrix, buffer)
        return self._run(calls, [matrix], buffer)

    def _assemble(self, calls: Sequence[Call]) -> array[float]:
        """Put the inputs of all rows behind each other, in the model's order."""
        signature = self._signature
        assert signature is not None
        if len(calls) == 1 and calls[0].asked.values.__class__ is array:
            return calls[0].asked.values  # type: ignore[return-value]
        buffer = array("d")
        for call in calls:
            asked = call.asked
            if asked.values is not None:
                values = asked.values
                buffer += (
                    values if isinstance(values, array) else array("d", values.astype(np.float64).tobytes())
                )
                continue
            rows, features = asked.rows or (), call.features or ()
            joined = [f.values + r.values for r, f in zip(rows, features, strict=True)]
            if self._transformations is not None:
                self._transform(call, joined)
            for values in joined:
                buffer.fromlist(signature.vector(values))
        return buffer

    def _transform(self, call: Call, joined: list[list[float]]) -> None:
        """Append to each row what the transformations make of its features and fields."""
        assert self._transformations is not None and self._signature is not None
        names = [f for v in self.bundle.views for f in v.features] + [f.name for f in self._signature.fields]
        columns: dict[str, list[Any]] = {n: [row[i] for row in joined] for i, n in enumerate(names)}
        for name, _ in self._signature.entities:
            columns[name] = [row.entities[name] for row in call.asked.rows or ()]
        made = self._transformations.apply(columns)
        for i, row in enumerate(joined):
            row.extend(float(made[name][i]) for name in self._signature.transformed)

    def _run(
        self, calls: Sequence[Call], arrays: Sequence[Array], buffer: array[float] | None
    ) -> list[Outcome]:
        admission = self.breaker.admit()
        if admission == "refused":
            text = f"model {self.name} has failed repeatedly and is left alone for a while"
            return self._instead(calls, arrays, buffer, Unavailable(text))
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
            return self._instead(calls, arrays, buffer, self._failure(problem))
        if all(c.outcome is not None for c in calls):  # each was answered without it: its time was over
            self.breaker.failed(admission, time.perf_counter() - began)
        else:
            self.breaker.succeeded(admission)
        return self._outcomes(calls, outputs, "model", buffer)

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

    def _outcomes(
        self, calls: Sequence[Call], outputs: list[Any], by: AnsweredBy, buffer: array[float] | None
    ) -> list[Outcome]:
        if len(calls) == 1:
            return [Outcome(outputs, by, None, self._vectors(buffer, 0, calls[0].asked.count))]
        made, at = [], 0
        for call in calls:
            end = at + call.asked.count
            made.append(Outcome([o[at:end] for o in outputs], by, None, self._vectors(buffer, at, end)))
            at = end
        return made

    def _vectors(self, buffer: array[float] | None, start: int, end: int) -> Vectors | None:
        if buffer is None:
            return None
        width = self._width
        return [buffer[i * width : (i + 1) * width].tolist() for i in range(start, end)]

    def _run_cached(
        self, calls: Sequence[Call], matrix: NDArray[np.float32], buffer: array[float]
    ) -> list[Outcome]:
        """Take from the cache the calls all of whose rows are in it, and run the others."""
        assert self.cache is not None
        keys = self.cache.keys(matrix)
        outcomes: dict[int, Outcome] = {}
        missed: list[tuple[int, int, int]] = []
        at = 0
        for i, call in enumerate(calls):
            end = at + call.asked.count
            scores = self.cache.get(keys[at:end])
            if scores is not None:
                outcomes[i] = Outcome([scores], "cache", None, self._vectors(buffer, at, end))
            else:
                missed.append((i, at, end))
            at = end
        if missed:
            rows = np.concatenate([matrix[a:b] for _, a, b in missed])
            left = array("d")
            for _, a, b in missed:
                left += buffer[a * self._width : b * self._width]
            ran = self._run([calls[i] for i, _, _ in missed], [rows], left)
            for (i, a, b), outcome in zip(missed, ran, strict=True):
                outcomes[i] = outcome
                if outcome.answered_by == "model" and outcome.problem is None:
                    self.cache.put(keys[a:b], outcome.outputs[0])
        return [outcomes[i] for i in range(len(calls))]

    # ---- without the model

    def _one_by_one(self, calls: Sequence[Call]) -> list[Outcome]:
        """Find out which of the calls is at fault: no request pays for its neighbour's."""
        return [self.run([call])[0] for call in calls]

    def _instead(
        self,
        calls: Sequence[Call],
        arrays: Sequence[Array],
        buffer: array[float] | None,
        problem: Refusal,
    ) -> list[Outcome]:
        """Answer by the fallback model, else by the stated answer, else not."""
        if self._fallback is not None:
            try:
                with self._fallback_lock:
                    outputs = self._infer(self._fallback, arrays)
                return self._outcomes(calls, outputs, "fallback", buffer)
            except Exception as second:
                self._trace(second)
        return [self._stated(c, problem) for c in calls]

    def _stated(self, call: Call, problem: Refusal) -> Outcome:
        if self._static is None:
            return Outcome([], "model", problem, None)
        return Outcome([[self._static] * call.asked.count], "static", None, None)

    def instead(self, calls: Sequence[Call], problem: Refusal) -> None:
        self.finished(calls, [self._without_model(c, problem) for c in calls])

    def _without_model(self, call: Call, problem: Refusal) -> Outcome:
        if self._fallback is None or self._signature is None:
            return self._stated(call, problem)
        if call.asked.rows is not None and call.features is None:
            return self._stated(call, problem)
        buffer = self._assemble([call])
        with np.errstate(over="ignore"):
            matrix = np.frombuffer(buffer).astype(np.float32).reshape(-1, self._width)
        return self._instead([call], [matrix], buffer, problem)[0]

    # ---- the answers

    def finished(self, calls: Sequence[Call], outcomes: Sequence[Outcome]) -> None:
        records: list[dict[str, Any]] = []
        rows = self.counts.rows
        for call, outcome in zip(calls, outcomes, strict=True):
            if call.finish(outcome) and outcome.problem is None:
                rows[outcome.answered_by] += call.asked.count
                if self.sink is not None:
                    self._record(call, outcome, records)
        if records and self.sink is not None:
            self.sink.append_many(records)

    def _record(self, call: Call, outcome: Outcome, records: list[dict[str, Any]]) -> None:
        asked, request_id = call.asked, call.request_id
        latency_ms = round((time.perf_counter() - call.started) * 1000, 4)
        many = asked.count > 1
        scores = outcome.outputs[0]
        if scores.__class__ is not list:
            scores = scores.tolist()
        for i in range(asked.count):
            row = asked.rows[i] if asked.rows is not None else None
            records.append(
                {
                    "request_id": f"{request_id}/{i}" if many else request_id,
                    "model": self.bundle.model,
                    "version": self.bundle.version,
                    "at": call.at,
                    "entities": row.entities if row is not None else {},
                    "request": row.request if row is not None else {},
                    "features": outcome.vectors[i] if outcome.vectors is not None else [],
                    "score": scores[i],
                    "latency_ms": latency_ms,
                    "source": call.features[i].source if call.features is not None else call.source,
                    "answered_by": outcome.answered_by,
                    "mirrored": call.mirrored,
                }
            )

    def _trace(self, problem: Exception) -> None:
        now = time.monotonic()
        if now - self._traced >= TRACES_APART_S:  # a model that fails at every request must not fill the disk
            self._traced = now
            traceback.print_exception(problem, file=sys.stderr)


def _transformations(bundle: Bundle) -> Transformations | None:
    if not bundle.transformations:
        return None
    from serving.runtime.features.transformations import Transformations

    return Transformations(bundle)


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
