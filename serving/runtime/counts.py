"""Responses of one model version, counted by the thread that answers."""

from __future__ import annotations

from bisect import bisect_left

BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class RequestCounts:
    """Responses of one model version, or of no model at all."""

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
