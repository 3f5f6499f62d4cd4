"""What else people decide by, looked at as often: two tests made for one look, and today's rollout tools' threshold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from benchmarks.release.sequential import cumulative
from serving.release.statistics import means
from serving.release.statistics.design import Design
from serving.release.statistics.moments import Moments

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from benchmarks.release.populations import Drawn

    Array = NDArray[np.float64]

QUANTILE = 1.959964  # two-sided, 5 %
WINDOW = 20  # looks: a check of a rollout tool judges what its last interval saw, here 1,000 requests
WORSE_BY = 0.10
IN_A_ROW = 3


def z_test(design: Design, candidate: Moments, champion: Moments) -> NDArray[Any]:
    """Whether a repetition is decided by a two-sided z-test of 5 % at any look from the design's minimum on."""
    a, b = cumulative(candidate), cumulative(champion)
    found = means.contrast(design, a, b)
    difference, variance = found.against(0.0)
    import numpy as np

    enough = np.minimum(a.n, b.n) >= design.min_samples
    return ((np.abs(difference) > QUANTILE * np.sqrt(variance)) & enough & (variance > 0)).any(axis=-1)


def threshold(candidate: Moments, champion: Moments) -> NDArray[Any]:
    """Whether a repetition is rolled back in the style of today's tools.

    The candidate fails a check when its metric over the last interval is more than `WORSE_BY` worse than the
    champion's; checks follow one another interval by interval, and `IN_A_ROW` failures end the release.
    """

    def interval(values: Array) -> Array:
        return values.reshape(len(values), -1, WINDOW).sum(axis=-1)

    a, b = interval(candidate.y), interval(champion.y)
    if candidate.z.any():
        a, b = a / interval(candidate.z), b / interval(champion.z)
    else:
        a, b = a / interval(candidate.n), b / interval(champion.n)
    failed = a < b - WORSE_BY * abs(b)
    runs = failed[:, :-2] & failed[:, 1:-1] & failed[:, 2:]
    return runs.any(axis=-1)


def mann_whitney(candidate: Drawn, champion: Drawn, per_look: int, min_samples: int) -> list[bool]:
    """Whether a repetition is decided by a two-sided Mann-Whitney test of 5 % (normal approximation, ties corrected).

    A ratio metric is ranked by each unit's own ratio.
    """
    import numpy as np

    a = candidate.y if candidate.z is None else candidate.y / candidate.z
    b = champion.y if champion.z is None else champion.y / champion.z
    decided = []
    for row in range(len(a)):
        _, codes = np.unique(np.concatenate([a[row], b[row]]), return_inverse=True)
        decided.append(_ranked(codes[: a.shape[1]], codes[a.shape[1] :], per_look, min_samples))
    return decided


def _ranked(a: Array, b: Array, per_look: int, min_samples: int) -> bool:
    """One repetition, look by look; `a` and `b` hold the place of each value among the distinct ones."""
    import numpy as np

    held = np.zeros(int(max(a.max(), b.max())) + 1)
    seen_a, seen_b = np.empty(0), np.empty(0)
    above = ties = (
        0.0  # pairs in which the candidate's value is larger (equal ones half), and the sum of t^3 - t
    )

    for end in range(per_look, len(a) + 1, per_look):
        new_a, new_b = np.sort(a[end - per_look : end]), np.sort(b[end - per_look : end])
        seen_b = np.insert(seen_b, np.searchsorted(seen_b, new_b), new_b)
        above += _below(seen_b, new_a) + len(seen_a) * per_look - _below(seen_a, new_b)
        seen_a = np.insert(seen_a, np.searchsorted(seen_a, new_a), new_a)
        places, counts = np.unique(np.concatenate([new_a, new_b]), return_counts=True)
        before, after = held[places], held[places] + counts
        ties += float((after**3 - after - before**3 + before).sum())
        held[places] = after
        n = 2 * end
        variance = end * end / 12 * ((n + 1) - ties / (n * (n - 1)))
        deviates = abs(above - end * end / 2) > QUANTILE * math.sqrt(max(variance, 0.0))
        if end >= min_samples and variance > 0 and deviates:
            return True
    return False


def _below(held: Array, values: Array) -> float:
    """How many of the sorted `held` lie below each of `values`, equal ones half, in total."""
    import numpy as np

    places = np.searchsorted(held, values, "left") + np.searchsorted(held, values, "right")
    return float(places.sum()) / 2
