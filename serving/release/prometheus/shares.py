"""Requests of every version over one span of time, for the sample-ratio test: pure.

Prometheus scrapes each target at a moment of its own, so what is known of one version may reach most of an interval
further than what is known of another: at 100 requests a second and 15 s, more than a thousand requests that no router
split wrongly. Here a span begins once every target has been scraped since the split changed, ends where the newest
scrape of the slowest one is, and the requests between two scrapes of a target are taken as even.

What a target answered and nobody saw would be missing from its version alone. So wherever something may be missing, the
time is left out for all versions, and a new span begins: where a target cannot be scraped (until it is again), is gone,
began anew, or appears and nobody knows since when it answered; and where nobody looked for long. The span stays two
scrape intervals behind, so that a target that appears is there before its time is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import pairwise

Target = tuple[tuple[str, str], ...]
Scraped = Mapping[str, Mapping[Target, Mapping[float, int]]]
"""Version -> target -> time of a scrape (epoch seconds) -> requests since the start of the target's process."""

Up = Callable[[Collection[Target]], Mapping[Target, Mapping[float, bool]]]
"""Targets -> target -> time of a scrape -> whether it succeeded; a target that Prometheus does not know has none."""

#: Scrape intervals by which the span stays behind.
BEHIND = 2

#: Where Prometheus does not keep whether it tried (`up`), a target that was not scraped for so long is gone.
FORGOTTEN_S = 900.0


class Shares:
    """Requests by version, counted over the same time.

    Args:
        base: what was counted by whoever counted before.
        since: when counting begins (epoch seconds).
        interval_s: how often targets are scraped.
        late_s: a target that was not scraped for so long is gone, unless Prometheus still tries.
    """

    def __init__(self, base: Mapping[str, int], since: float, *, interval_s: float, late_s: float) -> None:
        self._base = dict(base)
        self._behind_s = BEHIND * interval_s
        self._late_s = late_s
        self._counted: dict[str, float] = {}
        #: of every version's targets: the scrapes from the newest one before `_reached` on
        self._scrapes: dict[tuple[str, Target], dict[float, int]] = {}
        self._looked_at: float | None = None
        self._began: float | None = since
        self._reached = since

    def begin(self, at: float) -> None:
        """The split is another one since `at` at the latest: what is answered until all were scraped counts nowhere."""
        self._began = at if self._began is None else max(self._began, at)

    def add(self, scraped: Scraped, at: float, up: Up) -> None:
        """Add what a look at `at` found; scrapes of the looks before may be among it.

        Whatever the first look found is known: give it what was scraped long before, so that a target which cannot be
        scraped is missed.

        Args:
            up: asked of all targets where some appear, or were not scraped lately; where it raises, nothing is added.
        """
        first = self._looked_at is None
        found = {
            (version, target): times
            for version, targets in scraped.items()
            for target, times in targets.items()
            if times and (first or (version, target) in self._scrapes or not self._is_late(times, at))
        }
        appeared = [] if first else [line for line in found if line not in self._scrapes]
        late = [
            line
            for line in {**self._scrapes, **found}
            if self._is_late({**self._scrapes.get(line, {}), **found.get(line, {})}, at)
        ]
        everyone = {target for _, target in {**self._scrapes, **found}}
        tried = up(everyone) if appeared or late else {}
        tells = not tried.keys().isdisjoint(everyone.difference(target for _, target in late))
        if self._looked_at is not None and at - self._looked_at > self._late_s:
            self.begin(at)
        self._looked_at = at
        for line, times in found.items():
            self._scrapes.setdefault(line, {}).update(times)
        for line in appeared:
            self._meet(line, tried.get(line[1], {}))
        missed = [line for line in late if self._is_missed(line, tried if tells else None, at)]
        if late:
            self.begin(at)
        for line in set(late).difference(missed):
            del self._scrapes[line]
        if not missed:
            self._count(at)
        self._forget()

    def count(self, version: str) -> int:
        """Never less than before."""
        return self._base.get(version, 0) + round(self._counted.get(version, 0.0))

    def _is_late(self, times: Mapping[float, int], at: float) -> bool:
        return at - max(times) > self._late_s

    def _is_missed(
        self, line: tuple[str, Target], tried: Mapping[Target, Mapping[float, bool]] | None, at: float
    ) -> bool:
        """Whether Prometheus tried a target lately, and failed: it may well answer requests. So may one of which nobody
        tells whether it was tried."""
        if tried is None:
            return at - max(self._scrapes[line]) <= FORGOTTEN_S
        moments = tried.get(line[1], {}).items()
        return any(not well for moment, well in moments if at - moment <= self._late_s)

    def _meet(self, line: tuple[str, Target], tried: Mapping[float, bool]) -> None:
        """A version's counter appears at a target."""
        appeared = min(self._scrapes[line])
        others = (times for other, times in self._scrapes.items() if other[1] == line[1])
        before = {**dict.fromkeys((at for times in others for at in times), True), **tried}
        newest = max((at for at in before if at < appeared), default=None)
        if newest is not None and before[newest] and self._reached <= newest:
            # it was scraped and had no such counter yet: nothing was answered until then
            self._scrapes[line][newest] = 0
        else:
            self.begin(appeared)

    def _count(self, at: float) -> None:
        for times in self._scrapes.values():
            for low, high in pairwise(sorted(times)):
                if high > self._reached and times[high] < times[low]:
                    # the process began anew, and what the old one answered last nobody knows
                    self.begin(high)
        if self._began is not None and not self._begin(self._began):
            return
        newest = (max(times) for times in self._scrapes.values())
        reached = min((*newest, at - self._behind_s))
        if reached <= self._reached:
            return
        for (version, _), times in self._scrapes.items():
            found = _between(times, self._reached, reached)
            self._counted[version] = self._counted.get(version, 0.0) + found
        self._reached = reached

    def _begin(self, began: float) -> bool:
        """Whether all were scraped since `began`; then the span begins at the last one's scrape."""
        firsts = [min((at for at in times if at >= began), default=None) for times in self._scrapes.values()]
        after = [first for first in firsts if first is not None]
        if not after or len(after) < len(firsts):
            return False
        self._began, self._reached = None, max(after)
        return True

    def _forget(self) -> None:
        """Keep of every target the scrapes that a later look needs."""
        needed = self._reached if self._began is None else self._began
        for line, times in self._scrapes.items():
            oldest = max((at for at in times if at <= needed), default=needed)
            self._scrapes[line] = {at: value for at, value in times.items() if at >= oldest}


def _between(times: Mapping[float, int], start: float, end: float) -> float:
    """A target's requests in the span."""
    total = 0.0
    for low, high in pairwise(sorted(times)):
        overlap = min(high, end) - max(low, start)
        if overlap > 0:
            total += (times[high] - times[low]) * overlap / (high - low)
    return total
