"""Parts of a column add up to the column, in any order and grouping, whichever form it is kept in."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
import pyarrow as pa
import pytest
from hard_columns import columns
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from monitoring.sketches.categories import Categories, Label
from monitoring.sketches.distribution import Cells, Counts, Distribution, Values
from monitoring.sketches.grid import Grid
from monitoring.sketches.limits import Limits
from monitoring.sketches.profile import ColumnProfile, merge, of_labels, of_values
from monitoring.sketches.stream import profile
from windlass.errors import UsageError, WindlassError

Floats = NDArray[np.float64]
LIMITS = st.sampled_from([Limits(), Limits(values=60, distinct=20), Limits(values=0, distinct=20)])
STEP = 100 * math.ulp(0.0)
GRID = Grid(0.5, 0.25, (0.0,))


def content(column: ColumnProfile) -> tuple[object, ...]:
    """What must be the same to the last bit: all counts, and the form they are kept in."""
    kept = column.content
    counts: tuple[object, ...]
    if isinstance(kept, Categories):
        buckets = None if kept.buckets is None else kept.buckets.tolist()
        counts = (dict(kept.counts), buckets, kept.known)
    elif isinstance(kept, Values):
        counts = (Values, kept.values.tolist())
    elif isinstance(kept, Counts):
        counts = (Counts, kept.values.tolist(), kept.counts.tolist())
    else:
        counts = (Cells, kept.grid, kept.first, kept.counts.tolist())
    moments = column.moments
    return (column.rows, column.nulls, column.infinite, moments.n, moments.minimum, moments.maximum, *counts)


def same(a: ColumnProfile, b: ColumnProfile) -> None:
    assert content(a) == content(b)
    if a.moments.n:
        size = max(abs(a.moments.minimum), abs(a.moments.maximum))
        # (of denormal numbers such a part is 0, and a rounding is one of their steps)
        assert a.moments.mean == pytest.approx(b.moments.mean, rel=1e-12, abs=1e-13 * size + STEP)
        assert a.moments.squares == pytest.approx(
            b.moments.squares, rel=1e-9, abs=1e-14 * size * size * a.moments.n + STEP
        )


def whole(values: Floats, limits: Limits) -> ColumnProfile:
    return of_values("x", values, grid=GRID, limits=limits)


@given(a=columns(), b=columns(), c=columns(), limits=LIMITS)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_merging_is_associative_and_commutative(a: Floats, b: Floats, c: Floats, limits: Limits) -> None:
    x, y, z = (whole(part, limits) for part in (a, b, c))
    together = whole(np.concatenate((a, b, c)), limits)
    for merged in (
        merge(merge(x, y), z),
        merge(x, merge(y, z)),
        merge(z, merge(y, x)),
        merge(merge(y, z), x),
    ):
        same(merged, together)


@given(parts=st.lists(columns(most=120), min_size=1, max_size=5), limits=LIMITS, data=st.data())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_batches_of_rows_in_any_order_are_the_whole(
    parts: list[Floats], limits: Limits, data: st.DataObject
) -> None:
    rows = data.draw(st.permutations(parts))
    reference = {"x": of_values("x", np.array([0.5]), grid=GRID, limits=limits)}
    expected = merge(whole(np.concatenate(parts), limits), whole(np.empty(0), limits))
    # the accumulator takes its grid from the reference: one that was counted on it
    reference["x"] = ColumnProfile("x", 1, content=Cells(GRID, 0, np.ones(1, dtype=np.int64)), grid=GRID)
    batches = [pa.record_batch({"x": pa.array(part, from_pandas=True)}) for part in rows]
    same(profile(batches, reference=reference, limits=limits, threads=1)["x"], expected)


def labels(most: int) -> st.SearchStrategy[dict[Label, int]]:
    label = st.one_of(st.integers(0, 40).map(lambda i: f"label {i}"), st.sampled_from(["", "0", "ü"]))
    return st.dictionaries(label, st.integers(1, 50), max_size=most)


@given(a=labels(30), b=labels(30), c=labels(30), most=st.sampled_from([1, 12, 1000]))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_labels_add_up_in_any_order(
    a: dict[Label, int], b: dict[Label, int], c: dict[Label, int], most: int
) -> None:
    limits, known = Limits(categories=most), frozenset({"label 1", "label 2", "", "never seen"})
    x, y, z = (of_labels("x", counts, known=known, limits=limits, nulls=2) for counts in (a, b, c))
    total = {k: a.get(k, 0) + b.get(k, 0) + c.get(k, 0) for k in {*a, *b, *c}}
    together = of_labels("x", total, known=known, limits=limits, nulls=6)
    for merged in (merge(merge(x, y), z), merge(x, merge(y, z)), merge(z, merge(y, x))):
        assert content(merged) == content(together)


@pytest.mark.parametrize(
    ("values", "form"),
    [
        pytest.param(np.arange(60.0), Values, id="few-values"),
        pytest.param(np.arange(61.0) % 20, Counts, id="few-that-differ"),
        pytest.param(np.arange(61.0) % 21, Cells, id="neither"),
    ],
)
def test_the_form_is_the_least_that_loses_nothing(values: Floats, form: type[Distribution]) -> None:
    limits = Limits(values=60, distinct=20)
    halves = [values[::2], values[1::2]]
    merged = merge(whole(halves[0], limits), whole(halves[1], limits))
    in_batches = profile([pa.record_batch({"x": half}) for half in halves], limits=limits)["x"]
    for found in (whole(values, limits), merged, in_batches):
        assert isinstance(found.content, form)
        assert found.exact == (form is not Cells)


@pytest.mark.parametrize("most", [9, 10])
def test_labels_are_exact_up_to_the_limit(most: int) -> None:
    counts: dict[Label, int] = {f"label {i}": i + 1 for i in range(10)}
    halves = [dict(list(counts.items())[i::2]) for i in (0, 1)]
    limits = Limits(categories=most)
    merged = merge(*(of_labels("x", half, limits=limits) for half in halves))
    for found in (of_labels("x", counts, limits=limits), merged):
        assert found.exact == (most == 10)
        assert found.n == 55


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(of_values("y", np.zeros(3), grid=GRID), id="another column"),
        pytest.param(of_values("x", np.zeros(3), grid=Grid(7.0)), id="another grid"),
        pytest.param(of_values("x", np.zeros(3), grid=GRID, limits=Limits(values=1)), id="other limits"),
        pytest.param(of_labels("x", {"a": 3}), id="another kind"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(other: ColumnProfile) -> None:
    with pytest.raises(WindlassError, match="profile both parts"):
        merge(whole(np.zeros(3), Limits()), other)


def test_labels_known_apart_differently_are_refused() -> None:
    with pytest.raises(WindlassError, match="know different labels"):
        merge(of_labels("x", {"a": 1}, known=frozenset("a")), of_labels("x", {"a": 1}))


@pytest.mark.parametrize("broken", [{"values": -1}, {"distinct": 19}, {"categories": 0}])
def test_limits_that_cannot_be_kept_are_refused(broken: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="cannot be kept"):
        Limits(**broken)


def test_merging_many_parts_costs_no_digits() -> None:
    """Verify that a thousand merges far from zero keep the variance that numpy finds in extended precision."""
    values = 1e8 + np.random.default_rng(1).normal(size=100_000)
    parts = [whole(part, Limits(values=0)) for part in np.array_split(values, 1000)]
    found = reduce(merge, parts)
    assert found.moments.variance == pytest.approx(float(values.astype(np.longdouble).var()), rel=1e-9)


def test_a_part_without_rows_has_no_type() -> None:
    numbers = of_values("x", np.arange(3.0), grid=GRID, integer=True)
    nothing, floats = whole(np.empty(0), Limits()), whole(np.arange(3.0), Limits())
    assert merge(numbers, nothing).integer
    assert merge(nothing, numbers).integer
    assert not merge(numbers, floats).integer
