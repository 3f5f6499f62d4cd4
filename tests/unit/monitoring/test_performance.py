"""Measured performance and its decay, as a test with uncertainty."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from monitoring import performance
from monitoring.performance import DecayPolicy

Floats = NDArray[np.float64]


def labelled(n: int, strength: float, seed: int, rate: float = 0.25) -> tuple[Floats, Floats]:
    """Rows whose score separates the classes by `strength`, calibrated as well as it can be."""
    r = np.random.default_rng(seed)
    y = (r.random(n) < rate).astype(float)
    x = r.normal(size=n) + strength * y
    odds = np.log(rate / (1 - rate)) + strength * x - strength**2 / 2
    return y, 1 / (1 + np.exp(-odds))


def test_the_measures_are_scikit_learns() -> None:
    from sklearn import metrics

    y, p = labelled(2000, 1.0, 0)
    p = np.round(p, 2)  # with ties
    found = performance.measure(y, p)
    assert found.auc == pytest.approx(metrics.roc_auc_score(y, p), abs=1e-12)
    assert found.brier == pytest.approx(metrics.brier_score_loss(y, p), abs=1e-12)
    assert found.log_loss == pytest.approx(metrics.log_loss(y, np.clip(p, 1e-6, 1 - 1e-6)), abs=1e-9)
    assert (found.n, found.positives) == (2000, int(y.sum()))


def test_the_standard_errors_are_what_repeated_samples_spread_by() -> None:
    found = [performance.measure(*labelled(600, 1.0, seed)) for seed in range(300)]
    for metric in ("auc", "brier", "log_loss"):
        spread = np.std([getattr(f, metric) for f in found], ddof=1)
        stated = np.mean([getattr(f, f"{metric}_error") for f in found])
        assert stated == pytest.approx(spread, rel=0.15), metric


def test_calibration_error_is_zero_for_rates_that_come_true_and_the_shift_for_those_that_do_not() -> None:
    y = np.tile([1.0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 100)
    assert performance.calibration_error(y, np.full(1000, 0.1)) == pytest.approx(0.0, abs=1e-12)
    assert performance.calibration_error(y, np.full(1000, 0.3)) == pytest.approx(0.2)
    curve = performance.calibration_curve(y, np.full(1000, 0.3))
    assert sum(rows for _, _, rows in curve) == 1000


@pytest.mark.parametrize(
    ("labels", "scores"),
    [
        pytest.param([], [], id="no-rows"),
        pytest.param([1, 1], [0.2, 0.3], id="one-class"),
        pytest.param([1], [0.5], id="one-row"),
    ],
)
def test_what_is_not_defined_is_nan_and_no_error(labels: list[int], scores: list[float]) -> None:
    found = performance.measure(labels, scores)
    assert math.isnan(found.auc)
    assert found.n == len(labels)


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        pytest.param(labelled(20000, 1.2, 1), "PASS", id="as-good-as-ever"),
        pytest.param(labelled(4000, 0.6, 2), "FAIL", id="much-worse"),
        pytest.param(labelled(400, 1.1, 3), "INCONCLUSIVE", id="a-little-worse-on-few-rows"),
        pytest.param(labelled(100, 0.0, 4), "INCONCLUSIVE", id="too-few-rows"),
        pytest.param(labelled(4000, 0.6, 5, rate=0.002), "INCONCLUSIVE", id="too-few-positives"),
    ],
)
def test_decay_needs_evidence(now: tuple[Floats, Floats], verdict: str) -> None:
    baseline = performance.measure(*labelled(20000, 1.2, 0))
    found = performance.decay(baseline, performance.measure(*now))
    assert found.verdict == verdict
    assert found.reason


def test_another_rate_of_positives_alone_is_no_decay() -> None:
    baseline = performance.measure(*labelled(20000, 1.2, 0, rate=0.13))
    december = performance.measure(*labelled(20000, 1.2, 1, rate=0.33))
    assert december.brier > baseline.brier + 0.02
    assert performance.decay(baseline, december).verdict == "PASS"


def test_a_model_that_did_not_change_is_accused_no_more_often_than_stated() -> None:
    policy = DecayPolicy(margins=(("auc", 0.0),), alpha=0.05)
    accused = [
        performance.decay(
            performance.measure(*labelled(800, 1.0, 2 * seed)),
            performance.measure(*labelled(800, 1.0, 2 * seed + 1)),
            policy,
        ).verdict
        == "FAIL"
        for seed in range(400)
    ]
    assert 0.02 <= np.mean(accused) <= 0.09
