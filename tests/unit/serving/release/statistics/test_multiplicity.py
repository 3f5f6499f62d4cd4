"""Several hypotheses at once: tables, closed testing by brute force, and the error it is all about."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from serving.release.statistics import multiplicity


@pytest.mark.parametrize(
    ("values", "bonferroni", "holm", "bh"),
    [
        pytest.param((), (), (), (), id="nothing"),
        pytest.param((20.0,), (0,), (0,), (0,), id="one-at-the-threshold"),
        pytest.param((19.9,), (), (), (), id="one-below"),
        pytest.param((40.0, 1.0), (0,), (0,), (0,), id="one-of-two"),
        # the mean with an empty one is 20: closed testing refutes what Bonferroni does not
        pytest.param((39.0, 1.0), (), (0,), (), id="holm-refutes-more"),
        pytest.param((21.0, 21.0, 21.0), (), (0, 1, 2), (0, 1, 2), id="three-alike"),
        pytest.param((61.0, 31.0, 1.0), (0,), (0,), (0, 1), id="bh-tells-the-second"),
        pytest.param((math.inf, 1.0), (0,), (0,), (0,), id="certain"),
        pytest.param((0.0, 45.0), (1,), (1,), (1,), id="ruined-beside-strong"),
    ],
)
def test_what_is_refuted_at_five_percent(values, bonferroni, holm, bh):
    assert multiplicity.e_bonferroni(values, 0.05) == bonferroni
    assert multiplicity.e_holm(values, 0.05) == holm
    assert multiplicity.e_bh(values, 0.05) == bh


def test_holm_is_closed_testing_with_means():
    """Verify against every intersection of up to six hypotheses, by its definition."""
    rng = np.random.default_rng(8)
    for _ in range(60):
        values = np.exp(rng.normal(2.5, 1.5, rng.integers(1, 7))).tolist()
        expected = tuple(
            place
            for place in range(len(values))
            if all(
                np.mean([values[other] for other in chosen]) >= 20
                for size in range(1, len(values) + 1)
                for chosen in itertools.combinations(range(len(values)), size)
                if place in chosen
            )
        )
        assert multiplicity.e_holm(values, 0.05) == expected
        assert set(multiplicity.e_bonferroni(values, 0.05)) <= set(expected)


def test_the_errors_are_what_they_should_be():
    """Verify family-wise error and false discoveries on likelihood ratios that share their noise."""
    rng = np.random.default_rng(9)
    family = discoveries = 0.0
    for _ in range(3000):
        scores = rng.normal() * 0.6 + rng.normal(size=8) * 0.8
        scores[:3] += 4  # the first three are real
        values = np.exp(2 * scores - 2).tolist()
        family += any(place >= 3 for place in multiplicity.e_holm(values, 0.1))
        told = multiplicity.e_bh(values, 0.1)
        discoveries += sum(place >= 3 for place in told) / max(len(told), 1)
    assert 0 < family / 3000 <= 0.1
    assert 0 < discoveries / 3000 <= 0.1


def test_two_sides_share_one_wealth():
    """Verify that the e-value against "no difference" is the mean of its sides, and that large ones do not overflow."""
    assert multiplicity.either(math.log(60), math.log(0.2)) == pytest.approx(30.1)
    assert math.isfinite(multiplicity.either(5000.0, -5000.0))


@pytest.mark.parametrize(
    ("values", "alpha", "said"),
    [
        pytest.param((1.0,), 1.0, "alpha 1.0 is not between", id="alpha-1"),
        pytest.param((1.0,), 0.0, "alpha 0.0 is not between", id="alpha-0"),
        pytest.param((math.nan,), 0.05, "nan is no e-value", id="missing"),
        pytest.param((-1.0,), 0.05, "-1.0 is no e-value", id="a-logarithm"),
    ],
)
def test_what_is_no_e_value_is_refused(values, alpha, said):
    for procedure in (multiplicity.e_bonferroni, multiplicity.e_holm, multiplicity.e_bh):
        with pytest.raises(ValueError, match=said):
            procedure(values, alpha)
