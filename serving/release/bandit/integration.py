"""The chance that each of several quantities is the largest, by quadrature: the same figures every time.

For independent ones P(k is largest) is the integral of density k times the product of the others' distribution
functions. The line is cut into panels that are narrow where any of the densities is; in each panel a density is a
polynomial through its Gauss-Legendre nodes, which gives the integrals and the distribution functions at once. Densities
are given up to a factor, so no special function is needed. Tests hold the chances to scipy's integrals within 1e-7.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Nodes in a panel.
NODES = 6

#: Edges of panels in a quantity's own scales from its centre; the far ones are for heavy tails.
EDGES = (0.0, 0.5, 1.0, 1.5, 2.0, 2.75, 3.5, 4.5, 6.0, 8.0, 11.0, 16.0, 24.0, 40.0, 80.0, 200.0, 1000.0)

#: Points of the lattice for correlated quantities.
POINTS = 4096


@functools.cache
def rule() -> tuple[Floats, Floats, Floats]:
    """Nodes in (-1, 1), their weights, and the matrix that integrates from -1 to each node."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    powers = np.arange(NODES)
    vandermonde = nodes[:, None] ** powers
    integrals = (nodes[:, None] ** (powers + 1) - (-1.0) ** (powers + 1)) / (powers + 1)
    inside = np.linalg.solve(vandermonde.T, integrals.T).T
    return nodes, weights, np.asarray(inside, dtype=np.float64)


def panels(centres: Floats, scales: Floats, low: float, high: float) -> tuple[Floats, Floats]:
    """Nodes of all panels and half the width of each: (P, NODES) and (P,)."""
    near = np.asarray(EDGES)
    around = np.concatenate([-near[:0:-1], near])
    edges = np.unique(np.clip(centres[:, None] + scales[:, None] * around, low, high))
    half = np.diff(edges) / 2
    nodes, _, _ = rule()
    return (edges[:-1] + half)[:, None] + half[:, None] * nodes, half


def largest(log_densities: Floats, half: Floats) -> Floats:
    """Chance that each quantity is the largest of all.

    Args:
        log_densities: (K, P, NODES), of each quantity at the nodes of `panels`, up to a constant of its own.
        half: (P,), half the widths.

    Returns:
        (K,), sum 1.
    """
    _, weights, inside = rule()
    densities = np.exp(log_densities - log_densities.max(axis=(1, 2), keepdims=True))
    of_panel = (densities @ weights) * half
    total = of_panel.sum(axis=1, keepdims=True)
    before = np.cumsum(of_panel, axis=1) - of_panel
    below = (before[:, :, None] + (densities @ inside.T) * half[:, None]) / total[:, :, None]
    np.clip(below, 0.0, 1.0, out=below)
    chances = np.empty(len(densities))
    for k in range(len(densities)):
        others = np.prod(np.delete(below, k, axis=0), axis=0)
        chances[k] = float((((densities[k] * others) @ weights) * half).sum() / total[k, 0])
    chances /= chances.sum()
    return chances


def largest_of_normals(means: Sequence[float], deviations: Sequence[float]) -> Floats:
    """`largest` for independent normal quantities, deviations above 0."""
    centres, scales = np.asarray(means, dtype=float), np.asarray(deviations, dtype=float)
    x, half = panels(centres, scales, -np.inf, np.inf)
    return largest(-0.5 * ((x - centres[:, None, None]) / scales[:, None, None]) ** 2, half)


def largest_of_joint_normals(mean: Floats, covariance: Floats) -> list[float]:
    """Chance that each of jointly normal quantities is the largest; for more than two by a lattice, to 1 in 1,000."""
    if len(mean) == 1:
        return [1.0]
    if len(mean) == 2:
        gap = float(mean[0] - mean[1])
        spread = math.sqrt(float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]))
        chance = NormalDist().cdf(gap / spread)
        return [chance, 1 - chance]
    root = np.linalg.cholesky(covariance)
    values = mean[:, None] + root @ _lattice(len(mean))
    counts = np.bincount(values.argmax(axis=0), minlength=len(mean))
    return [float(count) / values.shape[1] for count in counts]


@functools.cache
def _lattice(dimensions: int) -> Floats:
    """Standard normal points (dimensions, POINTS) spread evenly: the Richtmyer lattice, of square roots of primes.

    Source: A. Genz and F. Bretz, Computation of Multivariate Normal and t Probabilities (2009), chapter 4; the
    points are folded (a "baker's transformation") for a faster rate.
    """
    primes = [p for p in range(2, 400) if all(p % q for q in range(2, math.isqrt(p) + 1))][:dimensions]
    steps = np.sqrt(np.array(primes, dtype=float))
    uniform = np.abs(2 * (np.outer(steps, np.arange(1, POINTS + 1)) % 1) - 1)
    normal = NormalDist().inv_cdf
    return np.array([[normal(min(max(value, 1e-12), 1 - 1e-12)) for value in row] for row in uniform])
