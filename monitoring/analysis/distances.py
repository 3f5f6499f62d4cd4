"""Evidently's distances of a window, over all of its rows however many they are.

Alarms go by `monitoring.detection`; these are the figures that people know, and that `windlass drift` has always told.
The rows are streamed (`monitoring.sketches`), so that a window of a hundred million is measured in the memory of one
batch: exactly up to the sketches' limit, and beyond it within bounds that they state.
"""

from __future__ import annotations

from itertools import chain

from monitoring.analysis.events import Answers
from monitoring.drift import Drift
from monitoring.reference import Reference
from monitoring.sketches import window
from monitoring.sketches.stream import profile


def measure(reference: Reference, answers: Answers, version: str, since: float, until: float) -> Drift | None:
    """Compare a version's answers with `since` <= at < `until` with its reference; None where there are none."""
    known = window.of_reference(reference)
    batches = answers.batches(version, since, until, tuple(known))
    first = next(batches, None)
    if first is None:
        return None

    return window.measure_profile(reference, profile(chain([first], batches), list(known), known))
