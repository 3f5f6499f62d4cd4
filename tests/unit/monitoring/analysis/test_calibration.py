"""Scores made into probabilities: which method is taken, and what becomes of odd scores."""

from __future__ import annotations

import numpy as np
import pytest

from monitoring.analysis import calibration
from monitoring.analysis.calibration import Method


def outcomes(p: np.ndarray, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(len(p)) < p).astype(float)


@pytest.mark.parametrize(
    ("bend", "expected"),
    [
        pytest.param(lambda p: p, "identity", id="already-probabilities"),
        pytest.param(lambda p: p**3 / (p**3 + (1 - p) ** 3), "platt", id="too-sure"),
        pytest.param(lambda p: np.where(p < 0.3, 0.1, np.where(p < 0.6, 0.5, 0.52)), "isotonic", id="steps"),
    ],
)
def test_the_method_is_the_one_that_predicts_rows_that_it_did_not_see(bend: object, expected: Method) -> None:
    p = np.random.default_rng(1).beta(2, 3, 8000)
    scores = bend(p)  # type: ignore[operator]
    found = calibration.choose(outcomes(p, 2), scores)
    assert found.calibrator.method == expected
    assert found.log_loss[expected] < min(found.log_loss.values()) + 0.002


@pytest.mark.parametrize("method", calibration.METHODS)
def test_probabilities_rise_with_the_score_and_stay_within_bounds(method: Method) -> None:
    draw = np.random.default_rng(3)
    scores = draw.random(2000)
    found = calibration.fit(method, outcomes(scores**2, 4), scores)
    p = found(np.array([-1e9, 0.0, 0.2, 0.5, 0.9, 1.0, 1e9]))
    assert np.all(np.diff(p) >= 0)
    assert np.all((p > 0) & (p < 1))


@pytest.mark.parametrize("slope", [0.1, 0.33, 1.0, 5.0])
def test_platt_recovers_the_slope_that_made_the_outcomes(slope: float) -> None:
    """Verify it also where the scores are far too sure: there a plain Newton step leaps over the optimum."""
    draw = np.random.default_rng(5)
    odds = draw.normal(0, 2 / slope, 40_000)
    scores = 1 / (1 + np.exp(-np.clip(odds, -13, 13)))
    truth = 1 / (1 + np.exp(-(slope * calibration.log_odds(scores) - 1)))
    found = calibration.fit("platt", outcomes(truth, 6), scores)
    assert found.slope == pytest.approx(slope, rel=0.06)
    assert found.intercept == pytest.approx(-1, abs=0.06)


def test_scores_that_are_all_equal_become_their_rate() -> None:
    labels = np.array([1.0, 0.0, 0.0, 0.0] * 500)
    scores = np.full(2000, 0.9)
    found = calibration.choose(labels, scores)
    assert found.calibrator(scores[:1])[0] == pytest.approx(0.25, abs=0.01)
