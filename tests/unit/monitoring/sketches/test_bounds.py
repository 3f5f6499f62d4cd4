"""What cells and buckets cannot tell lies within the bounds that they state, for any column."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hard_columns import KINDS, column, columns, finite
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from monitoring.sketches.distances import Distance, Method, compare
from monitoring.sketches.distribution import Cells
from monitoring.sketches.grid import Grid
from monitoring.sketches.limits import Limits
from monitoring.sketches.profile import ColumnProfile, of_labels, of_values, quantile

Floats = NDArray[np.float64]
NUMERIC: tuple[Method, ...] = ("wasserstein", "ks", "jensenshannon", "psi")
SKETCHED = Limits(values=0, distinct=20)
GRIDS = [
    Grid(),
    Grid(1e9, 1e-3),
    Grid(-1.0, 1e-290),
    Grid(0.3, 1e200),
    Grid(-1.0, 3.0, (-1.0, 0.0, 0.1, 1e9)),
]


def within(found: Distance, exact: Distance) -> bool:
    assert found.lower is not None and found.upper is not None and exact.value is not None
    # the exact value is itself rounded
    slack = 1e-12 * abs(exact.value) + 1e-14
    assert found.value is not None and found.lower <= found.value <= found.upper
    return found.lower - slack <= exact.value <= found.upper + slack


@pytest.mark.parametrize("own", [True, False], ids=["on the reference's grid", "on any grid"])
@given(reference=columns(1), current=columns(1), data=st.data())
@settings(max_examples=250, deadline=None, derandomize=True)
def test_the_exact_distance_lies_within_the_bounds(
    own: bool, reference: Floats, current: Floats, data: st.DataObject
) -> None:
    assume(len(finite(reference)) and len(finite(current)))
    grid = Grid.of(np.sort(finite(reference))) if own else data.draw(st.sampled_from(GRIDS))
    exact = [of_values("x", side) for side in (reference, current)]
    cells = [of_values("x", side, grid=grid, limits=SKETCHED) for side in (reference, current)]
    mixed = data.draw(st.sampled_from([cells, [exact[0], cells[1]], [cells[0], exact[1]]]))
    for method in NUMERIC:
        found, true = (
            compare(mixed[0], mixed[1], method, norm=1.0),
            compare(exact[0], exact[1], method, norm=1.0),
        )
        assert within(found, true), (method, found, true)


def area(reference: Floats, current: Floats) -> Fraction:
    """The area between two distribution functions in numbers that are not rounded."""
    points = sorted({*reference.tolist(), *current.tolist()})
    total = Fraction(0)
    for left, right in itertools.pairwise(points):
        shares = [Fraction(int(np.count_nonzero(side <= left)), len(side)) for side in (reference, current)]
        total += abs(shares[0] - shares[1]) * (Fraction(right) - Fraction(left))
    return total


@given(reference=columns(1, 60), current=columns(1, 60))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_rounding_is_within_the_wasserstein_bounds(reference: Floats, current: Floats) -> None:
    assume(len(finite(reference)) and len(finite(current)))
    grid = Grid.of(np.sort(finite(reference)))
    cells = [of_values("x", side, grid=grid, limits=SKETCHED) for side in (reference, current)]
    assume(any(isinstance(side.content, Cells) for side in cells))
    found = compare(cells[0], cells[1], "wasserstein", norm=1.0)
    assert found.lower is not None and found.upper is not None
    assert Fraction(found.lower) <= area(finite(reference), finite(current)) <= Fraction(found.upper)


@given(values=columns(1), q=st.floats(0.0, 1.0))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_quantile_lies_within_its_cell(values: Floats, q: float) -> None:
    assume(len(finite(values)))
    grid = Grid.of(np.sort(finite(values)))
    low, high = quantile(of_values("x", values, grid=grid, limits=SKETCHED), q)
    exact, _ = quantile(of_values("x", values), q)
    slack = 1e-12 * max(abs(exact), abs(grid.centre))
    assert low - slack <= exact <= high + slack


@pytest.mark.parametrize("kind", ["normal", "lognormal", "pareto", "far from zero", "ties and tails"])
def test_the_bounds_are_narrow_enough_to_judge_by(kind: str) -> None:
    """Verify that a distance whose threshold is 0.1 is known to a hundredth of that, in the bulk and in the tail."""
    n = 50_000
    reference, current = column(kind, 1, n), column(kind, 2, n)
    grid = Grid.of(np.sort(reference))
    cells = [of_values("x", side, grid=grid, limits=SKETCHED) for side in (reference, current)]
    assert all(isinstance(side.content, Cells) for side in cells)
    for method in ("wasserstein", "ks"):
        found = compare(cells[0], cells[1], method)
        assert found.lower is not None and found.upper is not None
        assert found.upper - found.lower < 0.004
        assert not found.exact


def test_the_wasserstein_bounds_are_no_wider_than_the_grid_says() -> None:
    """Verify the claim of the grid: 2**-10 of both mean distances from the centre and twice the scale."""
    reference, current = column("lognormal", 1, 20_000), column("pareto", 2, 20_000)
    grid = Grid.of(np.sort(reference))
    cells = [of_values("x", side, grid=grid, limits=SKETCHED) for side in (reference, current)]
    found = compare(cells[0], cells[1], "wasserstein", norm=1.0)
    assert found.lower is not None and found.upper is not None
    fine = max(np.abs(side - grid.centre).max() for side in (reference, current)) / grid.scale
    apart = sum(float(np.abs(side - grid.centre).mean()) for side in (reference, current))
    assert fine > 2**24  # the pareto's tail leaves the fine cells: there an octave is one cell
    near = np.abs(current - grid.centre) < 2**24 * grid.scale
    assert near.mean() > 0.98
    coarse = float(np.where(near, 0.0, np.abs(current - grid.centre)).mean())
    assert found.upper - found.lower <= 2 * (2**-10 * (2 * grid.scale + apart) + coarse)


@pytest.mark.parametrize("grid", [*GRIDS, Grid(5e-324, 1.0)], ids=str)
def test_cells_are_in_the_order_of_the_values(grid: Grid) -> None:
    """Verify that equal values share a cell, both zeros too, and that a larger value is in no lower cell."""
    values = np.sort(np.concatenate([finite(column(kind, 3, 200)) for kind in KINDS]))
    found = grid.cells(values)
    assert found.min() >= 0
    assert found.max() < grid.size
    assert (np.diff(found) >= 0).all()
    assert (np.diff(found)[np.diff(values) == 0] == 0).all()


@pytest.mark.parametrize("grid", [None, *GRIDS], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_value_lies_between_the_ends_of_its_cell(kind: str, grid: Grid | None) -> None:
    values = np.sort(column(kind, 3, 500))
    grid = grid or Grid.of(values)
    cells = grid.cells(values)
    ends = grid.ends()
    assert len(ends) == grid.size + 1
    assert (np.diff(ends[np.isfinite(ends)]) >= 0).all()
    low, high = ends[cells], ends[cells + 1]
    slack = 2.0**-49 * (np.abs(values) + abs(grid.centre))
    assert (low - slack <= values).all()
    assert (values <= high + slack).all()
    apart = np.abs(values - grid.centre)
    fine = apart < 2**24 * grid.scale
    assert (high - low <= 2.0**-10 * (grid.scale + apart) + 2 * slack)[fine].all()


def many(r: np.random.Generator, first: int, last: int, n: int) -> dict[str | float, int]:
    labels, counts = np.unique(r.integers(first, last, n), return_counts=True)
    return {f"label {label}": int(count) for label, count in zip(labels, counts, strict=True)}


@given(seed=st.integers(0, 2**32 - 1), start=st.integers(0, 60), known=st.sampled_from([5, 40, 3000]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_labels_in_buckets_are_within_the_bounds(seed: int, start: int, known: int) -> None:
    r = np.random.default_rng(seed)
    counts = many(r, 0, known, 2000), many(r, start, start + 4000, 3000)
    exact = [of_labels("x", c) for c in counts]
    few = Limits(categories=100)
    reference = of_labels("x", counts[0], limits=few)
    labels = frozenset(counts[0]) if reference.exact else frozenset[str | float]()
    current = of_labels("x", counts[1], known=labels, limits=few)
    assert not current.exact
    for method in ("jensenshannon", "psi", "tvd", "chisquare"):
        found = compare(reference, current, method)
        assert within(found, compare(exact[0], exact[1], method)), method
        if reference.exact and method != "psi":
            assert found.exact, "labels that the reference never had need not be told apart"


def test_the_reference_keeps_its_few_values_beside_a_window_in_cells() -> None:
    r = np.random.default_rng(2)
    reference = r.integers(0, 4, 2000).astype(float)
    current = np.where(r.random(4000) < 0.7, r.integers(0, 4, 4000), r.normal(20, 3, 4000))
    grid = Grid.of(np.sort(reference))
    exact: list[ColumnProfile] = [of_values("x", side) for side in (reference, current)]
    cells = [exact[0], of_values("x", current, grid=grid, limits=SKETCHED)]
    for method in NUMERIC:
        assert within(compare(cells[0], cells[1], method), compare(exact[0], exact[1], method))
