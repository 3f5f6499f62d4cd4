"""Sums of an arm: what they hold, that they add, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from serving.release.statistics.moments import Moments

VALUES, VIEWS, BEFORE = [1.0, 0.0, 3.0, 2.0], [2.0, 1.0, 4.0, 3.0], [0.5, 0.1, 2.0, 1.0]


def test_they_are_the_sums_of_values_squares_and_products():
    y, z, x = map(np.array, (VALUES, VIEWS, BEFORE))
    found = Moments.of(VALUES, VIEWS, BEFORE)
    sums = (found.n, found.y, found.yy, found.z, found.zz, found.yz, found.x, found.xx, found.xy, found.xz)
    expected = (4, y.sum(), y @ y, z.sum(), z @ z, y @ z, x.sum(), x @ x, x @ y, x @ z)
    assert sums == pytest.approx(expected)


def test_two_halves_add_to_the_whole_and_can_be_taken_away():
    """Verify that a journal may hold parts."""
    whole = Moments.of(VALUES, VIEWS)
    first, second = Moments.of(VALUES[:1], VIEWS[:1]), Moments.of(VALUES[1:], VIEWS[1:])
    assert first + second == whole
    assert whole - first == second
    assert whole + Moments() == whole


def test_arrays_of_repetitions_add_elementwise():
    both = Moments(n=np.array([1, 2]), y=np.array([1.0, 2.0])) + Moments(n=1, y=1.0)
    assert (both.n.tolist(), both.y.tolist()) == ([2, 3], [2.0, 3.0])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(([1.0, math.nan],), "nan is not a finite", id="missing-outcome"),
        pytest.param(([1.0], [math.inf]), "inf is not a finite", id="infinite-denominator"),
        pytest.param(([1.0, 2.0], [1.0]), "2 values, 1 denominators", id="lengths"),
    ],
)
def test_what_is_no_observation_is_refused(arguments, said):
    """Verify that a missing outcome never counts as a number."""
    with pytest.raises(ValueError, match=said):
        Moments.of(*arguments)
