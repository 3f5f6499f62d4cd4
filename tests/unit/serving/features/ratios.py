"""A transformation as a project writes it: the standard library and numpy, nothing of the project's own."""

from __future__ import annotations

import math

import numpy as np


def ratios(columns: dict[str, list[float]]) -> dict[str, list[float]]:
    """The delay for each departure, and the logarithm of the distance; either is missing where it has no meaning."""
    load = np.array(columns["departures"])
    with np.errstate(all="ignore"):
        ratio = np.where(load > 0, np.array(columns["delay_1h"]) / load, np.nan)
    return {"delay_ratio": ratio.tolist(), "far": [_logarithm(d) for d in columns["distance"]]}


def _logarithm(distance: float) -> float:
    return math.log(distance) if distance > 0 else math.nan
