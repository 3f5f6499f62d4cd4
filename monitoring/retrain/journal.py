"""The retrain trigger at its edge: signals are journaled, accepted ones submitted once, whatever dies when.

The order is what makes it so: `accepted` is on the disk before anything is started, the run is named by the
trigger's id, and `submitted` is written after it was handed over. A process that died in between is made good
by `recover`, which hands over the same id again; the receiver knows an id that it has seen.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from monitoring.retrain.decision import TriggerDecision, decide
from monitoring.retrain.signals import PastTrigger, Signal, trigger_id
from windlass.contract import RetrainPolicy
from windlass.journal import Journal, read
from windlass.settings import Settings

Submit = Callable[[str, Signal], str | None]
"""Start the run named by the first argument, or find it if it was started; returns a reference to it."""


def path(settings: Settings) -> Path:
    """The journal of all signals and triggers."""
    return settings.journal_dir / "triggers.jsonl"


class Trigger:
    """The trigger of one workload. Several processes may share a journal.

    Args:
        journal: usually `path(settings)`.
        submit: idempotent by trigger id, see `Submit`. It is called without any lock of the journal held.
        total_budget: most accepted triggers over the whole journal.
    """

    def __init__(
        self,
        workload: str,
        policy: RetrainPolicy,
        journal: Path,
        submit: Submit,
        *,
        total_budget: int | None = None,
    ) -> None:
        self._workload = workload
        self._policy = policy
        self._path = journal
        self._submit = submit
        self._total_budget = total_budget

    def offer(
        self,
        signal: Signal,
        now: datetime,
        *,
        live_release: bool,
        run_active: int = 0,
        data_quality_failed: bool = False,
    ) -> TriggerDecision:
        """Journal a signal with the decision about it, and submit the run if it was accepted.

        Args:
            run_active: runs of the workload that the journal does not know of.

        Raises:
            whatever `submit` raises; the trigger stays accepted and `recover` submits it later.
        """
        with self._locked() as journal:
            history = self.history()
            active = run_active + sum(1 for past in history if not past.finished)
            decision = decide(
                signal,
                history,
                self._policy,
                now,
                live_release=live_release,
                run_active=active,
                data_quality_failed=data_quality_failed,
                total_budget=self._total_budget,
            )
            if decision.accepted:
                decision = replace(decision, trigger=trigger_id(self._workload, signal.cause))
            journal.append(
                {
                    "event": "accepted" if decision.accepted else "refused",
                    "workload": self._workload,
                    "id": decision.trigger,
                    "at": now.isoformat(),
                    "kind": signal.kind,
                    "cause": signal.cause,
                    "signal_at": signal.at.isoformat(),
                    "detail": dict(signal.detail),
                    "rule": decision.rule,
                    "reason": decision.reason,
                    "escalate": decision.escalate,
                }
            )
        if decision.trigger is not None and decision.accepted:
            self._hand_over(decision.trigger, signal, now)
        return decision

    def recover(self, now: datetime) -> tuple[str, ...]:
        """Submit what was accepted and never submitted; return the ids. Call it at every start."""
        done: list[str] = []
        for past in self.history():
            if not past.submitted and self._hand_over(past.id, self._signal(past.id), now):
                done.append(past.id)
        return tuple(done)

    def finished(self, trigger: str, now: datetime, **detail: Any) -> None:
        """Journal that the run has ended, with what it made (`version`) or why it did not (`error`)."""
        self._note(trigger, "finished", now, detail)

    def resolved(self, trigger: str, now: datetime, *, helped: bool, reason: str, **detail: Any) -> None:
        """Journal what came of a retraining in the end: whether its candidate took over, and why."""
        self._note(trigger, "resolved", now, {"helped": helped, "reason": reason, **detail})

    def history(self) -> tuple[PastTrigger, ...]:
        """Accepted triggers of the workload, oldest first."""
        return history(self._path, self._workload)

    def _hand_over(self, trigger: str, signal: Signal, now: datetime) -> bool:
        with _exclusive(self._path.with_name(f".{trigger}.lock"), wait=False) as free:
            # somebody else is submitting it, or has between our look at the journal and the lock
            if not free or any(p.id == trigger and p.submitted for p in self.history()):
                return False
            reference = self._submit(trigger, signal)
            self._note(trigger, "submitted", now, {"run": reference})
        return True

    def _signal(self, trigger: str) -> Signal:
        record = next(
            r
            for r in read(self._path)
            if r["event"] == "accepted" and r["id"] == trigger and r["workload"] == self._workload
        )
        return Signal(
            record["kind"], record["cause"], datetime.fromisoformat(record["signal_at"]), record["detail"]
        )

    def _note(self, trigger: str, event: str, now: datetime, detail: Mapping[str, Any]) -> None:
        with self._locked() as journal:
            journal.append(
                {"event": event, "workload": self._workload, "id": trigger, "at": now.isoformat(), **detail}
            )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[Journal]:
        # Opened anew under the lock: opening cuts a torn tail, and that must not be another process's line.
        with _exclusive(self._path.with_suffix(".lock"), wait=True):
            journal = Journal(self._path)
            try:
                yield journal
            finally:
                journal.close()


def history(journal: Path, workload: str) -> tuple[PastTrigger, ...]:
    """Read the accepted triggers of a workload from the journal, oldest first."""
    triggers: dict[str, PastTrigger] = {}
    for record in read(journal):
        if record["workload"] != workload:
            continue
        event, name = record["event"], record["id"]
        if event == "accepted":
            at, signal_at = (datetime.fromisoformat(record[k]) for k in ("at", "signal_at"))
            triggers[name] = PastTrigger(name, record["kind"], record["cause"], at, signal_at)
        elif name not in triggers:
            continue
        elif event == "submitted":
            triggers[name] = replace(triggers[name], submitted=True)
        elif event == "finished":
            triggers[name] = replace(triggers[name], finished=True)
        elif event == "resolved":
            triggers[name] = replace(triggers[name], finished=True, helped=record["helped"])
    return tuple(triggers.values())


@contextlib.contextmanager
def _exclusive(lock: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock that the kernel releases however its holder dies; yield whether it was got."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
