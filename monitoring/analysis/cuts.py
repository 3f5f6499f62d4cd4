"""Ways of cutting rows into cells: by category, by quartile, by text, and crossings of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.columns import Floats

Ints = NDArray[np.int64]

QUANTILES = (0.25, 0.5, 0.75)
FEW = 8


@dataclass(frozen=True, eq=False)
class Cut:
    """One way of cutting rows into cells.

    Attributes:
        cells: a name for each cell.
        reference, window: cell of each row.
        shape: numbers of cells of the two that it crosses; None where it is no crossing.
    """

    cells: Sequence[str]
    reference: Ints
    window: Ints
    shape: tuple[int, int] | None = None


def cut(name: str, reference: Floats, window: Floats, categories: Sequence[str] | None = None) -> Cut:
    """Cut by one input: by category, by value where there are few, else at the reference's quartiles.

    Args:
        reference, window: the input's values; NaN is missing and a cell of its own.
        categories: names of a category's positions; None of a number.
    """
    finite = reference[np.isfinite(reference)]
    values = np.unique(finite)
    if categories is not None or len(values) <= FEW:
        known = np.arange(len(categories), dtype=float) if categories is not None else values
        named = list(categories) if categories is not None else [f"{v:g}" for v in values]
        cells = (*(f"{name}={n}" for n in named), f"{name} is new", f"{name} is missing")
        return Cut(cells, _positions(reference, known), _positions(window, known))
    edges = np.unique(np.quantile(finite, QUANTILES))
    texts = [f"{e:.4g}" for e in edges]
    cells = (
        f"{name} <= {texts[0]}",
        *(f"{low} < {name} <= {high}" for low, high in pairwise(texts)),
        f"{name} > {texts[-1]}",
        f"{name} is missing",
    )
    return Cut(cells, _binned(reference, edges), _binned(window, edges))


def text_cut(name: str, reference: Sequence[str], window: Sequence[str]) -> Cut:
    """Cut by a column of texts that is no input of the model."""
    known = {value: float(i) for i, value in enumerate(sorted(set(reference)))}
    there = np.array([known[v] for v in reference])
    # -1 is no position: a text that training had not
    here = np.array([known.get(v, -1.0) for v in window])
    return cut(name, there, here, tuple(known))


def cross(first: Cut, second: Cut) -> Cut:
    """Every cell of one with every cell of the other."""
    width = len(second.cells)
    return Cut(
        _Crossed(first.cells, second.cells),
        first.reference * width + second.reference,
        first.window * width + second.window,
        shape=(len(first.cells), width),
    )


class _Crossed(Sequence[str]):
    """Names of crossed cells, made when one is asked for: of two columns of thousands there are millions."""

    def __init__(self, first: Sequence[str], second: Sequence[str]) -> None:
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first) * len(self._second)

    def __getitem__(self, cell: Any) -> Any:
        one, other = divmod(range(len(self))[cell], len(self._second))
        return f"{self._first[one]} and {self._second[other]}"


def _positions(values: Floats, known: Floats) -> Ints:
    place = np.searchsorted(known, values)
    exact = np.isin(values, known)
    found = np.where(exact, np.minimum(place, len(known) - 1), len(known))
    return np.where(np.isnan(values), len(known) + 1, found).astype(np.int64)


def _binned(values: Floats, edges: Floats) -> Ints:
    found = np.searchsorted(edges, values, side="left")
    return np.where(np.isnan(values), len(edges) + 1, found).astype(np.int64)
