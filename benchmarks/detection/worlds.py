"""Quarters that never were, made of real weeks: a block bootstrap of days, with reference and live days kept apart.

Of every four weeks one, drawn by chance, is live and three are reference; no day is both. A quarter is thirteen weeks
drawn with replacement from the live weeks of its season (those within four of their place in the year), dated a year
after the reference: so "nothing happened" is a year like the last, with other weather. Blocks are whole weeks because
days depend on their neighbours and flights on the day of the week; where weeks begin is drawn too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection.flights import DAY_S, Flights
from monitoring.columns import Floats
from monitoring.detection import baseline
from monitoring.detection.baseline import Baseline

WEEK = 7
ONE_OF = 4
SEASON_WEEKS = 4
YEAR_DAYS = 364
QUARTER_WEEKS = 13
THINNED = 3


@dataclass(frozen=True, eq=False)
class Block:
    """A real week, dated anew."""

    start: float
    end: float
    at: Floats
    features: Floats
    labels: Floats
    scores: Floats


@dataclass(frozen=True, eq=False)
class World:
    """One way to cut the year, and what was learned from its reference."""

    flights: Flights
    reference: NDArray[np.int64]
    live: dict[int, NDArray[np.int64]]
    weeks: int
    first_day: int
    baseline: Baseline
    means: Floats
    deviations: Floats

    def quarter(self, rng: np.random.Generator, weeks: int = QUARTER_WEEKS) -> list[Block]:
        """Draw a stretch of weeks, beginning anywhere in the year."""
        begin = int(rng.integers(self.weeks))
        return [self._block(begin + k, rng) for k in range(weeks)]

    def _block(self, place: int, rng: np.random.Generator) -> Block:
        known = np.array(sorted(self.live))
        apart = np.abs(known - place % self.weeks)
        near = known[np.minimum(apart, self.weeks - apart) <= SEASON_WEEKS]
        week = int(rng.choice(near if len(near) else known))
        rows = self.live[week]
        # weeks after the last one of the year go on into the next
        start = (self.first_day + WEEK * place + YEAR_DAYS) * DAY_S
        at = self.flights.at[rows] - (self.first_day + WEEK * week) * DAY_S + start
        f = self.flights
        return Block(start, start + WEEK * DAY_S, at, f.features[rows], f.labels[rows], f.scores[rows])


def make(flights: Flights, seed: Sequence[int]) -> World:
    """Cut the year by chance and learn the baseline."""
    rng = np.random.default_rng(seed)
    days = np.floor_divide(flights.at, DAY_S).astype(np.int64)
    first_day = int(days.min() + rng.integers(WEEK))
    week = (days - first_day) // WEEK
    weeks = int((days.max() + 1 - first_day) // WEEK)
    whole = (days >= first_day) & (week < weeks)
    chosen = {begin + int(rng.integers(ONE_OF)) for begin in range(0, weeks - ONE_OF + 1, ONE_OF)}
    live = {w: np.flatnonzero(whole & (week == w)) for w in sorted(chosen)}
    reference = np.flatnonzero(whole & ~np.isin(week, sorted(chosen)))
    # a third of the rows: days are what counts, and a reference that ships with a model is a sample as well
    reference = reference[::THINNED]
    rows = flights.features[reference]
    learned = baseline.build(
        {name: rows[:, i] for i, name in enumerate(flights.names)},
        at=flights.at[reference],
        scores=flights.scores[reference],
        categories=flights.categories,
        labels=flights.labels[reference],
        label_scores=flights.scores[reference],
        label_at=flights.at[reference],
    )
    return World(
        flights, reference, live, weeks, first_day, learned, np.nanmean(rows, axis=0), np.nanstd(rows, axis=0)
    )
