"""Requests of every version over one span of time, for the sample-ratio test: pure.

Prometheus scrapes each target at a moment of its own, so what is known of one version may reach most of an interval
further than what is known of another: at 100 requests a second and 15 s, more than a thousand requests that no router
split wrongly. Here a span begins once every target has been scraped since the split changed, ends where the newest
scrape of the slowest one is, and the requests between two scrapes of a target are taken as even.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

Target = tuple[tuple[str, str], ...]
Scraped = Mapping[str, Mapping[Target, Mapping[float, int]]]
"""Version -> target -> time of a scrape (epoch seconds) -> requests since the start of the target's process."""


class Shares:
    """Requests by version, counted over the same time.

    Args:
        base: what was counted by whoever counted before.
        since: when counting begins (epoch seconds).
        interval_s: how often targets are scraped.
        late_s: a target that was not scraped for so long is gone, and waited for no longer.
    """

    def __init__(self, base: Mapping[str, int], since: float, *, interval_s: float, late_s: float) -> None:
        self._base = dict(base)
        self._interval_s = interval_s
        self._late_s = late_s
        self._counted: dict[str, float] = {}
        self._known: set[tuple[str, Target]] = set()
        self._began: float | None = since
        self._reached = since

    def begin(self, at: float) -> None:
        """The split is another one since `at` at the latest: what is answered until all were scraped counts nowhere."""
        self._began = at

    def add(self, scraped: Scraped, at: float) -> None:
        """Add what a look at `at` found; scrapes of the looks before may be among it."""
        newest = {
            (version, target): max(times)
            for version, targets in scraped.items()
            for target, times in targets.items()
            if times
        }
        live = [line for line, last in newest.items() if at - last <= self._late_s]
        if self._began is not None and not self._begin(scraped, live):
            self._known |= newest.keys()
            return
        reached = min((newest[line] for line in live), default=self._reached)
        for version, target in newest:
            times = scraped[version][target]
            # of those that were there when we came nobody knows since when
            known = not self._known or (version, target) in self._known
            found = self._between(times, known, self._reached, reached)
            self._counted[version] = self._counted.get(version, 0.0) + found
        self._known |= newest.keys()
        self._reached = max(self._reached, reached)

    def count(self, version: str) -> int:
        """Never less than before."""
        return self._base.get(version, 0) + round(self._counted.get(version, 0.0))

    def _begin(self, scraped: Scraped, live: list[tuple[str, Target]]) -> bool:
        """Whether all were scraped since the split changed; then the span begins at the last one's scrape."""
        began = self._began
        assert began is not None  # noqa: S101 - it is asked only then
        firsts = [
            min((at for at in scraped[version][target] if at >= began), default=None)
            for version, target in live
        ]
        after = [first for first in firsts if first is not None]
        if not after or len(after) < len(firsts):
            return False
        self._began, self._reached = None, max(after)
        return True

    def _between(self, times: Mapping[float, int], known: bool, start: float, end: float) -> float:
        """A target's requests in the span."""
        order = sorted(times)
        parts = [(low, high, times[high] - times[low], times[high]) for low, high in pairwise(order)]
        if not known and order:
            # a process that is new to us counts from zero
            parts.insert(0, (order[0] - self._interval_s, order[0], times[order[0]], times[order[0]]))
        total = 0.0
        for low, high, added, value in parts:
            overlap = min(high, end) - max(low, start)
            if overlap > 0:
                # less than before: the process began anew, at zero
                total += (added if added >= 0 else value) * overlap / (high - low)
        return total
