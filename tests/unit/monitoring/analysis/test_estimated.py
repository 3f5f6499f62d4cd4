"""Performance before labels: what it promises on real months, and what it cannot see."""

from __future__ import annotations

import numpy as np
import pytest
from real_flights import Flights, flights

from monitoring import performance
from monitoring.analysis import estimated
from monitoring.analysis.estimated import METRICS, Estimator

CUT, END = "2013-05-25", "2013-06-01"
DAY = 86400.0


def measured(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    found = performance.measure(labels, scores)
    right = float(np.mean((scores >= 0.5) == (labels == 1)))
    return {"auc": found.auc, "brier": found.brier, "log_loss": found.log_loss, "accuracy": right}


@pytest.fixture(scope="module")
def year() -> Flights:
    return flights(CUT)


@pytest.fixture(scope="module")
def fitted(year: Flights) -> Estimator:
    rows = year.between(CUT, END) & np.isfinite(year.labels)
    found = estimated.fit(year.labels[rows], year.scores[rows], year.at[rows])
    assert found is not None
    return found


@pytest.mark.parametrize("month", range(6, 12))
def test_what_a_real_month_turned_out_to_be_lies_within_the_stated_error(
    year: Flights, fitted: Estimator, month: int
) -> None:
    """Verify that June to November of real flights fall into the intervals that a week of May gave."""
    rows = year.between(f"2013-{month:02d}-01", f"2013-{month + 1:02d}-01") & np.isfinite(year.labels)
    promised = fitted.estimate(year.scores[rows], year.at[rows], confidence=0.95)
    real = measured(year.labels[rows], year.scores[rows])
    assert set(promised) == set(METRICS)
    for metric, estimate in promised.items():
        assert estimate.lower <= real[metric] <= estimate.upper, metric
        # an interval that holds everything would promise nothing
        assert estimate.error < 0.06, metric


def test_months_that_differ_are_told_apart(year: Flights, fitted: Estimator) -> None:
    """Verify that the estimate follows the months and is no constant: September was easy, July was not."""
    brier: dict[int, tuple[float, float]] = {}
    for month in range(6, 12):
        rows = year.between(f"2013-{month:02d}-01", f"2013-{month + 1:02d}-01") & np.isfinite(year.labels)
        promised = fitted.estimate(year.scores[rows], year.at[rows])["brier"].value
        brier[month] = promised, measured(year.labels[rows], year.scores[rows])["brier"]
    promised_months, real_months = zip(*brier.values(), strict=True)
    assert np.corrcoef(promised_months, real_months)[0, 1] > 0.9


def test_concept_drift_is_not_seen(year: Flights, fitted: Estimator) -> None:
    """Verify the documented limit: outcomes that turn around under the same scores leave the estimate as it is."""
    rows = year.between("2013-07-01", "2013-08-01") & np.isfinite(year.labels)
    turned = year.labels[rows].copy()
    turned[::3] = 1 - turned[::3]
    before = fitted.estimate(year.scores[rows], year.at[rows])["auc"]
    assert measured(year.labels[rows], year.scores[rows])["auc"] >= before.lower
    assert measured(turned, year.scores[rows])["auc"] < before.lower - 0.05


def test_a_model_of_one_month_promises_too_much_in_june() -> None:
    """Verify the same limit on what really happened: to a model of January alone, June was another concept."""
    year = flights("2013-02-01")
    known = np.isfinite(year.labels)
    rows = year.between("2013-02-01", "2013-03-01") & known
    fitted = estimated.fit(year.labels[rows], year.scores[rows], year.at[rows])
    assert fitted is not None
    june = year.between("2013-06-01", "2013-07-01") & known
    promised = fitted.estimate(year.scores[june], year.at[june])["brier"]
    assert promised.upper is not None
    assert measured(year.labels[june], year.scores[june])["brier"] > promised.upper


def test_scores_that_are_no_probabilities_are_calibrated_first() -> None:
    """Verify that the intervals hold for a model that is far too sure, in all but a few of many windows."""
    draw = np.random.default_rng(5)

    def sample(n: int, mean: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        z = draw.normal(mean, 1, n)
        labels = (draw.random(n) < 1 / (1 + np.exp(1 - 1.2 * z))).astype(float)
        return labels, 1 / (1 + np.exp(1 - 3.0 * z)), np.sort(draw.random(n)) * 7 * DAY

    held = dict.fromkeys(METRICS, 0)
    for _ in range(60):
        found = estimated.fit(*sample(3000, 0.0))
        assert found is not None
        assert found.calibration.calibrator.method != "identity"
        labels, scores, at = sample(2000, 0.5)
        real = measured(labels, scores)
        for metric, estimate in found.estimate(scores, at).items():
            held[metric] += estimate.lower <= real[metric] <= estimate.upper
    assert min(held.values()) >= 54


def test_days_that_are_bad_together_widen_the_error() -> None:
    """Verify that an error by days is larger than one by rows where whole days are late, and not otherwise."""
    draw = np.random.default_rng(6)
    at = np.sort(draw.random(4000)) * 14 * DAY
    scores = draw.beta(2, 5, 4000)
    bad = draw.normal(0, 1.0, 14)[(at // DAY).astype(int)]
    together = (draw.random(4000) < 1 / (1 + np.exp(-(np.log(scores / (1 - scores)) + bad)))).astype(float)
    alone = (draw.random(4000) < scores).astype(float)
    errors = {}
    for name, labels in (("together", together), ("alone", alone)):
        found = estimated.fit(labels, scores, at)
        assert found is not None
        errors[name] = found.estimate(scores[:2000], at[:2000])["brier"].error
    assert errors["together"] > 2 * errors["alone"]


def test_a_known_outcome_is_a_special_case_of_an_expected_one() -> None:
    """Verify that with probabilities 0 and 1 the figures and errors are the measured ones, DeLong's among them."""
    draw = np.random.default_rng(7)
    scores = np.round(draw.beta(2, 5, 900), 2)  # ties on purpose
    labels = (draw.random(900) < scores).astype(float)
    known = performance.measure(labels, scores)
    for metric in ("auc", "brier", "log_loss"):
        found = estimated.measured(metric, labels, scores, None)
        assert found.value == pytest.approx(getattr(known, metric), abs=1e-12)
        assert found.error == pytest.approx(getattr(known, f"{metric}_error"), rel=0.01)


def test_the_expected_auc_is_that_of_every_pair() -> None:
    """Verify the sums over ranks against the definition, pair by pair."""
    draw = np.random.default_rng(8)
    scores, p = np.round(draw.random(40), 1), draw.random(40)
    above = total = 0.0
    for i in range(40):
        for j in range(40):
            if i != j:
                weight = p[i] * (1 - p[j])
                total += weight
                above += weight * ((scores[i] > scores[j]) + (scores[i] == scores[j]) / 2)
    assert estimated.expected("auc", scores, p, 0.5)[0] == pytest.approx(above / total, abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "scores"),
    [
        pytest.param(np.zeros(1000), np.full(1000, 0.2), id="one-class"),
        pytest.param(np.array([0.0, 1.0] * 100), np.full(200, 0.5), id="too-few-rows"),
    ],
)
def test_rows_that_say_too_little_give_no_estimator(labels: np.ndarray, scores: np.ndarray) -> None:
    assert estimated.fit(labels, scores, None) is None


def test_a_window_without_rows_has_no_estimate(fitted: Estimator) -> None:
    assert fitted.estimate(np.empty(0), np.empty(0)) == {}


def test_one_day_does_not_tell_how_days_differ() -> None:
    """Verify that rows of a single day have a value and no error, instead of one that is far too small."""
    draw = np.random.default_rng(9)
    scores = draw.beta(2, 5, 900)
    labels = (draw.random(900) < scores).astype(float)
    one = estimated.measured("auc", labels, scores, np.arange(900.0))
    two = estimated.measured("auc", labels, scores, np.arange(900.0) * 200)
    assert one.value == two.value
    assert (np.isnan(one.error), one.freedom, two.freedom) == (True, 0, 2)
