"""Who judges: ours, and what people commonly run — Evidently's default preset, and a KS test at p < 0.05.

All look every seven days; the rivals at the last fourteen, which is our window. Each says at a look which columns ring.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from benchmarks.detection.worlds import Block, World
from monitoring import drift_statistics, evidently_reports
from monitoring import reference as references
from monitoring.columns import Floats
from monitoring.detection.judging import judge
from monitoring.detection.policy import DetectionPolicy
from monitoring.detection.result import Detection
from monitoring.detection.rows import Matured, Rows
from monitoring.detection.state import DetectionState

REFERENCE_ROWS = 20_000
THRESHOLD = 0.1
P_VALUE = 0.05
DECAY = "performance"


class Contender(Protocol):
    """Looks at one block after the other and says which columns ring."""

    def look(self, block: Block) -> frozenset[str]: ...


@dataclass
class Ours:
    """`monitoring.detection.judge`; labels mature with their week."""

    world: World
    policy: DetectionPolicy = field(default_factory=DetectionPolicy)
    labelled: bool = True
    state: DetectionState = field(default_factory=DetectionState)
    last: Detection | None = None

    def look(self, block: Block) -> frozenset[str]:
        matured = None
        if self.labelled:
            known = np.isfinite(block.labels)
            matured = Matured(block.end, block.at[known], block.labels[known], block.scores[known])
        rows = Rows(block.end, block.at, block.features, block.scores)
        found, self.state = judge(self.world.baseline, rows, self.state, self.policy, matured)
        self.last = found
        ringing = {c.column for c in found.columns if c.alarm} | {q.column for q in found.quality if q.failed}
        if found.decay is not None and found.decay.alarm:
            ringing.add(DECAY)
        return frozenset(ringing)

    def fork(self) -> Ours:
        """One that goes on from here by itself."""
        return replace(self)


class Trailing:
    """The last fourteen days of rows."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []

    def push(self, block: Block) -> tuple[Floats, Floats]:
        self._blocks = [*self._blocks[-1:], block]
        return (
            np.concatenate([b.features for b in self._blocks]),
            np.concatenate([b.scores for b in self._blocks]),
        )


@dataclass(eq=False)
class Sample:
    """The rivals' reference: rows drawn from ours, sorted column by column."""

    columns: tuple[references.FeatureReference, ...]
    whole: references.Reference

    @classmethod
    def of(cls, world: World, rng: np.random.Generator) -> Sample:
        f = world.flights
        rows = np.sort(rng.choice(world.reference, min(REFERENCE_ROWS, len(world.reference)), replace=False))
        whole = references.build(
            {n: f.features[rows, i] for i, n in enumerate(f.names)},
            categorical=f.categories,
            scores=f.scores[rows],
        )
        assert whole.score is not None
        return cls((*whole.features, whole.score), whole)


def _sorted(features: Floats, scores: Floats) -> Sequence[Floats]:
    columns = [*features.T, scores]
    return [np.sort(c[np.isfinite(c)]) for c in columns]


class Distances:
    """Evidently's default distances and threshold, as computed by `monitoring.drift_statistics`.

    Tests hold these values to Evidently's own, which is fifty times as slow; `evidently` below is the real one.
    """

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self._trailing = Trailing()

    def look(self, block: Block) -> frozenset[str]:
        ringing = set()
        for known, current in zip(self._sample.columns, _sorted(*self._trailing.push(block)), strict=True):
            method = drift_statistics.method(known.values, current, categorical=known.categorical)
            if drift_statistics.distance(method, known.values, current, known.norm) >= THRESHOLD:
                ringing.add(known.name)
        return frozenset(ringing)


class Evidently:
    """The real preset, run at every look."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self._trailing = Trailing()

    def look(self, block: Block) -> frozenset[str]:
        features, scores = self._trailing.push(block)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = evidently_reports.report(
                self._sample.whole, features, scores, threshold=THRESHOLD
            ).values
        return frozenset(n for n, value in values.items() if value >= THRESHOLD)


class KolmogorovSmirnov:
    """scipy's two-sample test of every column."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self._trailing = Trailing()

    def look(self, block: Block) -> frozenset[str]:
        from scipy.stats import ks_2samp

        return frozenset(
            known.name
            for known, current in zip(self._sample.columns, _sorted(*self._trailing.push(block)), strict=True)
            if len(current) and ks_2samp(known.values, current, method="asymp").pvalue < P_VALUE
        )
