"""A circuit breaker: whether something that fails is asked again, and when.

The decisions are functions of a frozen state; `Breaker` keeps the state, the clock and the counts. It stands
around the online store and around each model, and knows nothing of either.

    closed ──failures──> open ──backoff over──> half-open, one probe at a time ──success──> closed
                          ^───────────────────────────── failure, twice the backoff ──┘
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

Phase = Literal["closed", "open", "half_open"]
Admission = Literal["through", "probe", "refused"]
_MOST_DOUBLINGS = 32


@dataclass(frozen=True)
class Policy:
    """When to open, and for how long.

    Attributes:
        failures: so many in a row open.
        share: so large a share of failures opens, of at least `minimum` outcomes since the first failure of
            the last `window_s` seconds.
        slow_s: one failure that took so long opens: what hangs must not cost every request its budget.
        backoff_s: the first rest; each failed probe doubles it, up to `longest_backoff_s`. Of a rest, a random
            part of up to one half is left out, so that servers which failed together do not return together.
    """

    failures: int = 5
    share: float = 0.5
    minimum: int = 20
    window_s: float = 10.0
    slow_s: float = math.inf
    backoff_s: float = 0.1
    longest_backoff_s: float = 2.0


@dataclass(frozen=True, slots=True)
class State:
    """Where a breaker stands; times are the clock's.

    Attributes:
        consecutive: failures since the last success.
        since: the first failure of the window; successes are counted from there only, so that nothing changes
            while nothing fails.
        openings: in a row, without a success of a probe between them.
        until: when an open breaker lets a probe through.
    """

    phase: Phase = "closed"
    consecutive: int = 0
    since: float = -math.inf
    outcomes: int = 0
    failed: int = 0
    openings: int = 0
    until: float = -math.inf


CLOSED = State()


def admit(state: State, now: float) -> tuple[State, Admission]:
    """Decide on one call. Whoever is let through, as a probe or not, reports its outcome exactly once."""
    if state.phase == "closed":
        return state, "through"
    if state.phase == "open" and now >= state.until:
        return replace(state, phase="half_open"), "probe"
    return state, "refused"


def succeeded(state: State, policy: Policy, admission: Admission, now: float) -> State:
    """The state after a success."""
    if admission == "probe":
        return CLOSED
    # nor has an open one counted anything: a call from before the opening says nothing of now, only the probe closes
    if state.failed == 0:
        return state
    if now - state.since > policy.window_s:
        return CLOSED
    return replace(state, consecutive=0, outcomes=state.outcomes + 1)


def failed(
    state: State, policy: Policy, admission: Admission, now: float, took_s: float, draw: float
) -> State:
    """The state after a failure that took `took_s` seconds; `draw` in [0, 1) decides the jitter."""
    if admission == "probe":
        return _open(state, policy, now, draw)
    if state.phase != "closed":
        return state
    if now - state.since > policy.window_s:
        counted = replace(CLOSED, consecutive=state.consecutive + 1, since=now, outcomes=1, failed=1)
    else:
        counted = replace(
            state, consecutive=state.consecutive + 1, outcomes=state.outcomes + 1, failed=state.failed + 1
        )
    opens = (
        took_s >= policy.slow_s
        or counted.consecutive >= policy.failures
        or (counted.outcomes >= policy.minimum and counted.failed >= policy.share * counted.outcomes)
    )
    return _open(counted, policy, now, draw) if opens else counted


def _open(state: State, policy: Policy, now: float, draw: float) -> State:
    doubled = policy.backoff_s * 2.0 ** min(state.openings, _MOST_DOUBLINGS)
    rest = min(policy.longest_backoff_s, doubled) * (1.0 - 0.5 * draw)
    return State("open", openings=state.openings + 1, until=now + rest)


class Breaker:
    """One breaker.

    Attributes:
        state: where it stands; `state.phase` is for the metrics page.
        opens: times that it opened, failed probes included.
        probes: calls let through while it was open.
        refused: calls not let through.
    """

    def __init__(
        self,
        policy: Policy = Policy(),
        *,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
    ) -> None:
        self.policy = policy
        self.state = CLOSED
        self.opens = 0
        self.probes = 0
        self.refused = 0
        self._clock = clock
        self._random = random or Random()  # noqa: S311 - jitter, no secret

    def admit(self) -> Admission:
        """Whether to call, and how; unless "refused", `succeeded` or `failed` must follow exactly once."""
        self.state, admission = admit(self.state, self._clock())
        self.probes += admission == "probe"
        self.refused += admission == "refused"
        return admission

    def succeeded(self, admission: Admission) -> None:
        """The call that was let through so came to its end."""
        self.state = succeeded(self.state, self.policy, admission, self._clock())

    def failed(self, admission: Admission, took_s: float) -> None:
        """The call that was let through so failed after `took_s` seconds."""
        before = self.state
        self.state = failed(before, self.policy, admission, self._clock(), took_s, self._random.random())
        self.opens += self.state.phase == "open" and before.phase != "open"
