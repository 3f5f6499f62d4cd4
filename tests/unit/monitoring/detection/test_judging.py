"""Verify that detection is neither silent nor always ringing, on real flights."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from monitoring.detection import state as states
from monitoring.detection.baseline import Baseline
from monitoring.detection.judging import judge
from monitoring.detection.policy import DetectionPolicy
from monitoring.detection.result import CHECKS, as_json
from monitoring.detection.rows import DAY_S, Matured, Rows
from monitoring.detection.state import DetectionState
from tests.support.detection_flights import CARRIERS, COLUMNS, WEEK_S, Flights, Watch, learn
from windlass.errors import UsageError, WindlassError

Floats = NDArray[np.float64]
BEGINNINGS = (2, 14, 26, 37)


def test_four_quarters_with_nothing_injected_ring_at_most_once_each_in_the_mean(
    flights: Flights, learned: Baseline
) -> None:
    """Verify that a detector that always rings fails: every column that begins to ring counts."""
    alarms = looks = 0
    for begin in BEGINNINGS:
        watch = Watch(learned)
        for place in range(begin, begin + 13):
            found = watch.look(flights.live(place))
            alarms += found.new_alarms
            looks += 1
            assert found.reference == "year-ago"
            assert sum(c.evidence is not None for c in found.columns) == len(COLUMNS) + 2  # it did look
    assert looks == 52
    assert alarms <= len(BEGINNINGS)


def shifted(size: float) -> Callable[[Floats], Floats]:
    return lambda x: x + size * np.nanstd(x)


def some(share: float, value: float) -> Callable[[Floats], Floats]:
    return lambda x: np.where(np.arange(len(x)) % round(1 / share) == 0, value, x)


@pytest.mark.parametrize(
    ("column", "change", "looks", "quality"),
    [
        pytest.param("distance", shifted(1.0), 2, None, id="a-mean-that-moves-by-one-deviation"),
        pytest.param("sched_minute", shifted(-0.5), 4, None, id="half-a-deviation-within-two-windows"),
        pytest.param("humid", shifted(1.0), 4, None, id="weather-that-the-other-columns-contradict"),
        pytest.param("distance", lambda x: 1040 + 1.5 * (x - 1040), 4, None, id="a-scale-that-grows-by-half"),
        pytest.param("wind_speed", some(0.2, np.nan), 2, "nulls", id="a-fifth-missing-within-one-window"),
        pytest.param(
            "carrier", some(0.05, float(len(CARRIERS))), 2, "category", id="a-new-category-at-five-percent"
        ),
        pytest.param("distance", lambda x: 1.609 * x, 2, None, id="miles-that-become-kilometres"),
        pytest.param("sched_minute", lambda x: x / 60, 2, "unit", id="minutes-that-become-hours"),
        pytest.param("temp", lambda x: (x - 32) / 1.8, 2, None, id="fahrenheit-that-becomes-celsius"),
    ],
)
@pytest.mark.parametrize("begin", [8, 30])
def test_what_changed_rings_in_time_and_under_its_name(
    flights: Flights,
    learned: Baseline,
    column: str,
    change: Callable[[Floats], Floats],
    looks: int,
    quality: str | None,
    begin: int,
) -> None:
    """Verify that a silent detector fails: two looks are one window of fourteen days."""
    watch = Watch(learned)
    for place in range(begin, begin + 4):
        calm = watch.look(flights.live(place))
        assert column not in {c.column for c in calm.columns if c.alarm}
    for place in range(begin + 4, begin + 4 + looks):
        found = watch.look(flights.live(place).changed(column, change))
    ringing = {c.column for c in found.columns if c.alarm}
    broken = {(q.column, q.check) for q in found.quality if q.failed}
    assert column in ringing | {c for c, _ in broken}
    if quality is not None:
        assert (column, quality) in broken
        assert found.check("dataQuality").verdict == "FAIL"
        assert column in found.check("dataQuality").columns


def test_an_incident_rings_once_and_ends_when_its_evidence_is_gone(
    flights: Flights, learned: Baseline
) -> None:
    watch = Watch(learned)
    new, on = [], []
    for place in range(8, 24):
        week = flights.live(place)
        if 10 <= place < 14:
            week = week.changed("distance", shifted(2.0))
        found = watch.look(week)
        column = next(c for c in found.columns if c.column == "distance")
        new.append(column.new)
        on.append(column.alarm)
    assert new.index(True) == 2
    assert sum(new) == 1
    assert all(on[2:6])
    assert not on[-1]


def test_the_same_rows_again_change_nothing(flights: Flights, learned: Baseline) -> None:
    watch = Watch(learned)
    first = watch.look(flights.live(10))
    once = watch.state
    again = watch.look(flights.live(10))
    assert watch.state.days == once.days
    assert watch.state.decay == once.decay
    assert [c.effect for c in again.columns] == [c.effect for c in first.columns]


def test_a_state_that_went_through_json_judges_the_same(flights: Flights, learned: Baseline) -> None:
    watch = Watch(learned)
    watch.look(flights.live(10))
    watch.look(flights.live(11).changed("distance", shifted(2.0)))
    kept = json.loads(json.dumps(states.to_json(watch.state), allow_nan=False))
    assert states.from_json(kept) == watch.state
    assert watch.state.incidents


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({}, id="empty"),
        pytest.param({**states.to_json(DetectionState()), "format": 0}, id="another-format"),
        pytest.param({**states.to_json(DetectionState()), "days": [{"day": "x"}]}, id="damaged"),
    ],
)
def test_a_damaged_state_says_what_to_do(document: dict[str, object]) -> None:
    with pytest.raises(WindlassError, match="begin with an empty state"):
        states.from_json(document)


def test_the_days_of_another_baseline_are_dropped(
    flights: Flights, reference: Flights, learned: Baseline
) -> None:
    watch = Watch(learned)
    watch.look(flights.live(10).changed("distance", shifted(2.0)))
    assert watch.state.incidents
    watch.baseline = learn(reference.where(np.arange(len(reference.at)) % 3 != 0))
    found = watch.look(flights.live(11))
    assert not found.check("featureDrift").alarm
    assert {d.day for d in watch.state.days} == set(np.unique(flights.live(11).at // DAY_S).astype(int))


def test_too_few_rows_decide_nothing(flights: Flights, learned: Baseline) -> None:
    """Verify that missing data is INCONCLUSIVE in every check, and never good."""
    few = flights.live(10).where(slice(0, 20))
    found = Watch(learned).look(few)
    assert {c.check: c.verdict for c in found.checks} == dict.fromkeys(CHECKS, "INCONCLUSIVE")
    empty = Rows(few.end, np.empty(0), np.empty((0, len(COLUMNS))), np.empty(0))
    found, _ = judge(learned, empty)
    assert {c.verdict for c in found.checks} == {"INCONCLUSIVE"}
    assert all(c.effect is None and c.evidence is None for c in found.columns)
    json.dumps(as_json(found), allow_nan=False)


def test_a_column_that_training_never_saw_is_not_said_to_be_steady(
    flights: Flights, reference: Flights
) -> None:
    """Verify that values where training had none are INCONCLUSIVE, and that the check names the column."""
    watch = Watch(learn(reference.changed("humid", lambda x: np.full(len(x), np.nan))))
    for place in range(8, 12):
        found = watch.look(flights.live(place))
    column = next(c for c in found.columns if c.column == "humid")
    assert (column.verdict, column.evidence, column.effect) == ("INCONCLUSIVE", None, None)
    check = found.check("featureDrift")
    assert check.verdict == "PASS"
    assert "1 without values to compare (humid)" in check.reason


def test_what_stopped_coming_is_not_said_to_be_steady(flights: Flights, learned: Baseline) -> None:
    """Verify that days before the window, which the longest span still reaches, are no news of the window."""
    watch = Watch(learned)
    for place in range(8, 12):
        calm = watch.look(flights.live(place))
    assert {calm.check(c).verdict for c in ("featureDrift", "dataQuality", "labelDrift")} == {"PASS"}
    nothing = flights.live(12).where(slice(0, 0))
    for place in (12, 13):
        end = flights.live(place).end
        rows = Rows(end, nothing.at, nothing.features, nothing.scores)
        matured = Matured(end, nothing.at, nothing.labels, nothing.scores)
        found, watch.state = judge(learned, rows, watch.state, watch.policy, matured)
    verdicts = {c.check: c.verdict for c in found.checks}
    assert verdicts == dict.fromkeys(CHECKS, "INCONCLUSIVE")


@pytest.mark.parametrize("told", [pytest.param(True, id="none-came"), pytest.param(False, id="nobody-knows")])
def test_labels_that_stopped_do_not_speak_of_later_weeks(
    flights: Flights, learned: Baseline, told: bool
) -> None:
    """Verify that label drift is INCONCLUSIVE once no label of the window is known, while features are judged."""
    watch = Watch(learned)
    for place in range(8, 12):
        calm = watch.look(flights.live(place))
    assert calm.check("labelDrift").verdict == "PASS"
    for place in (12, 13):
        week = flights.live(place)
        found = watch.look(replace(week, labels=np.full(len(week.at), np.nan)), labelled=told)
    assert found.check("labelDrift").verdict == "INCONCLUSIVE"
    assert found.check("featureDrift").verdict == "PASS"


def test_a_column_that_wanders_is_not_said_to_be_steady(flights: Flights, learned: Baseline) -> None:
    """Verify that pressure, of which a week is one observation, is told from distance, which a week fixes."""
    watch = Watch(learned, DetectionPolicy(minimum_rows=100, resolution=0.4))
    for place in range(8, 12):
        found = watch.look(flights.live(place))
    by_name = {c.column: c for c in found.columns}
    assert by_name["distance"].verdict == "PASS"
    assert by_name["pressure"].verdict == "INCONCLUSIVE"
    assert found.check("featureDrift").verdict == "PASS"
    assert "pressure" in found.check("featureDrift").reason


def test_weeks_vary_far_more_than_independent_rows_would(flights: Flights, learned: Baseline) -> None:
    """Verify that the noise is that of days: a p-value of independent rows would always be small."""
    noise = learned.training.noise
    for k, statistic in enumerate(learned.training.statistics):
        if COLUMNS[min(statistic.column, 7)] == "pressure" and statistic.kind == "location":
            rows = len(flights.live(10).at)
            assert noise.deviation(7, np.full(len(noise.between), rows))[k] > 5 / np.sqrt(rows)


def test_the_reference_is_the_season_where_it_is_covered(flights: Flights, reference: Flights) -> None:
    half = learn(reference.where(reference.at < reference.at.min() + 260 * DAY_S))
    watch = Watch(half)
    assert watch.look(flights.live(10)).reference == "year-ago"
    # autumn: the reference has none
    watch = Watch(half)
    used = [watch.look(flights.live(place)).reference for place in range(40, 46)]
    assert used[0] == "training"
    assert used[-1] == "week-ago"
    watch.policy = DetectionPolicy(reference="year-ago")
    with pytest.raises(UsageError, match="no days of this season"):
        watch.look(flights.live(46))


def test_a_change_that_stays_is_no_new_normal(flights: Flights, reference: Flights) -> None:
    """Verify that the weeks before, once they hold the change, neither end its incident nor repair the data."""
    half = learn(reference.where(reference.at < reference.at.min() + 150 * DAY_S))
    watch = Watch(half)
    alarms = 0
    for place in range(6, 20):
        # the same calm week again and again: nothing but the change is to be seen
        week = replace(flights.live(6), at=flights.live(6).at + (place - 6) * WEEK_S)
        week = week.changed("distance", shifted(2.0)).changed("wind_speed", some(0.2, np.nan))
        found = watch.look(week)
        distance = next(c for c in found.columns if c.column == "distance")
        alarms += distance.new
        assert distance.alarm
        nulls = next(q for q in found.quality if (q.column, q.check) == ("wind_speed", "nulls"))
        assert nulls.failed
        assert nulls.share > 0.15
    assert (found.reference, distance.reference) == ("week-ago", "training")
    assert alarms == 1
    for place in range(20, 32):
        week = replace(flights.live(6), at=flights.live(6).at + (place - 6) * WEEK_S)
        found = watch.look(week)
    assert not {"distance", "wind_speed"} & {c.column for c in found.columns if c.alarm}
    assert not any(q.failed for q in found.quality)


def test_a_season_alone_rings_only_without_its_reference(
    flights: Flights, reference: Flights, learned: Baseline
) -> None:
    """Verify that winter is drift to a model that knows summer, and none to one that knows a year."""
    month = (reference.at - reference.at.min()) / DAY_S // 30
    summer = learn(reference.where((month >= 5) & (month <= 8)))
    watch, year = Watch(summer, DetectionPolicy(minimum_rows=100, reference="training")), Watch(learned)
    for place in range(4):
        winter = flights.live(place + 48 - 52 if place > 3 else place)
        surprised, calm = watch.look(winter), year.look(winter)
    assert "temp" in surprised.check("featureDrift").columns
    assert "temp" not in calm.check("featureDrift").columns


def test_a_reference_without_times_is_weaker_and_says_so(
    flights: Flights, reference: Flights, learned: Baseline
) -> None:
    untimed = learn(reference, timed=False)
    assert "no times" in untimed.guarantee
    assert "no times" not in learned.guarantee
    watch, timed = Watch(untimed), Watch(learned)
    for place in range(8, 12):
        found, sharper = watch.look(flights.live(place)), timed.look(flights.live(place))
    assert not found.check("featureDrift").alarm
    blunt = {c.column: c.resolution for c in found.columns}
    assert all(
        blunt[c.column] > c.resolution for c in sharper.columns if c.resolution and c.kind == "feature"
    )
    # one row a week would not tell one carrier from another either
    carrier = next(c for c in found.columns if c.column == "carrier")
    assert carrier.verdict == "INCONCLUSIVE"
    assert next(c for c in sharper.columns if c.column == "carrier").verdict == "PASS"
    found = watch.look(flights.live(12).changed("distance", lambda x: 20 * x))
    assert "distance" in {q.column for q in found.quality if q.failed}


def test_scores_that_began_late_teach_what_they_can(flights: Flights, reference: Flights) -> None:
    """Verify a reference whose older parts have no score at all."""
    late = reference.at > np.quantile(reference.at, 0.85)
    watch = Watch(learn(replace(reference, scores=np.where(late, reference.scores, np.nan))))
    found = watch.look(flights.live(10))
    assert next(c for c in found.columns if c.kind == "prediction").evidence is not None


def test_who_looks_more_often_spends_less_a_look() -> None:
    weekly = DetectionPolicy()
    daily = DetectionPolicy(step=timedelta(days=1))
    assert daily.per_look * daily.looks_per_month == pytest.approx(weekly.per_look * weekly.looks_per_month)
    assert daily.per_look < weekly.per_look
    assert weekly.spans == (7, 14, 28)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"false_alarms_per_month": 0.0}, id="never-rings"),
        pytest.param({"window": timedelta(hours=36)}, id="half-a-day"),
        pytest.param({"step": timedelta(hours=1)}, id="step-below-a-day"),
        pytest.param({"smallest_effect": -0.1}, id="negative-effect"),
        pytest.param({"smallest_effect": float("nan")}, id="effect-that-is-no-number"),
        pytest.param({"minimum_rows": 0}, id="judged-by-no-rows"),
        pytest.param({"minimum_days": 0}, id="judged-by-no-days"),
        pytest.param({"reference": "yesterday"}, id="unknown-reference"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        replace(DetectionPolicy(), **change)  # type: ignore[arg-type]


def test_rows_of_other_columns_are_refused(flights: Flights, learned: Baseline) -> None:
    week = flights.live(10)
    with pytest.raises(WindlassError, match="has 8 columns"):
        judge(learned, Rows(week.end, week.at, week.features[:, :3], week.scores))
    with pytest.raises(WindlassError, match="one of each a row"):
        Rows(week.end, week.at, week.features[:5], week.scores)
