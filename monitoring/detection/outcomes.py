"""Label drift: the rate of outcomes by day, alone and given what the scores expected.

The rate alone swings with the weather; given the scores it says whether outcomes have become more frequent than the
same features used to mean.
"""

from __future__ import annotations

import math

import numpy as np

from monitoring.columns import Floats
from monitoring.detection import noise
from monitoring.detection.decay import Ranking
from monitoring.detection.noise import Noise
from monitoring.detection.rows import days_of
from monitoring.detection.statistics import DayTable

LABEL_STATISTICS = ("rate given the scores", "rate")
SPENDING = (0.6, 0.4)
WEIGHTS = np.zeros(len(LABEL_STATISTICS), dtype=np.int64)


def label_days(ranking: Ranking, at: Floats, labels: Floats, scores: Floats) -> DayTable:
    """Sums by day of both statistics, in standard deviations of the label, as deviations from training."""
    expected = 1 / (1 + np.exp(-ranking.log_odds(scores)))
    deviation = math.sqrt(ranking.rate * (1 - ranking.rate))
    rows = np.column_stack((labels - expected, labels - ranking.rate)) / deviation
    days, index = np.unique(days_of(at), return_inverse=True)

    def sums(values: Floats) -> Floats:
        added = np.zeros((len(days), values.shape[1]))
        np.add.at(added, index, values)
        return added

    return DayTable(days, sums(np.ones((len(labels), 1))), sums(rows), sums(np.square(rows)))


def label_noise(ranking: Ranking, labels: Floats, scores: Floats, at: Floats | None) -> Noise:
    """Noise of both statistics over held-out rows."""
    known = np.isfinite(labels) & np.isfinite(scores)
    if at is not None and len(np.unique(days_of(at[known]))) >= 4 * noise.WEEK:
        return noise.learn(label_days(ranking, at[known], labels[known], scores[known]), WEIGHTS)
    table = label_days(ranking, np.zeros(int(known.sum())), labels[known], scores[known])
    return noise.without_times(table.squares[0] / table.counts[0], int(known.sum()))
