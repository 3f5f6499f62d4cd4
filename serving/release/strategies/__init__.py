"""What each strategy does where nothing stands in its way: one module each, chosen by the release's document.

A strategy is four pure functions: `begin` gives the first traffic, `waiting_for` says what is still missing,
`forward` takes the next step, and `meanwhile` may act although something is missing (a bandit's weights move all the
time; an experiment ends when its time is over).
"""

from __future__ import annotations

import importlib
from datetime import datetime
from typing import Protocol, cast

from serving.release.decision import Decision
from serving.release.look import Look, Obstacle
from serving.release.release import Release, strategy_name
from serving.release.state import ReleaseState

_MODULES = {
    "canary": "canary",
    "blueGreen": "blue_green",
    "shadow": "shadow",
    "experiment": "experiment",
    "bandit": "bandit",
}


class Strategy(Protocol):
    """The functions of a strategy's module."""

    def begin(self, state: ReleaseState, now: datetime) -> Decision: ...

    def waiting_for(self, seen: Look) -> Obstacle | None: ...

    def forward(self, seen: Look) -> Decision: ...

    def meanwhile(self, seen: Look, obstacle: Obstacle) -> Decision | None: ...


def of(release: Release) -> Strategy:
    """The strategy's module."""
    name = _MODULES[strategy_name(release.strategy)]
    return cast(Strategy, importlib.import_module(f"serving.release.strategies.{name}"))
