"""Responses of one model version, counted by the thread that answers.

Those are counted apart whose version nobody assigned: they say what their callers are like, and not what the version
is like, so that a release is not judged by them.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

#: What a router of ours says of requests whose version it did not assign: their caller chose it, or they have no unit.
UNASSIGNED = frozenset((b"match", b"unassigned"))


class RequestCounts:
    """Responses, by protocol and status and by how long they took."""

    def __init__(self) -> None:
        self.responses: dict[tuple[str, int], int] = {}
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0

    def answered(self, protocol: str, status: int, seconds: float) -> None:
        """Count one response; `seconds` is the time from the complete request to its response."""
        key = (protocol, status)
        self.responses[key] = self.responses.get(key, 0) + 1
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds


@dataclass(frozen=True, slots=True)
class VersionCounts:
    """Responses of one model version, or of no model at all."""

    assigned: RequestCounts
    unassigned: RequestCounts

    def of(self, route: bytes | None) -> RequestCounts:
        """Where a request counts.

        Args:
            route: what the router says of why this version; None where it says nothing, which counts as assigned.
        """
        return self.unassigned if route in UNASSIGNED else self.assigned

    def chosen(self) -> VersionCounts:
        """The counts of callers who name the version, whatever a router says."""
        return VersionCounts(self.unassigned, self.unassigned)
