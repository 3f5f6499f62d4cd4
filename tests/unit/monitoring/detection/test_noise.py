"""Verify what weeks of the reference teach about noise: how far they wander, and how well so few can tell."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import stdtrit

from monitoring.detection import noise
from monitoring.detection.noise import LEAST_FREEDOM, SPANS, Noise
from monitoring.detection.statistics import DayTable

WEEKS = 40
ROWS = 1000.0


def learned(weeks: np.ndarray) -> Noise:
    """Of a single statistic whose days are all as their week is."""
    daily = np.repeat(weeks, 7)[:, None]
    counts = np.full_like(daily, ROWS)
    table = DayTable(np.arange(len(daily)), counts, ROWS * daily, ROWS * (np.square(daily) + 1.0))
    return noise.learn(table, np.zeros(1, dtype=np.int64))


def of_kurtosis(kurtosis: float, weeks: float = WEEKS) -> float:
    one = np.ones(1)
    return float(Noise(one, one, one, np.zeros((len(SPANS), 1)), kurtosis * one, weeks).freedom[0])


@pytest.mark.parametrize(
    ("kurtosis", "freedom"),
    [
        pytest.param(3.0, 39.0, id="normal"),
        pytest.param(1.5, 39.0, id="even-shorter-tails-teach-no-more"),
        pytest.param(5.0, 40 * 2 / 4 - 1, id="half-as-many-weeks"),
        pytest.param(100.0, LEAST_FREEDOM, id="never-fewer"),
    ],
)
def test_heavy_tails_leave_fewer_degrees_of_freedom(kurtosis: float, freedom: float) -> None:
    assert of_kurtosis(kurtosis) == pytest.approx(freedom)


def test_few_weeks_have_few_degrees_of_freedom_whatever_their_tails() -> None:
    assert of_kurtosis(3.0, weeks=4.0) == pytest.approx(3.0)
    assert of_kurtosis(50.0, weeks=4.0) == pytest.approx(3.0)


def test_calm_weeks_with_one_storm_must_be_left_further_behind_than_restless_ones() -> None:
    """Verify it of weeks with the same mean square, by the quantile that an alarm asks for."""
    rng = np.random.default_rng(1)
    restless = rng.choice((-1.0, 1.0), WEEKS)
    stormy = np.where(np.arange(WEEKS) % 20 == 10, 4.0, 0.1) * restless
    restless *= np.sqrt(np.square(stormy).mean())
    one, other = learned(restless), learned(stormy)
    assert one.kurtosis[0] < 3.0 < 8.0 < other.kurtosis[0]
    assert one.freedom[0] == one.normal_freedom == other.normal_freedom
    reach = [float(stdtrit(n.freedom, 1 - 5e-5)[0]) for n in (one, other)]
    assert reach[1] > 1.5 * reach[0]


def test_without_times_nothing_is_known_of_tails() -> None:
    found = noise.without_times(np.array([1.0, 4.0]), 700)
    np.testing.assert_allclose(found.freedom, found.normal_freedom)
    assert found.normal_freedom == pytest.approx(99.0)
