"""Nonsense is refused by the function that would make a number of it: no test is better than a wrong one."""

from __future__ import annotations

import math

import pytest

from serving.release.statistics import arms, asymptotic, betting, planning, ratio
from serving.release.statistics.bernstein import EmpiricalBernstein
from serving.release.statistics.betting import RATE_BETS
from serving.release.statistics.design import Design

SAMPLE = betting.of_counts(10, 1)
NAN = math.nan


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda: ratio.log_evidence([5, 5], [NAN, 0.5]), id="ratio-share-nan"),
        pytest.param(lambda: ratio.log_evidence([5, 5], [0.5, NAN]), id="ratio-second-share-nan"),
        pytest.param(lambda: ratio.log_evidence([-5, 5], [0.5, 0.5]), id="ratio-negative-count"),
        pytest.param(lambda: ratio.log_evidence([5, NAN], [0.5, 0.5]), id="ratio-count-nan"),
        pytest.param(lambda: ratio.log_evidence([5, 5], [0.5, 0.5], 0), id="ratio-no-concentration"),
        pytest.param(lambda: betting.of_counts(10, 11), id="more-events-than-requests"),
        pytest.param(lambda: betting.of_counts(-1, 0), id="fewer-than-none"),
        pytest.param(lambda: betting.of_counts(10, -1), id="negative-events"),
        pytest.param(lambda: betting.of_values([1.0], 1, 1), id="empty-range"),
        pytest.param(lambda: betting.of_values([], 0, NAN), id="range-nan"),
        *(
            pytest.param(
                lambda b=bound: betting.log_evidence_above(SAMPLE, b, RATE_BETS), id=f"above-{bound}"
            )
            for bound in (0, 1, -0.1, NAN)
        ),
        *(
            pytest.param(
                lambda b=bound: betting.log_evidence_below(SAMPLE, b, RATE_BETS), id=f"below-{bound}"
            )
            for bound in (0, 1, 2, NAN)
        ),
        *(
            pytest.param(lambda a=alpha: betting.bounds(SAMPLE, a, RATE_BETS), id=f"bounds-alpha-{alpha}")
            for alpha in (0, 1, -1, NAN)
        ),
        *(
            pytest.param(lambda a=alpha: asymptotic.boundary(10, a), id=f"boundary-alpha-{alpha}")
            for alpha in (0, 1, -1, NAN)
        ),
        pytest.param(lambda: asymptotic.boundary(0, 0.05), id="boundary-of-nothing"),
        pytest.param(lambda: asymptotic.boundary(10, 0.05, 0), id="best-at-nothing"),
        pytest.param(lambda: asymptotic.bounds([1.0, NAN, 2.0], 0.05), id="value-nan"),
        pytest.param(lambda: asymptotic.bounds([1.0, math.inf], 0.05), id="value-infinite"),
        *(
            pytest.param(lambda a=alpha: EmpiricalBernstein(a), id=f"bernstein-{alpha}")
            for alpha in (0, 1, NAN)
        ),
        pytest.param(lambda: Design("median", "increase", 0.05, 0.1), id="unknown-kind"),
        pytest.param(lambda: Design("binary", "up", 0.05, 0.1), id="unknown-direction"),
        pytest.param(lambda: planning.Traffic(0.1, shares=(NAN, 0.5)), id="planning-share-nan"),
        pytest.param(lambda: planning.Traffic(0.1, shares=(0.5,)), id="planning-one-share"),
        pytest.param(lambda: planning.Traffic(0.1, shares=(0.6, 0.6)), id="planning-too-much"),
        pytest.param(lambda: planning.Traffic(NAN), id="planning-baseline-nan"),
        pytest.param(lambda: planning.Traffic(0.1, per_second=math.inf), id="planning-endless-traffic"),
        pytest.param(lambda: arms.add(arms.START, arms.Batch(-5, 0, 5, 0), 0.0), id="negative-batch"),
        pytest.param(lambda: arms.add(arms.START, arms.Batch(5, 0, 5, 0), 1.5), id="excess-beyond-any-rate"),
        pytest.param(lambda: arms.add(arms.START, arms.Batch(5, 0, 5, 0), NAN), id="excess-nan"),
    ],
)
def test_nonsense_is_a_value_error(act):
    """Verify that no number comes of it, and no other error."""
    with pytest.raises(ValueError, match=r"\S"):
        act()
