"""The retrain trigger at its edge: signals are journaled, accepted ones submitted once, whatever dies when.

The order is what makes it so: `accepted` is on the disk before anything is started, the run is named by the
trigger's id, and `submitted` is written after it was handed over. A process that died in between is made good
by `recover`, which hands over the same id again; the receiver knows an id that it has seen.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from monitoring.retrain import clock, records
from monitoring.retrain.clock import Reading
from monitoring.retrain.decision import Standing, TriggerDecision, decide, rows_of
from monitoring.retrain.history import History
from monitoring.retrain.reader import Reader
from monitoring.retrain.signals import PastTrigger, Signal, trigger_id
from windlass.contract import RetrainPolicy
from windlass.errors import UsageError, WindlassError
from windlass.journal import Journal
from windlass.settings import Settings

Submit = Callable[[str, Signal], str | None]
"""Start the run named by the first argument, or find it if it was started; returns a reference to it."""

Append = Callable[[Mapping[str, Any]], None]


def path(settings: Settings) -> Path:
    """The journal of all signals and triggers."""
    return settings.journal_dir / "triggers.jsonl"


class Trigger:
    """The trigger of one workload. Several processes, and several threads, may share a journal.

    Args:
        journal: usually `path(settings)`.
        submit: idempotent by trigger id, see `Submit`. It is called without any lock of the journal held.
        total_budget: most accepted triggers over the whole journal.
        durable: whether a record is on the disk when it counts as written; off in simulations only.
    """

    def __init__(
        self,
        workload: str,
        policy: RetrainPolicy,
        journal: Path,
        submit: Submit,
        *,
        total_budget: int | None = None,
        durable: bool = True,
    ) -> None:
        self.workload = workload
        self.policy = policy
        self._path = journal
        self._guard = journal.with_suffix(".lock")
        self._submit = submit
        self._total_budget = total_budget
        self._durable = durable
        self._mutex = threading.RLock()
        self._reader = Reader(journal, workload)
        self._reading: Reading | None = None

    # --- signals

    def offer(
        self,
        signal: Signal,
        now: datetime,
        *,
        live_release: bool,
        run_active: int = 0,
        data_quality_failed: bool = False,
        champion: str | None = None,
        trained_rows: float | None = None,
        hand_over: bool = True,
    ) -> TriggerDecision:
        """Journal a signal with the decision about it, and submit the run if it was accepted.

        Args:
            run_active: runs of the workload that the journal does not know of.
            champion: the version in force, where it is known; a signal about another is stale.
            trained_rows: rows that it was trained on; None for what a newData signal says there was before it.
            hand_over: whether it is submitted when this returns, be it by another process that saw the line first;
                otherwise the next `recover` does it.

        Raises:
            whatever `submit` raises; the trigger stays accepted and `recover` submits it later. A UsageError is not
                raised: the trigger has ended in vain then.
        """
        # a host whose clock is ahead must not make everything stale that is measured until then
        signal = replace(signal, at=min(signal.at, now))
        standing = Standing(
            live_release, run_active, data_quality_failed, champion=champion, trained_rows=trained_rows
        )
        with self._locked() as (append, history):
            decision = self._decide(signal, history, now, standing)
            append(records.decided(self.workload, signal, decision, now, champion))
        if decision.trigger is not None and decision.accepted and hand_over:
            self._hand_over(decision.trigger, signal, now, wait=True)
        return decision

    def reconsider(
        self,
        now: datetime,
        *,
        live_release: bool,
        run_active: int = 0,
        data_quality_failed: bool = False,
        champion: str | None = None,
        trained_rows: float | None = None,
    ) -> tuple[TriggerDecision, ...]:
        """Decide again about what is held back, the oldest first; journal what is held no longer.

        Nothing is submitted here: `recover` does it.
        """
        standing = Standing(
            live_release, run_active, data_quality_failed, champion=champion, trained_rows=trained_rows
        )
        if not self.state().held:
            return ()
        decided: list[TriggerDecision] = []
        with self._locked() as (append, history):
            for waiting in sorted(history.held.values(), key=lambda s: s.at):
                signal = replace(waiting, at=min(waiting.at, now))
                decision = self._decide(signal, history, now, standing)
                if not decision.held:
                    # by its own time: that is what it is known by among what is held
                    said = signal if decision.accepted else waiting
                    append(records.decided(self.workload, said, decision, now, champion))
                    self._reader.refresh()
                    decided.append(decision)
        return tuple(decided)

    def clear(
        self,
        kind: str,
        champion: str,
        since: datetime,
        ended: datetime,
        now: datetime,
        fingerprint: str = "",
    ) -> None:
        """Journal that an alert has ended; what is held back because of it is let go.

        Args:
            champion: the version that it was about.
            since, ended: when it began and ended.
            fingerprint: tells alerts of one kind about one version apart.
        """
        with self._locked() as (append, _):
            append(records.cleared(self.workload, kind, champion, since, ended, now, fingerprint))

    def repaired(self, now: datetime) -> int:
        """Journal a person's word that the data is in order: whatever burns about its quality has ended; how many."""
        broken = list(self.state().broken.items())
        for (name, fingerprint), signal in broken:
            kind, _, about = name.partition("/")
            self.clear(kind, about, signal.at, now, now, fingerprint)
        return len(broken)

    def give_up(self, trigger: str, now: datetime, by: str) -> None:
        """Journal that a person closes a trigger, as in vain.

        Raises:
            UsageError: there is none of that name that is open.
        """
        open_ = [past.id for past in self.history() if past.helped is None]
        if trigger not in open_:
            known = ", ".join(open_) or "none"
            raise UsageError(f"trigger {trigger!r} of {self.workload!r} is not open; open: {known}")
        self.resolved(trigger, now, helped=False, reason=f"given up by {by}")

    def watch(self, reading: Reading) -> timedelta:
        """Compare the clocks with their last reading, this process's or the journal's; journal a jump and return it.

        Call it before anything is decided.
        """
        with self._locked() as (append, history):
            known = [r for r in (self._reading, history.reading) if r is not None and r.boot == reading.boot]
            before = max(known, key=lambda r: r.steady, default=None)
            ahead = timedelta(0) if before is None else clock.jump(before, reading)
            if ahead or history.reading is None or history.reading.boot != reading.boot:
                append(records.clock(self.workload, reading, ahead))
            self._reading = reading
        return ahead

    # --- runs

    def recover(self, now: datetime) -> tuple[str, ...]:
        """Submit what was accepted and never submitted; return the ids. Call it at every start.

        Raises:
            WindlassError: one could not be submitted; the others were.
        """
        done: list[str] = []
        failed: WindlassError | None = None
        history = self.state()
        waiting = [(t.id, history.signals[t.id]) for t in history.past if not t.submitted and not t.finished]
        for name, signal in waiting:
            try:
                if self._hand_over(name, signal, now):
                    done.append(name)
            except WindlassError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return tuple(done)

    def finished(self, trigger: str, now: datetime, **detail: Any) -> None:
        """Journal that the run has ended, with what it made (`version`) or why it did not (`error`)."""
        self._note(trigger, "finished", now, detail, lambda past: not past.finished)

    def resolved(self, trigger: str, now: datetime, *, helped: bool, reason: str, **detail: Any) -> None:
        """Journal what came of a retraining in the end: whether its candidate took over, and why."""
        said = {"helped": helped, "reason": reason, **detail}
        self._note(trigger, "resolved", now, said, lambda past: past.helped is None)

    # --- what is known

    def history(self) -> tuple[PastTrigger, ...]:
        """Accepted triggers of the workload, oldest first."""
        return self.state().past

    def newest(self) -> dict[str, Any]:
        """The newest accepted trigger and the newest decision; empty where there are none."""
        state = self.state()
        last = max(state.past, key=lambda p: p.at, default=None)
        return {
            **({} if last is None else {"lastTrigger": last.id, "lastTriggeredAt": last.at.isoformat()}),
            **({} if state.decision is None else {"decision": state.decision}),
        }

    def state(self) -> History:
        """All that the journal says of the workload; do not change it."""
        if not self._path.exists():
            return History()
        # a line that another process could not make durable is taken back: it must not be read in between
        with self._mutex, _lock(self._guard, fcntl.LOCK_SH):
            return self._reader.refresh()

    # --- parts

    def _decide(self, signal: Signal, history: History, now: datetime, standing: Standing) -> TriggerDecision:
        past = history.past
        new_rows, trained_rows = None, standing.trained_rows
        if signal.kind == "newData":
            new_rows, rows = history.new_rows(signal), rows_of(signal.detail, "rows")
            if trained_rows is None and new_rows is not None and rows is not None:
                # what there was when the last retraining began
                trained_rows = max(0.0, rows - new_rows)
        decision = decide(
            signal,
            past,
            self.policy,
            now,
            replace(
                standing,
                run_active=int(standing.run_active) + sum(1 for t in past if not t.finished),
                data_quality_failed=standing.data_quality_failed or bool(history.broken),
                total_budget=self._total_budget,
                newest=history.newest,
                ended=history.ended_at(signal),
                new_rows=new_rows,
                trained_rows=trained_rows,
            ),
        )
        if decision.accepted:
            return replace(decision, trigger=trigger_id(self.workload, signal.cause))
        return decision

    def _hand_over(self, trigger: str, signal: Signal, now: datetime, *, wait: bool = False) -> bool:
        how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
        with _lock(self._path.with_name(f".{trigger}.lock"), how) as free:
            # somebody else is submitting it, or has between our look at the journal and the lock
            if not free or any(p.id == trigger and p.submitted for p in self.history()):
                return False
            try:
                reference = self._submit(trigger, signal)
            except UsageError as error:
                # asked again it would be refused again, and hold back every other: it has ended, as a run that failed
                said = {"helped": False, "reason": f"the run cannot be meant: {error}", "error": str(error)}
                self._note(trigger, "resolved", now, said, lambda past: not past.finished)
                return False
            self._note(trigger, "submitted", now, {"run": reference}, lambda past: not past.submitted)
        return True

    def _note(
        self,
        trigger: str,
        event: str,
        now: datetime,
        detail: Mapping[str, Any],
        still: Callable[[PastTrigger], bool],
    ) -> None:
        with self._locked() as (append, history):
            past = history.triggers.get(trigger)
            if past is not None and not still(past):
                return  # another process was first
            append(records.followed(self.workload, event, trigger, now, detail))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[tuple[Append, History]]:
        # Opened anew under the lock: opening cuts a torn tail, and that must not be another process's line.
        with self._mutex, _lock(self._guard, fcntl.LOCK_EX), contextlib.ExitStack() as after:
            opened: list[Journal] = []

            def append(record: Mapping[str, Any]) -> None:
                if not opened:
                    opened.append(Journal(self._path, durable=self._durable))
                    after.callback(opened[0].close)
                opened[0].append(record)

            yield append, self._reader.refresh()


def history(journal: Path, workload: str) -> tuple[PastTrigger, ...]:
    """Read the accepted triggers of a workload from the journal, oldest first."""
    return Reader(journal, workload).refresh().past


@contextlib.contextmanager
def _lock(path: Path, how: int) -> Iterator[bool]:
    """Hold a lock that the kernel releases however its holder dies; yield whether it was got."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, flags, 0o666)
    try:
        fcntl.flock(descriptor, how)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)
