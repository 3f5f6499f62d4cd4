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

#: The prior's weight in requests: how sharply the alternative is drawn around the decided shares.
CONCENTRATION = 100.0


def log_evidence(
    counts: Sequence[int], shares: Sequence[float], concentration: float = CONCENTRATION
) -> float:
    """Log of the e-value against "requests were assigned with these `shares`"."""
    if len(counts) != len(shares) or abs(math.fsum(shares) - 1) > 1e-9 or min(shares) <= 0:
        raise ValueError(
            f"counts {list(counts)} and shares {list(shares)} must match, shares positive and sum to 1"
        )
    total = sum(counts)
    evidence = math.lgamma(concentration) - math.lgamma(concentration + total)
    for count, share in zip(counts, shares, strict=True):
        prior = concentration * share
        evidence += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(share)
    return evidence
