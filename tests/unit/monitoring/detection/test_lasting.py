"""Verify that a change is seen whole, that one stormy day in a week is not taken for one, and that faults still are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from monitoring.detection import lasting, spans
from monitoring.detection.baseline import Baseline
from monitoring.detection.noise import SPANS, Noise
from monitoring.detection.policy import DRIFT_SHARE, DetectionPolicy
from monitoring.detection.rows import DAY_S
from monitoring.detection.spans import Question
from monitoring.detection.state import DayRecord
from tests.support.detection_flights import COLUMNS, Flights, Watch

Floats = NDArray[np.float64]
CALM = (8, 9, 10, 11)


@pytest.mark.parametrize(
    ("days", "left_out"),
    [(0, 0), (1, 0), (2, 0), (3, 1), (6, 1), (7, 1), (13, 1), (14, 2), (28, 4)],
)
def test_so_many_days_may_be_storms(days: int, left_out: int) -> None:
    assert lasting.outermost(days) == left_out
    assert days == 0 or days - 2 * left_out >= 1


def column(*values: float) -> Floats:
    return np.array(values, dtype=np.float64)[:, None]


def test_the_outermost_days_are_left_out_wherever_they_stand() -> None:
    effects = np.hstack((column(0, 100, 1, 2, 3, 4, 5), column(7, 1, 1, 1, 1, 1, -9)))
    assert lasting.trimmed(effects, np.ones((7, 2))) == pytest.approx([3.0, 1.0])
    # 14 days: two on either side
    assert lasting.trimmed(column(*range(12), 500, 900), np.ones((14, 1))) == pytest.approx([6.5])


def test_days_weigh_by_their_rows_and_those_without_are_none() -> None:
    effects = column(50, -3, 1, 2, 3)
    assert lasting.trimmed(effects, column(10, 10, 10, 20, 10)) == pytest.approx([(10 + 40 + 30) / 40])
    # the day of 50 has no rows: -3 and 3 are the outermost of four
    assert lasting.trimmed(effects, column(0, 10, 10, 20, 10)) == pytest.approx([(10 + 40) / 30])
    # of two days with rows none can be left out
    assert lasting.trimmed(effects, column(0, 0, 0, 10, 10)) == pytest.approx([2.5])
    assert lasting.trimmed(effects, np.zeros((5, 1))) == pytest.approx([0.0])


def test_what_is_nearer_to_zero_lasts_and_nothing_does_where_few_days_point_the_way() -> None:
    lasts = lasting.smaller(np.array([2.0, -2.0, 0.5, 1.0]), np.array([1.5, -3.0, 0.7, -0.2]))
    np.testing.assert_allclose(lasts, [1.5, -2.0, 0.5, 0.0])


def asked(effects: list[float], *, brief: bool) -> spans.Evidence:
    """The evidence of days with these means, with noise of 0.1 a week and nothing else."""
    one = np.ones(1)
    noise = Noise(0.1 * one, 0 * one, 0 * one, np.zeros((len(SPANS), 1)), 3 * one, weeks=40.0)
    question = Question(
        weights=np.zeros(1, dtype=np.int64),
        centre=0 * one,
        noise=noise,
        spending=1e-4 * one,
        threshold=0.05 * one,
        freedom=noise.freedom,
        brief=np.array([brief]),
    )
    records = [DayRecord(day, (1000.0,), (1000.0 * e,)) for day, e in enumerate(effects)]
    return spans.weigh(records, len(effects), question, DetectionPolicy(), week_ago=False)


def test_the_same_mean_rings_from_all_days_and_not_from_one() -> None:
    storm, change = [7.0, 0, 0, 0, 0, 0, 0], [1.0] * 7
    assert asked(change, brief=False).evidence[0] > 1
    assert asked(change, brief=False).effect[0] == pytest.approx(1.0)
    assert asked(storm, brief=False).evidence[0] < 0
    assert asked(storm, brief=True).effect[0] == pytest.approx(1.0)
    assert asked(storm, brief=True).evidence[0] > 1


def test_a_change_of_half_a_week_is_seen_in_part() -> None:
    """Verify that what began in the middle of the span is neither lost nor taken for more than its mean."""
    found = asked([0, 0, 0, 0, 1, 1, 1], brief=False)
    assert found.effect[0] == pytest.approx(0.4)
    assert asked([0, 0, 0, 0, -1, -1, -1], brief=False).effect[0] == pytest.approx(-0.4)


def one_day(week: Flights, name: str, values: Floats) -> Flights:
    """The week with other values of `name` on its third day."""
    third = week.at // DAY_S == week.at.min() // DAY_S + 2
    return week.changed(name, lambda x: np.where(third, values, x))


def test_a_storm_of_a_day_is_no_drift_and_a_day_of_nothing_is_a_fault(
    flights: Flights, learned: Baseline
) -> None:
    """Verify both on real flights: the same distances in all of the week do ring."""
    week, far = flights.live(12), np.float64(np.nanmax(flights.column("distance")))
    looks = {
        "storm": one_day(week, "distance", np.full(len(week.at), far)),
        "change": week.changed("distance", lambda x: np.full(len(x), far)),
        "gone": one_day(week, "distance", np.full(len(week.at), np.nan)),
    }
    rang = {}
    for name, last in looks.items():
        watch = Watch(learned)
        for place in CALM:
            watch.look(flights.live(place))
        found = watch.look(last)
        rang[name] = {c.column for c in found.columns if c.alarm} | {
            f"{q.column}: {q.check}" for q in found.quality if q.failed
        }
    assert "distance" not in rang["storm"]
    assert "distance" in rang["change"]
    assert "distance: nulls" in rang["gone"]
    assert "distance" not in rang["gone"]


def test_all_that_may_be_spent_is_what_the_policy_states(learned: Baseline) -> None:
    """Verify the sum behind the stated number: columns, statistics and looks of a month, decay's part aside."""
    policy = replace(DetectionPolicy(), false_alarms_per_month=0.3)
    each = policy.per_look / (len(COLUMNS) + 2)
    for measure in (learned.training, learned.seasonal):
        assert measure is not None
        by_column = np.zeros(len(COLUMNS) + 1)
        for statistic in measure.statistics:
            by_column[statistic.column] += statistic.spending
        assert (by_column <= 1 + 1e-9).all()
        assert (by_column > 0.5).all()
        spent = (by_column.sum() + 1) * each * policy.looks_per_month  # the label is a column as well
        assert 0.5 * DRIFT_SHARE * 0.3 < spent <= DRIFT_SHARE * 0.3 + 1e-9
