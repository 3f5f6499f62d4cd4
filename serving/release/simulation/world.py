"""What really happens: versions as they truly are, the requests they answer, and a clock that may jump.

Nothing here knows the engine. Requests are split by what is on the wire, not by what was decided, and every count is
drawn from the versions' true rates, so that the simulator knows who is good and who does harm.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from serving.release.evidence import ArmEvidence, Evidence, Pairs, Smoke
from serving.release.statistics.histogram import Histogram, with_edges
from serving.release.statistics.moments import Moments
from serving.release.traffic import Traffic

#: Requests of a model in one tick, and paired answers of it whose label is known.
REQUESTS = 400
PAIRS = 20

#: How long a tick lasts.
TICK = timedelta(minutes=1)

#: The bound of latencies in milliseconds that every simulated check has, and what answers take: (latency, share).
SLOW_MS = 50.0
FAST = ((8.0, 0.4), (13.0, 0.35), (21.0, 0.2), (32.0, 0.05))
SLOW = 180.0

_EDGES = with_edges(SLOW_MS)
_FAST_SHARES = np.array([share for _, share in FAST])


def _place(latency: float) -> int:
    return int(np.searchsorted(_EDGES, latency))


_FAST_PLACES = tuple(_place(latency) for latency, _ in FAST)
_SLOW_PLACE = _place(SLOW)


@dataclass(frozen=True)
class Behaviour:
    """A version as it truly is; shares in [0, 1].

    Attributes:
        error: requests that fail.
        slow: answers slower than `SLOW_MS`.
        skew: rows whose features differ from the point-in-time ones.
        disagree: requests that the champion answers differently.
        distance: chance that a score is 0.3 away from the champion's (else 0.02).
        loss: mean of the difference of squared errors to the champion's.
        reward: mean reward.
        smoke: whether smoke requests are answered rightly.
    """

    error: float = 0.01
    slow: float = 0.001
    skew: float = 0.001
    disagree: float = 0.02
    distance: float = 0.03
    loss: float = 0.0
    reward: float = 0.10
    smoke: bool = True


class VirtualClock:
    """Time as the engine sees it; it may jump either way, as the clocks of machines do."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def move(self, by: timedelta) -> None:
        self._now += by


@dataclass
class Arm:
    """Everything that one version did so far."""

    requests: int = 0
    errors: int = 0
    checked: int = 0
    mismatched: int = 0
    latencies: list[int] = field(default_factory=lambda: [0] * (len(_EDGES) + 1))
    measured: bool = False
    outcomes: Moments = Moments()
    second: Moments = Moments()
    maturing: deque[tuple[Moments, Moments]] = field(default_factory=deque)


@dataclass(frozen=True)
class Rewards:
    """How rewards come: `kind` as in a check, and the ticks until one is known."""

    kind: str = "binary"
    delay: int = 0


class World:
    """One release's time: counts begin with it.

    Args:
        behaviours: version -> how it truly is.
        onset: ticks before a candidate that does harm begins to.
        smoke: number of smoke requests that are sent to the candidate.
    """

    def __init__(
        self,
        behaviours: Mapping[str, Behaviour],
        champion: str,
        candidates: tuple[str, ...],
        rng: np.random.Generator,
        rewards: Rewards,
        *,
        onset: int = 0,
        units: bool = False,
        smoke: int = 0,
    ) -> None:
        self.behaviours = behaviours
        self._champion = champion
        self._candidates = candidates
        self._rng = rng
        self._rewards = rewards
        self._onset = onset
        self._units = units
        self._smoke = smoke
        self.age = 0
        self.arms = {version: Arm() for version in (champion, *candidates)}
        self._pairs: dict[str, list[float]] = {"brier": []}
        self._distances: Counter[int] = Counter()
        self._differing = 0

    def tick(self, traffic: Traffic, *, outage: bool = False, crooked: bool = False) -> None:
        """Answer one tick's requests.

        Args:
            outage: whatever all versions stand on is down: 60 % of the requests fail.
            crooked: the router gives the candidates far more than the wire says.
        """
        self.age += 1
        shares = {version: traffic.weights.get(version, 0) / 100 for version in self.arms}
        if crooked and 0 < shares[self._champion] < 1:
            moved = shares[self._champion] * 0.5
            shares[self._champion] -= moved
            shares[self._candidates[0]] += moved
        total = sum(shares.values())
        if not total:
            return  # somebody else's versions have it all
        counts = self._rng.multinomial(REQUESTS, [share / total for share in shares.values()])
        mirrored = traffic.mirror_to
        for version, count in zip(shares, counts.tolist(), strict=True):
            extra = 0
            if mirrored is not None and version == mirrored and shares[version] == 0:
                count = int(counts.sum()) * traffic.mirror_percent // 100
            elif mirrored is not None:
                extra = int(counts.sum()) - count
            self._answer(version, count, extra, outage)
        if mirrored is not None:
            self._pair(self.behaviours[mirrored])

    def evidence(self, at: datetime) -> Evidence:
        """What an honest metrics source says."""
        arms = {version: self._evidence(arm) for version, arm in self.arms.items()}
        smoke = None
        if self._smoke and self.age >= 2:
            right = self.behaviours[self._candidates[0]].smoke
            smoke = Smoke(self._smoke, 0) if right else Smoke(0, self._smoke, "status 500")
        paired = {name: tuple(values) for name, values in self._pairs.items() if values}
        both = self._distances.total()
        pairs = Pairs(both, self._differing, dict(self._distances)) if both else None
        return Evidence(at, arms, paired, pairs, smoke=smoke)

    def _answer(self, version: str, count: int, mirrored: int, outage: bool) -> None:
        true = self.behaviours[version if self.age > self._onset else self._champion]
        arm, rng = self.arms[version], self._rng
        if count:
            arm.requests += count
            arm.errors += int(rng.binomial(count, 0.6 if outage else true.error))
            slow = int(rng.binomial(count, true.slow))
            arm.latencies[_SLOW_PLACE] += slow
            fast = rng.multinomial(count - slow, _FAST_SHARES).tolist()
            for place, found in zip(_FAST_PLACES, fast, strict=True):
                arm.latencies[place] += found
            arm.measured = True
        if count + mirrored:
            arm.checked += count + mirrored
            arm.mismatched += int(rng.binomial(count + mirrored, true.skew))
        arm.maturing.append((self._earned(count, true.reward), self._earned(count, 0.3)))
        while len(arm.maturing) > self._rewards.delay:
            first, second = arm.maturing.popleft()
            arm.outcomes += first
            arm.second += second

    def _earned(self, count: int, mean: float) -> Moments:
        if not count:
            return Moments()
        if self._rewards.kind == "binary":
            events = float(self._rng.binomial(count, mean))
            return Moments(n=count, y=events, yy=events)
        values = self._rng.normal(10 * mean, 0.5, count)
        y, yy = float(values.sum()), float(values @ values)
        if self._rewards.kind == "continuous":
            return Moments(n=count, y=y, yy=yy)
        visits = self._rng.integers(1, 4, count).astype(float)
        values = values * visits
        return Moments(
            n=count,
            y=float(values.sum()),
            yy=float(values @ values),
            z=float(visits.sum()),
            zz=float(visits @ visits),
            yz=float(visits @ values),
        )

    def _pair(self, true: Behaviour) -> None:
        draws = self._rng.random((3, PAIRS))
        up = 0.2 + true.loss * 5
        brier = np.where(draws[0] < up, 0.1, np.where(draws[0] < 0.4, -0.1, 0.0))
        self._pairs["brier"] += brier.tolist()
        self._distances.update(np.where(draws[1] < true.distance, 300, 20).tolist())
        self._differing += int((draws[2] < true.disagree).sum())

    def _evidence(self, arm: Arm) -> ArmEvidence:
        return ArmEvidence(
            requests=arm.requests,
            errors=arm.errors,
            latencies=Histogram(_EDGES, tuple(arm.latencies)) if arm.measured else None,
            skew_checked=arm.checked,
            skew_mismatched=arm.mismatched,
            units=arm.requests if self._units else None,
            outcomes={"reward": arm.outcomes, "second": arm.second} if arm.outcomes.n else {},
        )


def worse(true: Behaviour, kind: str) -> Behaviour:
    """A version that does harm of one kind."""
    changes: dict[str, dict[str, Any]] = {
        "errors": {"error": 0.2},
        "latency": {"slow": 0.25},
        "skew": {"skew": 0.15},
        "disagreement": {"disagree": 0.4},
        "distance": {"distance": 0.9},
        "loss": {"loss": 0.06},
        "reward": {"reward": true.reward * 0.4},
        "smoke": {"smoke": False},
    }
    return replace(true, **changes[kind])
