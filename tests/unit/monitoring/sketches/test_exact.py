"""Where a column is exact, every statistic is Evidently's and scipy's own, value by value."""

from __future__ import annotations

import numpy as np
import pytest
from hard_columns import KINDS, column, columns, finite
from hypothesis import assume, given, settings
from numpy.typing import NDArray

from monitoring.sketches.binned import sturges
from monitoring.sketches.distances import Method, compare, default_method
from monitoring.sketches.limits import Limits
from monitoring.sketches.profile import ColumnProfile, of_labels, of_values, quantile

Floats = NDArray[np.float64]
BY_COUNTS = Limits(values=0, distinct=100_000)
PAIRS = [
    pytest.param(a, b, id=f"{a} against {b}")
    for a, b in [
        *((kind, kind) for kind in KINDS),
        ("normal", "shifted"),
        ("normal", "constant"),
        ("constant", "normal"),
        ("few values", "counts"),
        ("counts", "normal"),
        ("whole numbers", "counts"),
        ("lognormal", "pareto"),
    ]
]


def evidently(method: str, reference: Floats, current: Floats, kind: str = "num") -> float:
    """Evidently's own value of two columns as it cleans them."""
    import pandas as pd
    from evidently.legacy.calculations.stattests import get_stattest
    from evidently.legacy.core import ColumnType

    sides = pd.Series(finite(reference)), pd.Series(finite(current))
    test = get_stattest(*sides, kind, method)
    return float(test(*sides, ColumnType(kind), None).drift_score)


def scipys(method: str, reference: Floats, current: Floats) -> float:
    from scipy import stats

    if method == "ks":
        return float(stats.ks_2samp(finite(reference), finite(current), method="asymp").statistic)
    return float(stats.wasserstein_distance(finite(reference), finite(current)))


@pytest.mark.parametrize("method", ["wasserstein", "psi", "jensenshannon"])
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_numeric_distance_is_evidentlys(one: str, other: str, method: Method) -> None:
    reference, current = column(one, 1, 3000, missing=0.1), column(other, 2, 1700, infinite=0.02)
    try:
        theirs = evidently(method, reference, current)
    except ValueError as error:  # numpy cannot cut such a range into bins
        pytest.skip(str(error))
    for limits in (Limits(), BY_COUNTS):
        sides = [of_values("x", side, limits=limits) for side in (reference, current)]
        ours = compare(sides[0], sides[1], method)
        assert ours.exact
        assert ours.value == pytest.approx(theirs, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("whole", "gap", "narrow"),
    [
        pytest.param(True, False, False, id="whole by type"),
        pytest.param(False, False, True, id="floats"),
        pytest.param(True, True, True, id="whole with a gap, which pandas holds as floats"),
    ],
)
def test_whole_numbers_are_cut_into_the_bins_that_numpy_makes_of_their_type(
    whole: bool, gap: bool, narrow: bool
) -> None:
    """Verify Sturges's rule where it asks for bins narrower than 1: numpy makes no such bins of integers."""
    import pandas as pd
    from evidently.legacy.calculations.stattests import psi_stat_test
    from evidently.legacy.core import ColumnType

    r = np.random.default_rng(3)
    sides = [r.integers(0, 21, 600_000), r.binomial(20, 0.5, 600_000)]
    typed = [pd.Series(side if whole else side.astype(np.float64)) for side in sides]
    columns = [side.astype(np.float64) for side in sides]
    if gap:
        typed = [pd.concat([side, pd.Series([np.nan])]).dropna() for side in typed]
        columns = [np.append(side, np.nan) for side in columns]
    theirs = psi_stat_test(typed[0], typed[1], ColumnType.Numerical, None).drift_score
    reference, current = (of_values("x", side, integer=whole) for side in columns)
    assert compare(reference, current, "psi").value == pytest.approx(theirs, abs=1e-9)
    assert len(sturges(reference, current)) - 1 == (22 if narrow else 20)


@pytest.mark.parametrize("distinct", [19, 20, 21, 22])
@pytest.mark.parametrize("method", ["psi", "jensenshannon"])
def test_a_reference_of_few_values_is_compared_value_by_value(method: Method, distinct: int) -> None:
    r = np.random.default_rng(4)
    reference = np.append(np.arange(float(distinct)), r.integers(0, distinct, 4000))
    current = r.poisson(distinct / 2, 3000).astype(np.float64)
    theirs = evidently(method, reference, current)
    ours = compare(of_values("x", reference), of_values("x", current), method)
    assert ours.value == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("method", ["wasserstein", "ks"])
@given(reference=columns(1), current=columns(1))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_distance_between_distribution_functions_is_scipys(
    method: Method, reference: Floats, current: Floats
) -> None:
    assume(len(finite(reference)) and len(finite(current)))
    theirs = scipys(method, reference, current)
    for limits in (Limits(), BY_COUNTS):
        sides = [of_values("x", side, limits=limits) for side in (reference, current)]
        # the norm is tested with Evidently's; here it must not hide what is small
        ours = compare(sides[0], sides[1], method, norm=1.0)
        assert ours.value == pytest.approx(theirs, rel=1e-9, abs=1e-300 if method == "wasserstein" else 1e-12)


@given(reference=columns(1), current=columns(1))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_nothing_is_ever_undefined_where_both_sides_have_values(reference: Floats, current: Floats) -> None:
    assume(len(finite(reference)) and len(finite(current)))
    sides = [of_values("x", side) for side in (reference, current)]
    methods: tuple[Method, ...] = ("wasserstein", "ks", "jensenshannon", "psi", "mean", "deviation", "nulls")
    for method in methods:
        found = compare(sides[0], sides[1], method)
        assert found.value is not None
        assert np.isfinite(found.value)
        assert found.lower == found.value == found.upper
        assert found.exact


def labelled(values: Floats, limits: Limits = BY_COUNTS) -> ColumnProfile:
    labels, counts = np.unique(finite(values), return_counts=True)
    return of_labels("x", dict(zip(labels.tolist(), counts.tolist(), strict=True)), limits=limits)


@pytest.mark.parametrize("method", ["psi", "jensenshannon", "chisquare"])
@pytest.mark.parametrize(
    ("known", "seen"),
    [
        pytest.param((0, 8), (0, 8), id="the same labels"),
        pytest.param((0, 8), (0, 3), id="labels that went"),
        pytest.param((0, 8), (2, 12), id="labels that came and went"),
        pytest.param((0, 1), (0, 2), id="one label and a new one"),
        pytest.param((0, 900), (0, 900), id="hundreds of labels"),
    ],
)
def test_a_categorical_distance_is_evidentlys(
    known: tuple[int, int], seen: tuple[int, int], method: Method
) -> None:
    r = np.random.default_rng(5)
    reference, current = r.integers(*known, 20_000).astype(float), r.integers(*seen, 15_000).astype(float)
    ours = compare(labelled(reference), labelled(current), method)
    with np.errstate(divide="ignore"):
        theirs = evidently(method, reference, current, "cat")
    assert ours.value == pytest.approx(theirs, abs=1e-9)
    assert ours.exact


def test_total_variation_is_evidentlys() -> None:
    """Verify the distance itself: as a drift score Evidently makes a p-value of it by permutation."""
    import pandas as pd
    from evidently.legacy.calculations.stattests.tvd_stattest import _total_variation_distance

    r = np.random.default_rng(6)
    reference, current = r.integers(0, 9, 5000).astype(float), r.integers(2, 11, 3000).astype(float)
    theirs = _total_variation_distance(pd.Series(reference), pd.Series(current))
    assert compare(labelled(reference), labelled(current), "tvd").value == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("q", [0.0, 0.01, 0.25, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_quantile_is_numpys(kind: str, q: float) -> None:
    values = column(kind, 4, 800)
    expected = float(np.quantile(values, q, method="inverted_cdf"))
    for limits in (Limits(), BY_COUNTS):
        assert quantile(of_values("x", values, limits=limits), q) == (expected, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_moments_are_numpys(kind: str) -> None:
    values = column(kind, 8, 4001, missing=0.3)
    present = finite(values)
    found = of_values("x", values)
    assert (found.moments.minimum, found.moments.maximum) == (present.min(), present.max())
    assert found.moments.mean == pytest.approx(present.mean(), rel=1e-12)
    # numpy's own sum around the mean, in more digits than it keeps by itself
    wide = present.astype(np.longdouble)
    assert found.moments.deviation == pytest.approx(float(wide.std()), rel=1e-9)
    assert found.null_share == pytest.approx(np.isnan(values).mean())


@pytest.mark.parametrize(
    ("reference", "current", "expected"),
    [
        pytest.param(
            np.zeros(10), np.full(10, 3.0), "jensenshannon", id="few values are compared as categories"
        ),
        pytest.param(np.arange(10.0), np.arange(10.0), "wasserstein", id="more are measured"),
        pytest.param(np.arange(3.0), np.arange(3.0, 6.0), "wasserstein", id="six in both together are more"),
        pytest.param(np.arange(3.0), np.arange(2.0, 5.0), "jensenshannon", id="five are few"),
    ],
)
def test_the_default_distance_is_evidentlys(reference: Floats, current: Floats, expected: str) -> None:
    from evidently.legacy.calculations.stattests.registry import _get_default_stattest
    from evidently.legacy.core import ColumnType
    from pandas import Series

    assert default_method(of_values("x", reference), of_values("x", current)) == expected
    many = np.repeat(reference, 1000), np.repeat(current, 1000)
    assert _get_default_stattest(*map(Series, many), ColumnType.Numerical).name == expected


@pytest.mark.parametrize("empty", [np.empty(0), np.full(5, np.nan), np.array([np.inf, np.nan])])
def test_a_side_without_values_has_no_distance(empty: Floats) -> None:
    """Verify that missing data is not a distance of 0."""
    some, none = of_values("x", np.arange(9.0)), of_values("x", empty)
    for pair in ((some, none), (none, some), (none, none)):
        found = compare(pair[0], pair[1], "wasserstein")
        assert (found.value, found.lower, found.upper, found.exact) == (None, None, None, False)


@pytest.mark.parametrize("limits", [Limits(), Limits(values=0, distinct=20)], ids=["exact", "in cells"])
def test_a_distance_that_no_number_holds_is_none(limits: Limits) -> None:
    """Verify that values at the ends of what a double can be give no NaN and no infinity."""
    far = np.linspace(0.9e308, 1.7e308, 25)
    values = np.concatenate((-far, far))
    sides = [of_values("x", side, limits=limits) for side in (np.arange(50.0), values)]
    assert compare(sides[0], sides[1], "ks").value == pytest.approx(0.5, abs=0.02)
    found = compare(sides[1], sides[0], "wasserstein")
    assert (found.value, found.lower, found.upper) == (None, None, None)
