"""Releases of every strategy, played through the real controller by a router in memory and evidence drawn by a seed.

What people see of a release is made from its journal alone, so these give the tests journals as an engine writes them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from serving.release import spec
from serving.release.controller import ReleaseController
from serving.release.decision import Decision
from serving.release.evidence import ArmEvidence, Evidence, Pairs, Smoke
from serving.release.journal.store import DiskStore
from serving.release.statistics.histogram import Histogram
from serving.release.statistics.moments import Moments
from serving.release.traffic import Traffic
from windlass.clock import ManualClock

START = datetime(2013, 3, 1, 8, tzinfo=UTC)

ERRORS = {
    "name": "errors",
    "kind": "guardrail",
    "metric": "errorRate",
    "source": "envoy",
    "relativeToChampion": True,
}
SLOW = {"name": "p99", "kind": "guardrail", "metric": "latencyP99", "source": "envoy", "bound": "50ms"}
REWARD = {
    "name": "bookings",
    "kind": "decision",
    "metric": "reward",
    "source": "feedback",
    "direction": "increase",
    "minimumDetectableEffect": 20,
}


class Router:
    """A router that takes everything it is told."""

    def __init__(self) -> None:
        self.now: dict[str, Traffic] = {}

    def set_traffic(self, model: str, traffic: Traffic) -> None:
        self.now[model] = traffic

    def traffic(self, model: str) -> Traffic | None:
        return self.now.get(model)


def document(strategy: Mapping[str, Any], *checks: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A Release of flights 13 against 12."""
    several = strategy["type"] in ("experiment", "bandit")
    spec_ = {
        "model": "flights",
        **({"candidates": ["13"]} if several else {"candidate": "13"}),
        "champion": "12",
        "strategy": dict(strategy),
        "checks": [dict(check) for check in checks],
        **more,
    }
    return {"kind": "Release", "metadata": {"name": "flights-13"}, "spec": spec_}


CANARY = document(
    {
        "type": "canary",
        "steps": [
            {"weight": 10, "minSamples": 300, "minDuration": "10m"},
            {"weight": 50, "minSamples": 1500},
        ],
    },
    ERRORS,
    SLOW,
)
SHADOW = document(
    {"type": "shadow", "minSamples": 600},
    {"name": "same", "kind": "guardrail", "metric": "disagreement", "source": "predictions", "bound": 5},
    {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "predictions", "bound": 2},
)
BLUE_GREEN = document(
    {"type": "blueGreen", "keepWarm": "30m", "minSamples": 200, "smoke": [{"body": {"instances": [[1]]}}]},
    {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "envoy", "bound": 2},
)
EXPERIMENT = document(
    {
        "type": "experiment",
        "unit": {"header": "x-user-id"},
        "allocation": {"12": 50, "13": 50},
        "minDuration": "2d",
        "maxDuration": "7d",
        "period": "12h",
    },
    ERRORS,
    REWARD,
    {
        "name": "minutes",
        "kind": "secondary",
        "metric": "reward",
        "source": "feedback",
        "valueType": "continuous",
    },
)
BANDIT = document(
    {"type": "bandit", "floor": 5, "update": "10m", "outcomeDelay": "20m", "maxDuration": "2d"},
    ERRORS,
    REWARD,
)
BANDIT["spec"]["candidates"] = ["13", "14"]


@dataclass
class Arm:
    """What a version does to its requests, and what came of them so far."""

    errors: float = 0.002
    slow: float = 0.002
    reward: float = 0.05
    seen: int = 0
    failed: int = 0
    late: int = 0
    outcomes: Moments = Moments()
    minutes: Moments = Moments()
    periods: list[Moments] = field(default_factory=list)
    waiting: list[tuple[datetime, Moments]] = field(default_factory=list)


@dataclass
class Story:
    """One release in a folder of journals.

    Args:
        arms: version -> what it does.
        rate: requests a minute.
    """

    directory: Path
    document: Mapping[str, Any]
    arms: Mapping[str, Arm]
    rate: int = 100
    every: timedelta = timedelta(minutes=5)
    seed: int = 1
    silent_until: timedelta = timedelta(0)
    router: Router = field(default_factory=Router)
    champions: dict[str, str] = field(default_factory=dict)
    listener: Callable[[str, Decision], None] | None = None

    def __post_init__(self) -> None:
        self.release = spec.parse(self.document)
        self.clock = ManualClock(START)
        self.draw = random.Random(self.seed)
        self.smoke: Smoke | None = None
        self.pairs: list[float] = []
        self.controller = ReleaseController(
            DiskStore(self.directory),
            self.router,
            self.clock,
            set_champion=self.champions.__setitem__,
            listener=self.listener,
        )

    def start(self) -> Story:
        self.controller.start(self.release)
        return self

    def play(self, looks: int = 400) -> Story:
        """Look until it is over, at most `looks` times."""
        for _ in range(looks):
            if self.controller.live(self.release.model) is None:
                break
            self.look()
        self.controller.close()
        return self

    def look(self) -> Decision:
        """Let some traffic pass, and look."""
        self.clock.advance_to(self.clock.now() + self.every)
        traffic = self.router.now[self.release.model]
        minutes = self.every / timedelta(minutes=1)
        for version, arm in self.arms.items():
            share = traffic.weights.get(version, 0) / 100
            self._serve(arm, round(self.rate * minutes * (1 if traffic.mirror_to == version else share)))
        self.pairs += [float(self.draw.random() < 0.01) for _ in range(round(self.rate * minutes))]
        return self.controller.observe(self.release.model, self.evidence())

    def evidence(self) -> Evidence:
        now = self.clock.now()
        kind = self.document["spec"]["strategy"]["type"]
        silent = {"envoy": "no line for 5m"} if now - START < self.silent_until else {}
        return Evidence(
            now,
            {version: self._arm(arm, kind) for version, arm in self.arms.items()},
            pairs=Pairs(len(self.pairs), int(sum(self.pairs))) if kind == "shadow" else None,
            silent=silent,
            smoke=self.smoke,
        )

    def _serve(self, arm: Arm, n: int) -> None:
        count = lambda share: sum(self.draw.random() < share for _ in range(n))  # noqa: E731
        arm.seen, arm.failed, arm.late = (
            arm.seen + n,
            arm.failed + count(arm.errors),
            arm.late + count(arm.slow),
        )
        won = count(arm.reward)
        arm.waiting.append((self.clock.now(), Moments(n, won, won)))
        spent = [self.draw.gauss(9, 4) for _ in range(n)]
        arm.minutes += Moments.of(spent)
        strategy: Any = self.release.strategy
        delay, period = getattr(strategy, "outcome_delay", timedelta(0)), getattr(strategy, "period", None)
        now = self.clock.now()
        for at, found in arm.waiting:
            if now - at >= delay:
                arm.outcomes += found
                index = 0 if period is None else (at - START) // period
                arm.periods += [Moments()] * (index + 1 - len(arm.periods))
                arm.periods[index] += found
        arm.waiting = [(at, found) for at, found in arm.waiting if now - at < delay]

    def _arm(self, arm: Arm, kind: str) -> ArmEvidence:
        bounds = [
            check.bound for check in self.release.checks if check.metric == "latencyP99" and check.bound
        ]
        latencies = None
        if bounds:
            latencies = Histogram((bounds[0],), (arm.seen - arm.late, arm.late))
        outcomes = {"bookings": arm.outcomes, "minutes": arm.minutes} if kind == "experiment" else {}
        return ArmEvidence(
            requests=arm.seen,
            errors=arm.failed,
            latencies=latencies,
            units=arm.seen if kind == "experiment" else None,
            outcomes=outcomes or ({"bookings": arm.outcomes} if kind == "bandit" else {}),
            periods={"bookings": tuple(arm.periods)} if kind == "experiment" else {},
        )


def promoted_canary(directory: Path, **more: Any) -> Story:
    return Story(directory, CANARY, {"12": Arm(), "13": Arm()}, **more).start().play()


def failing_canary(directory: Path, **more: Any) -> Story:
    return Story(directory, CANARY, {"12": Arm(), "13": Arm(errors=0.08)}, **more).start().play()


def unseen_canary(directory: Path, **more: Any) -> Story:
    """A canary whose access log says nothing for so long that the release is given up."""
    given_up = document(
        CANARY["spec"]["strategy"], ERRORS, SLOW, inconclusiveAfter="1h", whenInconclusive="abort"
    )
    arms = {"12": Arm(), "13": Arm()}
    return Story(directory, given_up, arms, silent_until=timedelta(days=9), **more).start().play()


def promoted_shadow(directory: Path) -> Story:
    return Story(directory, SHADOW, {"12": Arm(), "13": Arm()}).start().play()


def promoted_blue_green(directory: Path) -> Story:
    story = Story(directory, BLUE_GREEN, {"12": Arm(), "13": Arm()}, every=timedelta(minutes=3)).start()
    story.smoke = Smoke(passed=1)
    return story.play()


def won_experiment(directory: Path) -> Story:
    arms = {"12": Arm(), "13": Arm(reward=0.062)}
    return Story(directory, EXPERIMENT, arms, rate=8, every=timedelta(minutes=60)).start().play()


def undecided_experiment(directory: Path) -> Story:
    arms = {"12": Arm(), "13": Arm(reward=0.0505)}
    return Story(directory, EXPERIMENT, arms, rate=4, every=timedelta(hours=3), seed=3).start().play()


def bandit(directory: Path) -> Story:
    arms = {"12": Arm(reward=0.05), "13": Arm(reward=0.055), "14": Arm(reward=0.075)}
    return Story(directory, BANDIT, arms, rate=60, every=timedelta(minutes=10)).start().play(300)


STORIES: dict[str, Callable[[Path], Story]] = {
    "canary": promoted_canary,
    "failing": failing_canary,
    "unseen": unseen_canary,
    "shadow": promoted_shadow,
    "blueGreen": promoted_blue_green,
    "experiment": won_experiment,
    "undecided": undecided_experiment,
    "bandit": bandit,
}


def stories(directory: Path) -> Iterator[tuple[str, Story]]:
    """Every story, each in a folder of its own."""
    for name, tell in STORIES.items():
        yield name, tell(directory / name)


__all__ = [
    "BANDIT",
    "CANARY",
    "EXPERIMENT",
    "START",
    "STORIES",
    "Arm",
    "Router",
    "Story",
    "replace",
    "stories",
]
