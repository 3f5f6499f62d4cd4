"""Monthly figures of the demo."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from windlass.demo import scores


def test_auc_agrees_with_scikit_learn_ties_included() -> None:
    """Verify the rank-sum formula against an independent implementation."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 500).astype(float)
    values = np.round(rng.normal(size=500) + labels, 1)
    assert scores.auc(labels, values) == pytest.approx(roc_auc_score(labels, values), abs=1e-12)


def test_one_class_has_no_auc() -> None:
    """Verify that a month without both outcomes has no figure rather than a made-up one."""
    assert scores.auc(np.ones(5), np.arange(5.0)) is None


def test_each_control_stands_for_its_own_time() -> None:
    """Verify that a row is scored by the control that stood at its time, the first one before all others."""
    made = [
        scores.Control(since, lambda m, k=k: np.full(len(m), float(k)))
        for k, since in enumerate([0.0, 10.0, 20.0])
    ]
    at = np.array([-5.0, 9.9, 10.0, 19.0, 20.0, 99.0])
    assert scores.control_scores(made, at, np.zeros((6, 1), np.float32)).tolist() == [0, 0, 1, 1, 2, 2]


def test_rows_without_an_outcome_are_counted_and_never_scored() -> None:
    """Verify that a cancelled flight changes `rows` and no rate."""
    months = ["2013-02"] * 4
    labels = np.array([1.0, 0.0, 0.0, np.nan])
    live = np.array([0.9, 0.1, 0.2, 0.99])
    (row,) = scores.by_month(months, labels, live, live, live)
    assert row["rows"] == 4
    assert row["late_rate"] == pytest.approx(1 / 3, abs=1e-4)
    assert row["auc_live"] == 1.0
