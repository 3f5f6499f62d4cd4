"""Verify that concept drift is told from label shift, by labels alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from monitoring.detection import decay
from monitoring.detection.baseline import Baseline
from monitoring.detection.rows import DAY_S
from monitoring.detection.state import DecayState
from tests.support.detection_flights import Flights, Watch
from windlass.errors import WindlassError


def dealt_anew(week: Flights, rng: np.random.Generator) -> Flights:
    """Outcomes shuffled within each day: features, scores and the rate of a day stay."""
    labels = week.labels.copy()
    for day in np.unique(week.at // DAY_S):
        rows = np.flatnonzero((week.at // DAY_S == day) & np.isfinite(labels))
        labels[rows] = labels[rng.permutation(rows)]
    return replace(week, labels=labels)


def more_are_late(week: Flights, rng: np.random.Generator) -> Flights:
    """Late flights drawn six times as often; within each class nothing changes."""
    weights = np.where(week.labels == 1, 6.0, 1.0)
    return week.where(np.sort(rng.choice(len(weights), len(weights), p=weights / weights.sum())))


def test_a_relation_that_is_gone_rings_although_no_feature_moved(flights: Flights, learned: Baseline) -> None:
    rng = np.random.default_rng(1)
    watch = Watch(learned)
    for place in range(8, 12):
        assert watch.look(flights.live(place)).decay.verdict == "PASS"  # type: ignore[union-attr]
    labels = 0
    for place in range(12, 20):
        found = watch.look(dealt_anew(flights.live(place), rng))
        assert not found.check("featureDrift").alarm
        labels += int(np.isfinite(flights.live(place).labels).sum())
        if found.check("performanceDecay").alarm:
            break
    assert found.check("performanceDecay").verdict == "FAIL"
    assert labels < 3000
    assert found.decay is not None
    assert found.decay.upper is not None
    assert found.decay.upper < 0.7


def test_more_late_flights_are_label_drift_and_no_decay(flights: Flights, learned: Baseline) -> None:
    rng = np.random.default_rng(2)
    watch = Watch(learned)
    for place in range(8, 12):
        assert not watch.look(flights.live(place)).check("labelDrift").alarm
    for place in range(12, 16):
        found = watch.look(more_are_late(flights.live(place), rng))
    assert found.check("labelDrift").alarm
    assert not found.check("performanceDecay").alarm
    assert found.decay is not None
    assert found.decay.rate is not None
    assert found.decay.expected_rate is not None
    assert found.decay.rate > found.decay.expected_rate


def test_labels_that_do_not_come_decide_nothing(flights: Flights, learned: Baseline) -> None:
    watch = Watch(learned)
    watch.look(flights.live(8))
    found = watch.look(flights.live(9), labelled=False)
    assert found.check("performanceDecay").verdict == "INCONCLUSIVE"
    assert found.check("featureDrift").verdict == "PASS"


def test_the_test_holds_its_average_run_length_on_days_of_the_reference(
    reference: Flights, learned: Baseline
) -> None:
    """Verify that days drawn again and again from the reference ring at most about as often as stated."""
    assert learned.ranking is not None
    known = np.isfinite(reference.labels)
    daily = decay.day_slopes(
        learned.ranking, reference.at[known], reference.labels[known], reference.scores[known]
    )
    rng = np.random.default_rng(3)
    stated, days, alarms = 100.0, 20_000, 0
    drawn = rng.integers(len(daily.days), size=days)
    state = DecayState()
    for k in range(0, days, 10):
        rows = drawn[k : k + 10]
        some = decay.DaySlopes(
            np.arange(k, k + 10), daily.deviations[rows], daily.information[rows], daily.labels[rows]
        )
        state = decay.advance(state, learned.ranking, some, smallest_decay=0.0, log_threshold=np.log(stated))
        if decay.log_evidence(state) >= np.log(stated):
            alarms += 1
            state = DecayState(through=k + 9)
    assert alarms <= days / stated
    # and it is no empty bound: the same days, one deviation lower, ring nearly at once
    low = replace(daily, deviations=daily.deviations - 1.5 * learned.ranking.between)
    state = decay.advance(
        DecayState(), learned.ranking, low, smallest_decay=0.0, log_threshold=np.log(stated)
    )
    assert decay.log_evidence(state) >= np.log(stated)


def test_labels_of_one_class_teach_nothing() -> None:
    with pytest.raises(WindlassError, match="of both classes"):
        decay.learn(np.ones(500), np.full(500, 0.5), None)
