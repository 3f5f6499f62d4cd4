"""Did the arms get the shares of the traffic that were decided? A sequential sample-ratio-mismatch test.

A router, a cache or a client that does not obey the split makes the arms incomparable, so no verdict on them can
be trusted. The test is a Bayes factor of a Dirichlet-multinomial against the decided shares; as a nonnegative
martingale it reaches 1/alpha with chance at most alpha over all looks.

Source: M. Lindon and A. Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022: their sequential
test of a multinomial hypothesis with the prior Dirichlet(concentration * shares), and Ville's inequality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from serving.release.statistics import betting

#: The prior's weight in requests: how sharply the alternative is drawn around the decided shares.
CONCENTRATION = 100.0

#: The share of the requests that arms of share zero may have: those that were in flight when it became zero.
STRAGGLERS = 0.01


def log_evidence(
    counts: Sequence[int], shares: Sequence[float], concentration: float = CONCENTRATION
) -> float:
    """Log of the e-value against "requests (or units, or buckets) were assigned with these `shares`".

    Any number of arms. Of arms with share zero a few requests are no evidence, since an answer may come after the
    share was taken away: they are tested together against at most `STRAGGLERS` of the requests, by betting, and
    the two e-values are averaged.

    Raises:
        ValueError: counts and shares do not match, a share is negative, or they do not sum to 1; a count is
            negative or no number; the concentration is not above 0.
    """
    # stated as what must hold, since NaN fails every comparison
    if len(counts) != len(shares) or not abs(math.fsum(shares) - 1) <= 1e-9 or min(shares) < 0:
        raise ValueError(
            f"counts {list(counts)} and shares {list(shares)} must match, shares not negative and sum to 1"
        )
    if not all(0 <= count < math.inf for count in counts) or not 0 < concentration < math.inf:
        raise ValueError(f"counts {list(counts)} and concentration {concentration!r} must not be negative")
    served = [(count, share) for count, share in zip(counts, shares, strict=True) if share > 0]
    evidence = _of_positive(served, concentration)
    if len(served) == len(counts):
        return evidence
    total = sum(counts)
    late = betting.of_counts(total, total - sum(count for count, _ in served))
    strays = betting.log_evidence_above(late, STRAGGLERS, betting.RATE_BETS)
    return betting.log_sum((evidence, strays)) - math.log(2)


def _of_positive(served: Sequence[tuple[int, float]], concentration: float) -> float:
    total = sum(count for count, _ in served)
    evidence = math.lgamma(concentration) - math.lgamma(concentration + total)
    for count, share in served:
        prior = concentration * share
        evidence += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(share)
    return evidence
