"""What was measured of a live release, cumulative since it started: the engine's only view of the world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class ArmEvidence:
    """One version's share of what happened.

    Attributes:
        requests: requests that callers waited for; mirrored copies are not among them.
        errors: those of them that failed on our side.
        latencies_ms: their durations, of all or of a sample, in any order.
        skew_checked: logged feature vectors that were recomputed point-in-time, mirrored requests included.
        skew_mismatched: those of them that differed.
    """

    requests: int = 0
    errors: int = 0
    latencies_ms: tuple[float, ...] = ()
    skew_checked: int = 0
    skew_mismatched: int = 0


@dataclass(frozen=True)
class Evidence:
    """Everything seen up to `at`.

    Attributes:
        arms: by version; a version without an entry was not measured.
        paired: metric -> differences candidate - champion on requests that both scored and whose label is known.
    """

    at: datetime
    arms: Mapping[str, ArmEvidence] = field(default_factory=dict)
    paired: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
