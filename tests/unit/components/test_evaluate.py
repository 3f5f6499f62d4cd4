"""Metrics against slow definitions and scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from components import delong, evaluate


def sample(count: int = 2000, seed: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random(count), 2)
    return (rng.random(count) < scores).astype(float), scores


def test_metrics_equal_scikit_learns() -> None:
    labels, scores = sample()
    found = evaluate.evaluate(labels, scores, false_negative_cost=5, false_positive_cost=1)
    assert found.auc == pytest.approx(metrics.roc_auc_score(labels, scores))
    assert found.brier == pytest.approx(metrics.brier_score_loss(labels, scores))
    assert found.log_loss == pytest.approx(metrics.log_loss(labels, np.clip(scores, 1e-7, 1 - 1e-7)))


def test_the_threshold_is_the_cheapest_of_all() -> None:
    labels, scores = sample(400)
    costs = {
        t: float((5 * (labels * (scores < t)) + (1 - labels) * (scores >= t)).mean())
        for t in [*np.unique(scores), 2.0]
    }
    threshold, cost = evaluate.best_threshold(labels, scores, 5, 1)
    assert cost == pytest.approx(min(costs.values()))
    assert costs[threshold] == pytest.approx(cost)
    # with honest scores an alarm pays from cost_fp / (cost_fp + cost_fn) on
    assert threshold == pytest.approx(1 / 6, abs=0.08)


def test_where_alarms_never_pay_there_is_none() -> None:
    labels, scores = sample(400)
    labels[scores == scores.max()] = 0
    threshold, cost = evaluate.best_threshold(labels, scores, 1, 1e6)
    assert threshold > scores.max()
    assert cost == pytest.approx(labels.mean())


def test_honest_scores_are_calibrated_and_shifted_ones_are_off_by_the_shift() -> None:
    labels, scores = sample(20_000)
    honest = evaluate.calibration(labels, scores)
    assert len(honest) == 10
    assert sum(b.rows for b in honest) == 20_000
    assert max(b.rows for b in honest) - min(b.rows for b in honest) < 500
    assert evaluate.calibration_error(honest) < 0.015
    inside = scores < 0.8
    shifted = evaluate.calibration(labels[inside], scores[inside] + 0.2)
    assert evaluate.calibration_error(shifted) == pytest.approx(0.2, abs=0.015)


def test_one_score_for_all_is_one_bin() -> None:
    curve = evaluate.calibration(np.array([0.0, 1.0, 1.0, 1.0]), np.full(4, 0.5))
    assert curve == (evaluate.Bin(4, 0.5, 0.75),)
    assert evaluate.calibration_error(curve) == 0.25


def test_calibration_does_not_depend_on_the_order_of_rows() -> None:
    labels, scores = sample(997)
    order = np.random.default_rng(0).permutation(997)
    assert evaluate.calibration(labels, scores) == tuple(
        evaluate.Bin(b.rows, pytest.approx(b.predicted), pytest.approx(b.observed))
        for b in evaluate.calibration(labels[order], scores[order])
    )


def test_intervals_of_a_mean_are_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(2).normal(3, 2, 4000)
    low, high = evaluate.mean_intervals({"x": values}, seed=1, replicates=2000)["x"]
    half = 1.96 * values.std() / math.sqrt(4000)
    assert low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_blocks_of_replicates_give_what_one_block_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"x": np.arange(50.0), "y": np.arange(50.0) ** 2}
    whole = evaluate.mean_intervals(values, seed=4)
    monkeypatch.setattr(evaluate, "BLOCK", 50 * 7)
    assert evaluate.mean_intervals(values, seed=4) == whole


def test_slices_say_where_the_model_is_bad() -> None:
    labels, scores = sample(1000)
    shops = np.where(np.arange(1000) < 700, "big", "small")
    scores = np.where(shops == "small", 1 - scores, scores)
    found = evaluate.evaluate(
        labels, scores, false_negative_cost=1, false_positive_cost=1, slices={"shop": shops.tolist()}
    )
    big, small = found.slices
    assert (big.value, big.rows, small.value, small.rows) == ("big", 700, "small", 300)
    assert big.auc is not None and small.auc is not None
    assert big.auc > 0.75 and small.auc < 0.25
    assert small.auc == pytest.approx(delong.point(labels[700:], scores[700:]))


def test_a_slice_of_one_class_has_no_auc() -> None:
    (only,) = evaluate.by_slice(np.ones(3), np.array([0.1, 0.2, 0.3]), "c", ["a"] * 3)
    assert only.auc is None
    assert only.positive_rate == 1
