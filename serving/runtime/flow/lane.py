"""The lane of one model: requests that arrived together run together, in time or not at all.

What arrives in one turn of the event loop is run at its end, without a timer: one request alone does not wait, and
the more arrive the more run together, by itself. A run that would hold up the event loop goes to a thread; what
arrives meanwhile is the next run. More than can be answered in time is refused at once, before it is even decoded.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Awaitable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from serving.runtime.flow.call import PENDING, Call, Outcome
from serving.runtime.refusal import DeadlineExceeded, ModelFailed, Overloaded, Refusal, Unavailable

WEIGHT = 0.1
"""Of a new observation in the moving average of what a request costs."""
OUTLIER = 4.0
"""An observation counts as at most so many times the average."""
OVERHEAD_S = 100e-6
"""What a request costs beside the model, until it is known."""
DRAIN_S = 0.005


@dataclass(frozen=True)
class Limits:
    """What one lane takes on.

    Attributes:
        waiting: requests that may wait or run at once.
        queue_s: longest that a request may be expected to wait; what would wait longer is shed.
        rows: rows of one run.
        inline_s: a run that is expected to take longer leaves the event loop for a thread.
        stuck_s: while a run takes longer than this, requests are answered without the model.
        wedged_s: a run that takes longer than this will not come back.
    """

    waiting: int = 2048
    queue_s: float = 0.100
    rows: int = 256
    inline_s: float = 0.002
    stuck_s: float = 2.0
    wedged_s: float = 60.0


@dataclass
class Counts:
    """What the lane did, for the metrics page."""

    runs: int = 0
    rows: int = 0
    shed: dict[str, int] = field(default_factory=dict)


class Work(Protocol):
    """What a lane does with the requests that it lets through; the model's side."""

    immediate: bool
    """Whether `prepare` never waits."""
    threaded: bool
    """Whether `run` always leaves the event loop, whatever it costs: code that is not ours may hang."""
    batches: bool
    """Whether several requests may run together."""

    def prepare(self, calls: Sequence[Call]) -> None:
        """Look up what the calls need; where `immediate`."""
        ...

    def prepare_later(self, calls: Sequence[Call]) -> Awaitable[None]:
        """Look up what the calls need; where not `immediate`."""
        ...

    def expected_s(self, rows: int) -> float:
        """How long a run of so many rows takes."""
        ...

    def run(self, calls: Sequence[Call]) -> list[Outcome]:
        """Return what comes of each call; never raises. The only method that may run in a thread."""
        ...

    def instead(self, calls: Sequence[Call], problem: Refusal) -> None:
        """Answer calls without the model, with `problem` where nothing else can; quick, and on the loop."""
        ...

    def finished(self, calls: Sequence[Call], outcomes: Sequence[Outcome]) -> None:
        """Hand over the outcomes and keep their records."""
        ...


class Lane:
    """Requests of one model version.

    Args:
        loop: on which everything but `Work.run` happens.
        name: of the model, for messages.
    """

    def __init__(self, work: Work, limits: Limits, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._work = work
        self._limits = limits
        self._loop = loop
        self._name = name
        self._arrived: list[Call] = []
        self._ready: deque[Call] = deque()
        self._open: set[Call] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn_began = 0.0
        self._pending = 0
        self._cost_s = work.expected_s(1) + OVERHEAD_S
        self._running = False
        self._running_since = math.inf
        self._watch: asyncio.TimerHandle | None = None
        self._watch_at = math.inf
        self._executor: ThreadPoolExecutor | None = None
        self.counts = Counts()

    # ---- in

    @property
    def pending(self) -> int:
        """Requests that wait or run."""
        return self._pending

    def admit(self, seconds_left: float = math.inf) -> None:
        """Let one more request in.

        Args:
            seconds_left: until its deadline.

        Raises:
            Overloaded: it could not be answered in time, or too much waits already.
        """
        limits = self._limits
        wait_s = self._pending * self._cost_s
        if self._pending >= limits.waiting:
            self._shed("full", f"{self._pending} requests wait already", wait_s)
        # the first one always runs: a model that takes longer than the limit would else never be asked
        if self._pending and wait_s > min(limits.queue_s, seconds_left):
            self._shed("slow", f"a request would wait {wait_s * 1000:.0f} ms", wait_s)

    def submit(self, call: Call) -> None:
        """Take a request that was admitted; its `reply` is called later on the loop."""
        self._pending += 1
        if not self._arrived:
            self._turn_began = time.perf_counter()
            self._loop.call_soon(self._flush)
        self._arrived.append(call)

    def _shed(self, reason: str, text: str, wait_s: float) -> None:
        self.counts.shed[reason] = self.counts.shed.get(reason, 0) + 1
        raise Overloaded(f"model {self._name}: {text}; try again later", max(1, math.ceil(wait_s)))

    # ---- through

    def _flush(self) -> None:
        calls, self._arrived = self._arrived, []
        if self.stuck_s > self._limits.stuck_s:
            text = f"model {self._name} has not come back for {self.stuck_s:.1f} s"
            self._instead(calls, Unavailable(text))
            self._forget(calls)
        elif self._work.immediate:
            try:
                self._work.prepare(calls)
            except Exception as bug:
                self._abandon(calls, bug)
                self._forget(calls)
                return
            self._queue(calls)
        else:
            self._hold(calls)
            task = self._loop.create_task(self._prepare(calls))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _prepare(self, calls: Sequence[Call]) -> None:
        try:
            await self._work.prepare_later(calls)
        except Exception as bug:
            self._abandon(calls, bug)
            self._forget(calls)
            return
        self._turn_began = time.perf_counter()
        self._queue(calls)

    def _queue(self, calls: Sequence[Call]) -> None:
        busy = self._running or bool(self._ready)
        self._ready.extend(calls)
        if busy:  # whoever is at it comes to these too
            self._hold(calls)
        else:
            self._pump()

    def _pump(self) -> None:
        """Run what is ready, until nothing is, a run left for its thread, or others have waited for long enough."""
        began = time.perf_counter()
        while self._ready and not self._running:
            if time.perf_counter() - began > self._limits.inline_s:
                self._hold(self._ready)
                self._loop.call_soon(self._pump)
                return
            calls, rows = self._take()
            if not calls:
                continue
            self.counts.runs += 1
            self.counts.rows += rows
            if self._work.threaded or self._work.expected_s(rows) > self._limits.inline_s:
                self._leave(calls)
                return
            try:
                outcomes = self._work.run(calls)
            except Exception as bug:
                self._abandon(calls, bug)
                self._forget(calls)
                continue
            self._done(calls, outcomes, self._turn_began)
            self._turn_began = time.perf_counter()

    def _take(self) -> tuple[list[Call], int]:
        """Take the next run's calls off the queue; those whose time is over are answered and left out."""
        now = self._loop.time()
        most = self._limits.rows if self._work.batches else 1
        calls: list[Call] = []
        rows = 0
        while self._ready and (not calls or rows + self._ready[0].asked.count <= most):
            call = self._ready.popleft()
            if call.outcome is PENDING and call.deadline > now:
                calls.append(call)
                rows += call.asked.count
            else:
                self._late(call)
                self._forget([call])
        return calls, rows

    def _leave(self, calls: list[Call]) -> None:
        """Run `calls` in a thread; the deadlines of all that wait are watched meanwhile."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"model-{self._name}")
        self._running = True
        self._running_since = time.perf_counter()
        self._hold(calls)
        self._hold(self._ready)
        future = self._executor.submit(self._work.run, calls)

        def back(done: Future[list[Outcome]]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile, and nobody waits
                self._loop.call_soon_threadsafe(self._back, calls, done)

        future.add_done_callback(back)

    def _back(self, calls: list[Call], future: Future[list[Outcome]]) -> None:
        began, self._running_since = self._running_since, math.inf
        self._running = False
        try:
            outcomes = future.result()
        except Exception as bug:
            self._abandon(calls, bug)
            self._forget(calls)
        else:
            self._done(calls, outcomes, began)
        self._turn_began = time.perf_counter()
        self._pump()

    def _done(self, calls: list[Call], outcomes: list[Outcome], began: float) -> None:
        try:
            self._work.finished(calls, outcomes)
        except Exception as bug:
            self._abandon(calls, bug)
        self._forget(calls)
        cost_s = (time.perf_counter() - began) / len(calls)
        # one stall of the machine must not make all that follows look too slow to be tried
        self._cost_s += WEIGHT * (min(cost_s, OUTLIER * self._cost_s) - self._cost_s)

    # ---- in time

    def _hold(self, calls: Sequence[Call] | deque[Call]) -> None:
        """Watch the deadlines of calls that this turn does not finish."""
        self._open.update(calls)
        if calls:
            self._watch_until(min(c.deadline for c in calls))

    def _watch_until(self, deadline: float) -> None:
        if self._watch_at <= deadline:
            return
        if self._watch is not None:
            self._watch.cancel()
        # kept here: uvloop's handle of a time that has come is no timer's, and does not know it
        self._watch_at = deadline
        self._watch = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._watch, self._watch_at = None, math.inf
        now = self._loop.time()
        for call in [c for c in self._open if c.deadline <= now]:
            self._open.discard(call)
            self._late(call)
        # what waits behind a run that does not come back would else fill the queue for ever
        over = [c for c in self._ready if c.outcome is not PENDING]
        if over:
            self._ready = deque(c for c in self._ready if c.outcome is PENDING)
            self._forget(over)
        if self._open:
            self._watch_until(min(c.deadline for c in self._open))

    def _late(self, call: Call) -> None:
        if call.outcome is PENDING:
            self.counts.shed["deadline"] = self.counts.shed.get("deadline", 0) + 1
            problem = DeadlineExceeded(f"model {self._name}: the deadline of the request is over")
            self._instead([call], problem)

    def _instead(self, calls: list[Call], problem: Refusal) -> None:
        try:
            self._work.instead(calls, problem)
        except Exception as bug:
            self._abandon(calls, bug)

    def _abandon(self, calls: Sequence[Call], bug: Exception) -> None:
        """Answer what a bug left unanswered: it costs these requests, and not the lane."""
        text = f"model {self._name}: requests failed"
        self._loop.call_exception_handler({"message": text, "exception": bug})
        failed = Outcome([], "model", ModelFailed("the server failed on this request; its log says why"))
        for call in calls:
            call.finish(failed)

    def _forget(self, calls: Sequence[Call]) -> None:
        self._pending -= len(calls)
        if self._open:
            self._open.difference_update(calls)

    # ---- its end

    @property
    def stuck_s(self) -> float:
        """For how long a run has not come back."""
        return max(0.0, time.perf_counter() - self._running_since)

    @property
    def wedged(self) -> bool:
        """Whether it is gone for so long that only a restart helps."""
        return self.stuck_s > self._limits.wedged_s

    async def drained(self) -> None:
        """Return when no request waits or runs."""
        # first a while: what was admitted a moment ago may be on its way here
        await asyncio.sleep(DRAIN_S)
        while self._pending:
            await asyncio.sleep(DRAIN_S)

    def close(self) -> None:
        """Let go of the thread, without waiting for it."""
        if self._watch is not None:
            self._watch.cancel()
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None
