"""What the journal of signals says of one workload: a fold of its records, one after the other.

Records, by `event` (each has `workload`, `id` of the trigger or null, and `at`, the wall clock's time):

* `accepted`, `refused`: a signal with the decision; a refused one with `held` is decided again later;
* `submitted`: the run was handed over, `run` refers to it;
* `finished`: the run has ended, with `version`; its release decides;
* `resolved`: what came of it in the end: `helped`, `reason`; also of a run that decided it by itself;
* `cleared`: the alert of `kind` about `champion` that began at `since` has ended (`ended`);
* `clock`: where the clocks stand (`boot`, `steady`), and by how many seconds the wall clock was set `ahead`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from monitoring.retrain.clock import Reading
from monitoring.retrain.decision import rows_of
from monitoring.retrain.signals import PastTrigger, Signal, base

FINGERPRINT = "fingerprint"
"""Key of a signal's detail that tells alerts of one incident apart."""
TRAINED_ON = ("duplicate", "stale")
"""Rules that say of new data that a run has answered it: its rows are not new once more."""


@dataclass
class History:
    """What the journal said up to some record.

    Attributes:
        triggers: accepted signals by id, oldest first.
        signals: the signals of the open ones among them.
        held: signals that wait for what holds them back to pass, by cause; of new data the newest alone.
        ended: when the alert about an incident last ended, by (incident, fingerprint).
        broken: data-quality incidents that burn, by (incident, fingerprint).
        rows: rows of new partitions since the newest trigger, by cause; None where one did not say.
        first, newest: times of the oldest and the newest record.
        reading: where the clocks stood when they were last written down.
        seconds: what finished runs took, in all.
        jumps: how often the wall clock was set.
        counts: signals by (kind, rule).
        succeeded_at: when a run last ended with a version.
        decision: the newest one about a signal, as it is shown.
    """

    triggers: dict[str, PastTrigger] = field(default_factory=dict)
    signals: dict[str, Signal] = field(default_factory=dict)
    held: dict[str, Signal] = field(default_factory=dict)
    ended: dict[tuple[str, str], datetime] = field(default_factory=dict)
    broken: dict[tuple[str, str], Signal] = field(default_factory=dict)
    rows: dict[str, float | None] = field(default_factory=dict)
    first: datetime | None = None
    newest: datetime | None = None
    reading: Reading | None = None
    seconds: float = 0.0
    jumps: int = 0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    succeeded_at: datetime | None = None
    decision: Mapping[str, Any] | None = None

    @property
    def past(self) -> tuple[PastTrigger, ...]:
        """Accepted triggers, oldest first."""
        return tuple(self.triggers.values())

    def new_rows(self, signal: Signal) -> float | None:
        """Rows of the partitions since the newest trigger, those of `signal` included; None where one did not say."""
        rows = {**self.rows, signal.cause: rows_of(signal.detail, "new_rows")}
        known = [n for n in rows.values() if n is not None]
        return sum(known) if len(known) == len(rows) else None

    def take(self, record: Mapping[str, Any]) -> None:
        """Go on by one record of this workload."""
        event, at = record["event"], datetime.fromisoformat(record["at"])
        self.first = at if self.first is None else self.first
        self.newest = at if self.newest is None else max(self.newest, at)
        if event in ("accepted", "refused"):
            self._decided(event == "accepted", record, at)
        elif event == "cleared":
            self._cleared(record)
        elif event == "clock":
            self._clock(record, at)
        elif record["id"] in self.triggers:
            self._followed(event, record, at)

    def _decided(self, accepted: bool, record: Mapping[str, Any], at: datetime) -> None:
        signal = signal_of(record)
        cause, key = signal.cause, key_of(signal)
        self.counts[signal.kind, record["rule"]] += 1
        shown = {"rule": record["rule"], "reason": record["reason"], "at": record["at"]}
        self.decision = {"accepted": accepted, **shown}
        if signal.kind == "newData" and record["rule"] not in TRAINED_ON:
            self.rows[cause] = rows_of(signal.detail, "new_rows")
        if accepted:
            name, in_force = record["id"], record.get("in_force")
            self.triggers[name] = PastTrigger(name, signal.kind, cause, at, signal.at, champion=in_force)
            self.signals[record["id"]] = signal
            self.held.pop(cause, None)
            self.rows.clear()
            return
        if signal.kind == "dataQuality" and not self.is_over(signal):
            self.broken[key] = signal
        before = self.held.get(cause)
        if record.get("held"):
            # what was measured later says more, in whatever order it came
            if before is None or signal.at >= before.at:
                self.held[cause] = signal
            if signal.kind == "newData":
                self._keep_newest_data()
        elif before is not None and signal.at >= before.at:
            del self.held[cause]

    def _keep_newest_data(self) -> None:
        """The newest data holds what came before it: were each decided, every run would be of the oldest that waits."""
        waiting = [s for s in self.held.values() if s.kind == "newData"]
        newest = max(waiting, key=lambda s: s.at)
        for signal in waiting:
            if signal is not newest:
                del self.held[signal.cause]

    def _cleared(self, record: Mapping[str, Any]) -> None:
        name, ended = f"{record['kind']}/{record['champion']}", datetime.fromisoformat(record["ended"])
        key = (name, record.get(FINGERPRINT, ""))
        self.ended[key] = max(ended, self.ended.get(key, ended))
        # what began while a clock was ahead ends before it began
        last = max(ended, datetime.fromisoformat(record["since"]))
        if key in self.broken and self.broken[key].at <= last:
            del self.broken[key]
        for cause, signal in list(self.held.items()):
            if key_of(signal) == key and signal.at <= last:
                del self.held[cause]

    def _clock(self, record: Mapping[str, Any], at: datetime) -> None:
        self.reading = Reading(at, record["boot"], record["steady"])
        ahead = timedelta(seconds=record["ahead"])
        if not ahead:
            return
        self.jumps += 1
        if ahead < timedelta(0):
            # what was written while the clock was ahead was not of the future, unless a run was started then
            self.newest = max([at, *(past.at for past in self.triggers.values())])
            self.ended = {key: min(ended, at) for key, ended in self.ended.items()}
        for name, past in self.triggers.items():
            # a clock that had been behind the trigger made up for that first; the rest is time that did not pass
            more = min(ahead, max(at - past.at, timedelta(0))) if ahead > timedelta(0) else ahead
            self.triggers[name] = replace(past, lead=max(timedelta(0), past.lead + more))

    def _followed(self, event: str, record: Mapping[str, Any], at: datetime) -> None:
        name = record["id"]
        past = self.triggers[name]
        version = record.get("version") or past.version
        if event == "submitted":
            past = replace(past, submitted=True)
        elif event in ("finished", "resolved"):
            self.seconds += float(record.get("seconds") or 0.0)
            if record.get("version") and not past.finished:
                self.succeeded_at = at
            helped = record["helped"] if event == "resolved" else past.helped
            past = replace(past, finished=True, helped=helped, version=version)
        self.triggers[name] = past
        if past.helped is not None:
            self.signals.pop(name, None)

    def ended_at(self, signal: Signal) -> datetime | None:
        """When the alert that a signal tells of last ended."""
        return self.ended.get(key_of(signal))

    def is_over(self, signal: Signal) -> bool:
        """Whether what a signal tells of has ended since."""
        ended = self.ended_at(signal)
        return ended is not None and signal.at <= ended


def key_of(signal: Signal) -> tuple[str, str]:
    """Incident and alert of a signal."""
    return base(signal.cause), str(signal.detail.get(FINGERPRINT, ""))


def signal_of(record: Mapping[str, Any]) -> Signal:
    """The signal of an `accepted` or `refused` record."""
    return Signal(
        record["kind"],
        record["cause"],
        datetime.fromisoformat(record["signal_at"]),
        record["detail"],
        bool(record.get("override", False)),
        record.get("champion"),
    )
