"""Several metrics, several candidates: which verdicts may be told together.

E-values make this simple: the procedures hold for e-values that depend on each other in any way (all metrics come from
the same users), and each e-value may be that of an e-process at whatever look somebody stopped.

Which one for what:
- the decision metric of several candidates: `e_holm` (or alpha / K in each design, `e_bonferroni`), where the chance
  of *any* false verdict must be small, since one false winner is promoted;
- secondary metrics, which are told and decide nothing: `e_bh`, where a small *share* of what is told may be false.

Each takes one e-value for each hypothesis and returns the places of those that are refuted. A hypothesis without data
has the e-value 1 and still counts. A hypothesis of two sides ("no difference") has the e-value of `either`: the larger
of its two sides is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

#: Logs above this are beyond every threshold; exp of them may overflow.
_LARGEST_LOG = 690.0


def either(log_better: float, log_worse: float) -> float:
    """The e-value against "no difference" from those of its two sides: their mean, half of the wealth on each."""
    return (math.exp(min(log_better, _LARGEST_LOG)) + math.exp(min(log_worse, _LARGEST_LOG))) / 2


def e_bonferroni(values: Sequence[float], alpha: float) -> tuple[int, ...]:
    """Refuted from K / alpha on: the chance of any false refutation is at most `alpha`.

    Source: Markov's inequality at alpha / K for each of K e-values (Ville's for e-processes) and the union bound.
    """
    _check(values, alpha)
    return tuple(place for place, value in enumerate(values) if value >= len(values) / alpha)


def e_holm(values: Sequence[float], alpha: float) -> tuple[int, ...]:
    """As `e_bonferroni`, never refuting less: closed testing with the mean of e-values.

    A hypothesis is refuted if, for every set of hypotheses that holds it, the mean of the set's e-values is at least
    1 / alpha (a mean of e-values is an e-value). Of each size the hardest set takes the smallest others.

    Source: V. Vovk and R. Wang, "E-values: calibration, combination and applications", Annals of Statistics 49 (2021)
    1736-1754, Algorithm 1 (adjusting e-values for multiple hypothesis testing).
    """
    _check(values, alpha)
    refuted = []
    for place, value in enumerate(values):
        total, held = value, value >= 1 / alpha
        for size, other in enumerate(sorted([*values[:place], *values[place + 1 :]]), start=2):
            total += other
            held = held and total >= size / alpha
        if held:
            refuted.append(place)
    return tuple(refuted)


def e_bh(values: Sequence[float], alpha: float) -> tuple[int, ...]:
    """The e-BH procedure: the expected share of false ones among the refuted is at most `alpha`.

    The k hypotheses with the largest e-values are refuted, for the largest k whose k-th e-value is at least
    K / (alpha k).

    Source: R. Wang and A. Ramdas, "False discovery rate control with e-values", JRSS B 84 (2022) 822-852: the base
    e-BH procedure, whose bound holds under any dependence.
    """
    _check(values, alpha)
    ranked = sorted(range(len(values)), key=lambda place: -values[place])
    last = 0
    for k, place in enumerate(ranked, start=1):
        if values[place] >= len(values) / (alpha * k):
            last = k
    return tuple(sorted(ranked[:last]))


def _check(values: Sequence[float], alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha {alpha!r} is not between 0 and 1")
    for value in values:
        if not value >= 0:
            raise ValueError(f"{value!r} is no e-value; a metric without data has the e-value 1")
