"""Columns that break statistics: constants, ties, heavy tails, far from zero, subnormal, infinite, missing, tiny."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st
from numpy.random import Generator
from numpy.typing import NDArray

Floats = NDArray[np.float64]

KINDS: dict[str, Callable[[Generator, int], Floats]] = {
    "normal": lambda r, n: r.normal(size=n),
    "shifted": lambda r, n: r.normal(0.5, 2.0, size=n),
    "far from zero": lambda r, n: 1e9 + r.normal(size=n),
    "far from zero and narrow": lambda r, n: 1e6 + r.normal(size=n) * 1e-7,
    "lognormal": lambda r, n: r.lognormal(sigma=3.0, size=n),
    "pareto": lambda r, n: r.pareto(0.3, size=n),
    "cauchy": lambda r, n: r.standard_cauchy(size=n) ** 3,
    "constant": lambda r, n: np.full(n, float(r.integers(-2, 3))),
    "few values": lambda r, n: r.integers(0, 4, n) / 10.0,
    "counts": lambda r, n: r.poisson(20, n).astype(np.float64),
    "whole numbers": lambda r, n: r.integers(-(10**12), 10**12, n).astype(np.float64),
    "ties and tails": lambda r, n: np.where(r.random(n) < 0.5, 0.0, r.normal(size=n)),
    "both zeros": lambda r, n: np.where(r.random(n) < 0.5, -0.0, 0.0),
    "subnormal": lambda r, n: r.integers(-50, 50, n).astype(np.float64) * 5e-324,
    "tiny": lambda r, n: r.normal(size=n) * 1e-200,
    "huge": lambda r, n: r.normal(size=n) * 1e140,
    "all sizes": lambda r, n: np.sign(r.normal(size=n)) * 10.0 ** r.uniform(-250, 140, n),
}


def column(kind: str, seed: int, n: int, missing: float = 0.0, infinite: float = 0.0) -> Floats:
    """A column of the kind with shares of missing and infinite values."""
    r = np.random.default_rng(seed)
    values = KINDS[kind](r, n)
    values[r.random(n) < missing] = np.nan
    values[r.random(n) < infinite] = r.choice([np.inf, -np.inf])
    return values


def columns(least: int = 0, most: int = 300) -> st.SearchStrategy[Floats]:
    """Columns of every kind, and short lists of any floats."""
    drawn = st.builds(
        column,
        kind=st.sampled_from(sorted(KINDS)),
        seed=st.integers(0, 2**32 - 1),
        n=st.integers(least, most),
        missing=st.sampled_from([0.0, 0.2]),
        infinite=st.sampled_from([0.0, 0.0, 0.1]),
    )
    anything = st.lists(
        st.one_of(st.floats(-1e140, 1e140), st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0])),
        min_size=least,
        max_size=30,
    ).map(lambda values: np.array(values, dtype=np.float64))
    return st.one_of(drawn, drawn, anything)


def finite(values: Floats) -> Floats:
    """What Evidently keeps of a column."""
    return values[np.isfinite(values)]
