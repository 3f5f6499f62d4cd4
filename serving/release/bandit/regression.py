"""The Bayesian linear regression of rewards on version and context, from the sums of each (version, context).

How much versions differ from context to context is not known in advance. So a few sizes of these deviations are
tried, and their posteriors are mixed by how well each explains the rewards: where contexts do not matter they act
as one, and where they do, each has its own effects. With conjugate priors the marginal likelihood of each size is in
closed form (C. M. Bishop, Pattern Recognition and Machine Learning (2006), sections 3.3 to 3.5).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.release.bandit.arm import Arm

Floats = NDArray[np.float64]

#: What the prior of an effect, zero on average, is worth in requests: its variance is that of a reward over this.
WORTH = 1.0

#: The same of a version's deviation in one context: the sizes that are mixed, equally likely beforehand. A deviation is
#: of the order of a tenth of a reward's standard deviation for 100, and of a thirtieth for 1,000.
DEVIATIONS = (30.0, 100.0, 300.0, 1000.0)

#: A size of which the rewards leave less chance than this is not worth its integrals.
NEGLIGIBLE = 1e-3

#: Requests that the variance over all contexts is worth beside a context's own.
WORTH_VARIANCE = 20.0

Cell = tuple[str, str, Arm]


@dataclass(frozen=True)
class Part:
    """The posterior for one size of the deviations.

    Attributes:
        deviation: the size, as in `DEVIATIONS`.
        chance: of that size, given the rewards; the parts sum to 1.
        of: context -> mean (K,) and covariance (K, K) of the versions' rewards there.
    """

    deviation: float
    chance: float
    of: Mapping[str, tuple[Floats, Floats]]


def posterior(
    sums: Mapping[str, Mapping[str, Arm]],
    versions: Sequence[str],
    contexts: Sequence[str],
    deviations: Sequence[float] = DEVIATIONS,
) -> list[Part]:
    """The posterior of the rewards of `versions` in `contexts`, a mixture; empty until rewards differ at all.

    Args:
        sums: version -> context -> sums of the rewards there.
    """
    cells = [
        (version, context, arm)
        for version in versions
        for context, arm in sorted(sums.get(version, {}).items())
        if arm.pulls > 0
    ]
    n = sum(arm.pulls for _, _, arm in cells)
    mean = math.fsum(arm.total for _, _, arm in cells) / n if n > 0 else 0.0
    variance = math.fsum(arm.squares for _, _, arm in cells) / n - mean * mean if n > 0 else 0.0
    # what rounding leaves of a difference of squares is not a variance
    if n < 2 or variance <= 1e-12 * mean * mean:
        return []
    columns = Columns(versions, sorted({*(context for _, context, _ in cells), *contexts}))
    seen = np.zeros((columns.n, columns.n))
    shift = np.zeros(columns.n)
    noise = _noise(cells, variance)
    for version, context, arm in cells:
        at = columns.of(version, context)
        seen[np.ix_(at, at)] += arm.pulls / noise[context]
        shift[at] += (arm.total - arm.pulls * mean) / noise[context]
    fits, parts = [], []
    for worth in deviations:
        prior = columns.worths(worth) / variance
        precision = seen + np.diag(prior)
        covariance = np.linalg.inv(precision)
        centre = covariance @ shift
        # the log marginal likelihood, less what is the same for all sizes
        fits.append((np.log(prior).sum() - np.linalg.slogdet(precision)[1] + shift @ centre) / 2)
        found = {}
        for context in contexts:
            features = np.zeros((len(versions), columns.n))
            for row, version in enumerate(versions):
                features[row, columns.of(version, context)] = 1
            found[context] = (mean + features @ centre, features @ covariance @ features.T)
        parts.append(found)
    chances = np.exp(np.array(fits) - max(fits))
    chances[chances < NEGLIGIBLE * chances.sum()] = 0.0
    chances /= chances.sum()
    sizes = zip(deviations, chances, parts, strict=True)
    return [Part(worth, float(chance), of) for worth, chance, of in sizes if chance > 0]


class Columns:
    """Where the effects stand among the features: contexts, versions, then each version's deviations."""

    def __init__(self, versions: Sequence[str], contexts: Sequence[str]) -> None:
        self._version = {version: i for i, version in enumerate(versions)}
        self._context = {context: i for i, context in enumerate(contexts)}
        self._shared = len(contexts) + len(versions)
        self._own = len(contexts) * len(versions)
        self.n = self._shared + self._own

    def worths(self, deviation: float) -> Floats:
        """The prior of each effect, in requests."""
        return np.array([WORTH] * self._shared + [deviation] * self._own)

    def of(self, version: str, context: str) -> list[int]:
        """The columns that are 1 for a request of `context` that `version` answers."""
        v, c = self._version[version], self._context[context]
        return [c, len(self._context) + v, self._shared + v * len(self._context) + c]


def _noise(cells: Sequence[Cell], variance: float) -> dict[str, float]:
    """Variance of a reward in each context: its own within versions, drawn towards that of all."""
    within: dict[str, tuple[float, float]] = {}
    for _, context, arm in cells:
        pulls, squares = within.get(context, (0.0, 0.0))
        own = max(arm.squares - arm.total**2 / arm.pulls, 0.0)
        within[context] = (pulls + arm.pulls, squares + own)
    return {
        context: (squares + WORTH_VARIANCE * variance) / (pulls + WORTH_VARIANCE)
        for context, (pulls, squares) in within.items()
    }
