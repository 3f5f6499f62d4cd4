"""What each version would have earned with all the traffic, from a log in which the versions shared it.

Each request went to a version with a known chance, its weight at that time (the propensity). Three estimates, of which
none needs the model of rewards to be right:

    IPS    mean of w r, with w = target share / propensity (D. G. Horvitz and D. J. Thompson, JASA 47 (1952) 663-685)
    SNIPS  sum of w r / sum of w (A. Swaminathan and T. Joachims, NIPS 2015): its own scale, seldom more variance
    DR     mean of q(target) + w (r - q(served)), q a model of rewards (M. Dudik, J. Langford and L. Li, ICML 2011)

The log is kept as sums: within a stratum (one update and, where weights differ by context, one context) propensities
are constant, so a `Cell` for each version and stratum is all that is needed, and a journal can hold it. DR's model
predicts a stratum from the strata of earlier updates alone. With weights that were decided from earlier rewards, the
terms are then martingale differences around the truth, and IPS and DR are unbiased. Intervals are by the central limit
theorem for martingales, which can fail where propensities vanish or never settle (V. Hadad et al., PNAS 118 (2021)
e2014602118; A. Bibaut et al., NeurIPS 2021): the exploration floor keeps them away from zero, and
`windlass bench release --only bandit` prints what the intervals cover. They are for one look at the end, not for
every look.

Only matured rewards count. A stratum in which a version with a share in the target had no weight says nothing about it,
and is left out and reported: to count it as zero would be a lie. Plain means of such a log are biased (`arm.py`).
"""

from __future__ import annotations

import math
import operator
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Method = Literal["IPS", "SNIPS", "DR"]

#: Standard errors that the mean weight may be from 1 before rewards are taken to be missing more of some versions.
SUSPICIOUS = 4.0

#: Below this many equally weighted requests an interval by the central limit theorem is not to be trusted.
FEW = 100


@dataclass(frozen=True)
class Cell:
    """What one version earned in one update (and context) while its weight did not change.

    Attributes:
        tick: number of the update; DR's model of a tick comes from smaller ones.
        propensity: the version's share of the traffic then, in [0, 1]; a version with weight 0 has a cell of its own.
        pulls, total, squares: requests with a matured reward, the sum of the rewards, the sum of their squares.
        context: value of the context that the weights depended on; "" where they did not.
    """

    tick: int
    version: str
    propensity: float
    pulls: int
    total: float
    squares: float
    context: str = ""


@dataclass(frozen=True)
class Estimate:
    """The mean reward under a target split.

    Attributes:
        n: requests that count; 0 leaves `value` None.
        value, standard_error, lower, upper: mean reward a request; None where nothing can be said.
        effective: how many requests served by the target itself would say as much (Kish: (sum w)^2 / sum w^2).
        support: share of the logged requests in whose stratum the target could be judged.
        warnings: what is wrong with it, in words.
    """

    method: Method
    n: int
    value: float | None
    standard_error: float | None
    lower: float | None
    upper: float | None
    effective: float
    support: float
    warnings: tuple[str, ...] = ()


class _Sums(NamedTuple):
    """Sums over requests: their number, the weights w, w r, DR's terms, and the squares and products of these."""

    n: float = 0
    w: float = 0.0
    ww: float = 0.0
    wr: float = 0.0
    wwr: float = 0.0
    wwrr: float = 0.0
    dr: float = 0.0
    drdr: float = 0.0


def equal_split(versions: Sequence[str]) -> dict[str, float]:
    """The target in which every version gets the same share."""
    return {version: 1 / len(versions) for version in versions}


def what_if(cells: Iterable[Cell], alpha: float = 0.05) -> dict[str, tuple[Estimate, ...]]:
    """IPS, SNIPS and DR for each version with all the traffic, and under "equal split" for that.

    The versions are in the order of their first cells.
    """
    listed = list(cells)
    versions = list(dict.fromkeys(cell.version for cell in listed))
    targets: dict[str, Mapping[str, float]] = {version: {version: 1.0} for version in versions}
    if versions:
        targets["equal split"] = equal_split(versions)
    return {name: estimate(listed, target, alpha) for name, target in targets.items()}


def estimate(cells: Iterable[Cell], target: Mapping[str, float], alpha: float = 0.05) -> tuple[Estimate, ...]:
    """IPS, SNIPS and DR of the mean reward had `target` (version -> share, sum 1) split the traffic.

    DR's model of a version in a context is its mean there in earlier updates, elsewhere its mean over all contexts,
    and 0 until it has rewards: any prediction leaves DR unbiased, and 0 makes its term that of IPS.

    Raises:
        ValueError: the target's shares do not sum to 1, or a version was served with propensity 0.
    """
    _check(target)
    ticks: dict[int, dict[str, list[Cell]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        if cell.pulls > 0 and not cell.propensity > 0:
            raise ValueError(
                f"version {cell.version}, update {cell.tick}: {cell.pulls} rewards with propensity 0; "
                "log the weight that was in force when the request was served"
            )
        ticks[cell.tick][cell.context].append(cell)
    seen: dict[tuple[str, str | None], tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    sums, logged = _Sums(), 0
    for tick in sorted(ticks):
        for context, stratum in ticks[tick].items():
            logged += sum(cell.pulls for cell in stratum)
            offered = {cell.version for cell in stratum if cell.propensity > 0}
            if all(version in offered for version, share in target.items() if share > 0):
                predicted = {v: _predict(seen, v, context) for v in {*target, *offered}}
                sums = _add(sums, stratum, target, predicted)
        # only now: a stratum must not predict itself, nor its neighbours of the same update
        for stratum in ticks[tick].values():
            for cell in stratum:
                for key in ((cell.version, cell.context), (cell.version, None)):
                    pulls, total = seen[key]
                    seen[key] = (pulls + cell.pulls, total + cell.total)
    return _estimates(sums, logged, alpha)


def estimate_rows(
    served: NDArray[np.integer],
    rewards: NDArray[np.floating],
    propensities: NDArray[np.floating],
    target: NDArray[np.floating],
    predicted: NDArray[np.floating] | None = None,
    alpha: float = 0.05,
) -> tuple[Estimate, ...]:
    """IPS, SNIPS and DR from one row for each request.

    Args:
        served: (N,), index of the version that answered.
        rewards: (N,), matured.
        propensities: (N, K), chance of each version at that request.
        target: (K,) or (N, K), shares to judge, rows sum to 1.
        predicted: (N, K), a model's rewards, made without the row itself; None: 0, which makes DR the IPS.

    Raises:
        ValueError: shapes do not fit, shares do not sum to 1, or a version was served with propensity 0.
    """
    n, k = propensities.shape
    shares = np.broadcast_to(np.asarray(target, dtype=float), (n, k))
    model = np.zeros((n, k)) if predicted is None else np.asarray(predicted, dtype=float)
    if served.shape != (n,) or rewards.shape != (n,) or model.shape != (n, k):
        raise ValueError(
            f"served {served.shape}, rewards {rewards.shape}, predicted {model.shape} for {(n, k)} chances"
        )
    if n and not np.allclose(shares.sum(axis=1), 1):
        raise ValueError("the shares of a target sum to 1")
    rows = np.arange(n)
    if n and not (propensities[rows, served] > 0).all():
        raise ValueError("a version was served with propensity 0: log the weight in force when it was")
    kept = ~((shares > 0) & ~(propensities > 0)).any(axis=1)
    rows, a, r = rows[kept], served[kept], np.asarray(rewards, dtype=float)[kept]
    w = shares[rows, a] / propensities[rows, a]
    terms = (shares[rows] * model[rows]).sum(axis=1) + w * (r - model[rows, a])
    sums = _Sums(
        n=len(rows),
        w=float(w.sum()),
        ww=float(w @ w),
        wr=float(w @ r),
        wwr=float(w @ (w * r)),
        wwrr=float((w * r) @ (w * r)),
        dr=float(terms.sum()),
        drdr=float(terms @ terms),
    )
    return _estimates(sums, n, alpha)


def _check(target: Mapping[str, float]) -> None:
    total = math.fsum(target.values())
    if abs(total - 1) > 1e-9 or min(target.values(), default=0.0) < 0:
        raise ValueError(f"target {dict(target)}: shares are at least 0 and sum to 1, these to {total:g}")


def _predict(seen: Mapping[tuple[str, str | None], tuple[float, float]], version: str, context: str) -> float:
    for key in ((version, context), (version, None)):
        pulls, total = seen.get(key, (0.0, 0.0))
        if pulls > 0:
            return total / pulls
    return 0.0


def _add(
    sums: _Sums, stratum: Sequence[Cell], target: Mapping[str, float], predicted: Mapping[str, float]
) -> _Sums:
    """The sums with the requests of one stratum, in which w and q are constants of a version."""
    base = math.fsum(share * predicted[version] for version, share in target.items())
    for cell in stratum:
        if cell.pulls == 0:
            continue
        w, q = target.get(cell.version, 0.0) / cell.propensity, predicted[cell.version]
        rest = cell.total - cell.pulls * q
        squared_rest = cell.squares - 2 * q * cell.total + cell.pulls * q * q
        of_cell = _Sums(
            n=cell.pulls,
            w=w * cell.pulls,
            ww=w * w * cell.pulls,
            wr=w * cell.total,
            wwr=w * w * cell.total,
            wwrr=w * w * cell.squares,
            dr=cell.pulls * base + w * rest,
            drdr=cell.pulls * base * base + 2 * base * w * rest + w * w * squared_rest,
        )
        sums = _Sums(*map(operator.add, sums, of_cell))
    return sums


def _estimates(sums: _Sums, logged: int, alpha: float) -> tuple[Estimate, ...]:
    n = int(sums.n)
    support = n / logged if logged else 0.0
    effective = sums.w**2 / sums.ww if sums.ww > 0 else 0.0
    warnings: list[str] = []
    if n < logged:
        warnings.append(
            f"a version of the target had no traffic at {logged - n} of {logged} requests: "
            "judged on the others alone"
        )
    if n and effective < FEW:
        warnings.append(f"worth {effective:.0f} requests of the target's own: too few for its interval")
    of_all = list(warnings)
    if n > 1 and abs(sums.w / n - 1) > SUSPICIOUS * _error(n, sums.w, sums.ww) + 1e-9:
        of_all.append(
            f"the mean weight is {sums.w / n:.3g} and should be 1: rewards of some versions are missing more "
            "than others'; read SNIPS"
        )
    z = NormalDist().inv_cdf(1 - alpha / 2)

    def made(method: Method, value: float | None, error: float, said: list[str]) -> Estimate:
        if value is None or n < 2:
            return Estimate(method, n, value, None, None, None, effective, support, tuple(said))
        low, high = value - z * error, value + z * error
        return Estimate(method, n, value, error, low, high, effective, support, tuple(said))

    if n == 0 or sums.w == 0:
        # nothing was served that the target would serve: IPS's 0 would be a claim
        return tuple(made(method, None, 0.0, warnings) for method in ("IPS", "SNIPS", "DR"))
    ratio = sums.wr / sums.w
    # the delta method for a ratio of means
    residual = max(sums.wwrr - 2 * ratio * sums.wwr + ratio**2 * sums.ww, 0.0)
    return (
        made("IPS", sums.wr / n, _error(n, sums.wr, sums.wwrr), of_all),
        made("SNIPS", ratio, math.sqrt(residual) / sums.w, warnings),
        made("DR", sums.dr / n, _error(n, sums.dr, sums.drdr), of_all),
    )


def _error(n: int, total: float, squares: float) -> float:
    """Standard error of a mean from the sums."""
    return math.sqrt(max(squares / n - (total / n) ** 2, 0.0) / (n - 1)) if n > 1 else math.inf
