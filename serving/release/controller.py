"""Carrying decisions out: decide, journal, act, confirm.

A decision is in the journal before anything is done about it, and every act is idempotent: whoever crashed in
between finds the unconfirmed decision and carries it out again, so the outcome is that of a run without a crash.
While an act does not succeed, or is not confirmed yet, guardrails stay on watch: a rollback may overtake it, an advance
may not. The rules themselves are in `engine.py`; what stands in a journal is in `history.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from serving.release import admission, engine, spec, state, traffic
from serving.release.backend import RejectedError, TrafficBackend, UnconfirmedError
from serving.release.decision import Command, Decision
from serving.release.evidence import Evidence
from serving.release.journal import history
from serving.release.journal.history import History
from serving.release.journal.mailbox import Order
from serving.release.journal.store import Entry, Record, Store
from serving.release.release import Release
from serving.release.state import ReleaseState
from serving.release.traffic import Traffic
from windlass.clock import Clock
from windlass.errors import UsageError, WindlassError


class Orders(Protocol):
    """Where people's commands arrive."""

    def waiting(self) -> list[tuple[Any, Order]]:
        """Commands that nobody has carried out yet, oldest first, each with its token."""
        ...

    def done(self, token: Any) -> None: ...


#: Of a step that has lasted for long, records of looks that only held: so many in its time.
RECORDS_PER_AGE = 1000


class Conflict(UsageError):  # noqa: N818 - what happened, not a kind of error
    """A release of the model is live, and the new one does not want to queue."""


Listener = Callable[[str, Decision], None]
"""Told of every decision once it is in the journal: the release's name and the decision."""


class ReleaseController:
    """Releases of any number of models, at most one live for each.

    Args:
        set_champion: moves the champion alias of a model to a version; may be repeated.
        commands: where people's commands arrive; None for a controller that takes none.

    What an earlier controller decided and did not confirm is carried out by `recover`, or at the next look.
    """

    def __init__(
        self,
        store: Store,
        backend: TrafficBackend,
        clock: Clock,
        *,
        set_champion: Callable[[str, str], None],
        commands: Orders | None = None,
        listener: Listener | None = None,
    ) -> None:
        self._store = store
        self._backend = backend
        self._clock = clock
        self._set_champion = set_champion
        self._commands = commands
        self._listener = listener
        self._histories: dict[str, History] = {}
        #: What the wire showed of routes that are repaired, and not known to be; None where an earlier process saw it.
        self._repairing: dict[str, Traffic | None] = {}
        for model in store.models():
            found = _newest(store, model)
            if found is not None:
                self._histories[model] = found
                if found.repaired:
                    self._repairing[model] = None

    def recover(self) -> None:
        """Carry out what was decided and not confirmed, for every model; call once servers and proxy are up."""
        for model in self._histories:
            self._finish_pending(model)

    # --- what a platform calls

    def start(self, release: Release, champion: str | None = None) -> Decision:
        """Begin a release; the champion is the document's, else `champion`.

        The same live release again is no error: it goes on. A conflicting one is refused or queued as its
        `onConflict` says; a queued one holds until `next_queued` gives it back.

        Raises:
            Conflict: another release of the model is live, and this one is not to queue.
            UsageError: the name is taken by a finished release, or no champion is known.
            UnconfirmedError: see `observe`; it has begun.
        """
        current = self._histories.get(release.model)
        if current is not None and current.state.live and current.release != release:
            # who is the champion when its turn comes is not known yet
            return self._conflict(release, current)
        pending = None if current is None else current.unconfirmed
        if pending is not None and pending["champion"] is not None:
            champion = pending["champion"]  # the alias moves there before anything else begins
        if release.champion is not None and champion not in (None, release.champion):
            raise UsageError(
                f"release {release.name!r}: spec.champion = {release.champion!r}, and version {champion} is in force; "
                "state that one, or leave it out"
            )
        champion = release.champion or champion
        if champion is None:
            raise UsageError(
                f"release {release.name!r}: model {release.model!r} has no champion to compare with; "
                "promote a first version, or state spec.champion"
            )
        if champion in release.candidates:
            raise UsageError(
                f"release {release.name!r}: version {champion} of {release.model!r} is the champion"
            )
        if current is not None and current.state.live:
            if current.seq == 0:
                return self._advance(release.model, Evidence(self._clock.now()))
            self._finish_pending(release.model)
            return Decision("hold", "this release is live already", self._clock.now(), current.state)
        # what the last release decided must be in force before the next one builds on it
        self._finish_pending(release.model)
        entry = self._new_entry(release)
        self._store.append(entry, history.release_record(release, champion, self._clock.now()))
        self._histories[release.model] = History(entry, state.initial(release, champion))
        self._store.dequeue(release.model, release.name)
        return self._advance(release.model, Evidence(self._clock.now()))

    def observe(self, model: str, evidence: Evidence) -> Decision:
        """Look at the evidence and do what follows from it.

        Raises:
            UsageError: the model has no release.
            UnconfirmedError: the router has been told what was decided, and has not said yet whether it does that;
                the next call asks it.
            WindlassError: the router, the registry or the journal failed; what was decided is in the journal and
                tried again at the next call.
        """
        ordered = self.obey_commands()
        if model in ordered and not self.live(model):
            return ordered[model]
        try:
            confirmed = self._finish_pending(model)
        except RejectedError as error:
            return self._refused(model, evidence, error)
        except UnconfirmedError:
            overtaken = self._overtake(model, evidence)
            if overtaken is None:
                raise
            return overtaken
        except WindlassError:
            self._overtake(model, evidence)
            raise
        try:
            if not confirmed:  # else it has been read back a moment ago
                self._repair(model)
        except WindlassError:
            # a router that does not take the decided traffic may take less of it
            overtaken = self._overtake(model, evidence)
            if overtaken is None:
                raise
            return overtaken
        return self._advance(model, evidence)

    def settle(self, model: str) -> None:
        """Carry out what was decided and is not confirmed; nothing where all is in force.

        Raises:
            UnconfirmedError, WindlassError: see `observe`.
        """
        self._finish_pending(model)

    def give_up(self, model: str, *, by: str) -> bool:
        """Try no more to have in force what the newest release ended with; whether there was anything.

        What was decided stays in the journal, with who gave it up. Of a live release nothing is given up.
        """
        current = self._history(model)
        if current.state.live or current.unconfirmed is None:
            return False
        record = {"kind": "confirmed", "seq": current.unconfirmed["seq"], "givenUpBy": by}
        self._store.append(current.entry, record)
        self._histories[model] = replace(current, unconfirmed=None, failures=0, noted=False, given_up_by=by)
        return True

    def given_up_by(self, model: str) -> str | None:
        """Who gave up what the newest release ended with; None where nobody did, and nothing was decided since."""
        found = self._histories.get(model)
        return None if found is None else found.given_up_by

    def command(
        self, model: str, command: Command, *, by: str = "a person", to: str | None = None
    ) -> Decision:
        """Carry out a person's command on the model's newest release.

        Raises:
            UnconfirmedError, WindlassError: see `observe`; the command is decided.
        """
        current = self._history(model)
        decision = engine.obey(current.state, command, self._clock.now(), by=by, to=to)
        if decision.state != current.state:
            self._carry_out(model, decision, {"command": command, "by": by, "to": to})
        return decision

    def obey_commands(self) -> dict[str, Decision]:
        """Carry out what waits in the mailbox; the last decision by model."""
        decisions: dict[str, Decision] = {}
        if self._commands is None:
            return decisions
        for token, order in self._commands.waiting():
            newest = self._histories.get(order.model)
            if newest is not None and order.release not in (None, newest.release.name):
                pass  # what it was meant for is over, and what runs now it was not meant for
            elif newest is not None:
                decisions[order.model] = self.command(order.model, order.command, by=order.by, to=order.to)
            elif order.command == "rollback" and order.to is not None:
                # a model that was never released, only started: the traffic has been moved, the alias has not
                self._set_champion(order.model, order.to)
            # only now: a crash before this line does it once more, which changes nothing
            self._commands.done(token)
        return decisions

    def live(self, model: str) -> ReleaseState | None:
        """The state of the model's live release."""
        found = self._histories.get(model)
        return found.state if found is not None and found.state.live else None

    def newest(self, model: str) -> ReleaseState | None:
        """The state of the model's newest release, live or over."""
        found = self._histories.get(model)
        return None if found is None else found.state

    def next_queued(self, model: str) -> Release | None:
        """The release that waits longest for the live one to end; `start` takes it out of the queue."""
        if self.live(model) is not None:
            return None
        for name, document in self._store.queued(model):
            if not self._begun(model, name):
                return spec.parse(document)
            # a crash came between its first record and here, or its document arrived again once it was over
            self._store.dequeue(model, name)
        return None

    def drop_queued(self, release: Release) -> None:
        """Take a release out of the queue that can never start."""
        self._store.dequeue(release.model, release.name)

    def close(self) -> None:
        self._store.close()

    # --- decide, journal, act, confirm

    def _advance(self, model: str, evidence: Evidence) -> Decision:
        current = self._history(model)
        decision = engine.next_step(current.state, evidence, self._clock.now())
        # a look that saw nothing new leaves no trace, so that the same evidence twice is the same as once
        if decision.alert is not None or (decision.state != current.state and self._tells(current, decision)):
            self._carry_out(model, decision)
        return decision

    def _tells(self, current: History, decision: Decision) -> bool:
        """Whether a decision is worth its record.

        Guardrails look every second for as long as a release lives, and an old step's look adds little: one that only
        holds is forgotten where the last record is young beside the step. Evidence is cumulative, so the next look
        sees all of it.
        """
        began = decision.state.step_started_at
        if decision.action != "hold" or current.last is None or began is None:
            return True
        last = datetime.fromisoformat(current.last["at"])
        return decision.at - last >= (decision.at - began) / RECORDS_PER_AGE

    def _refused(self, model: str, evidence: Evidence, error: RejectedError) -> Decision:
        """The router does not take what was decided: watch the guardrails, and give up after a few tries."""
        if not self.live(model):
            raise error
        decision = self._overtake(model, evidence)
        if decision is not None:
            return decision
        current = self._history(model)
        decision = engine.refused(current.state, str(error), current.failures, self._clock.now())
        if decision.state != current.state:
            self._carry_out(model, decision, {"refused": str(error), "failures": current.failures})
        return decision

    def _overtake(self, model: str, evidence: Evidence) -> Decision | None:
        """Decide by the evidence although an act is pending, as far as that takes something back."""
        current = self._histories.get(model)
        if current is None or not current.state.live:
            return None
        decision = engine.next_step(current.state, evidence, self._clock.now())
        if decision.action not in ("roll_back", "drop"):
            return None
        self._carry_out(model, decision)
        return decision

    def _carry_out(self, model: str, decision: Decision, cause: Mapping[str, Any] | None = None) -> None:
        current = self._history(model)
        record = history.decision_record(decision, current.seq + 1, current.pairs, cause)
        self._store.append(current.entry, record)
        paired = {} if decision.evidence is None else decision.evidence.paired
        after = replace(
            current,
            state=decision.state,
            seq=record["seq"],
            last=record,
            pairs={**current.pairs, **paired},
        )
        if decision.acts:
            after = replace(after, unconfirmed=record, failures=0, noted=False, given_up_by=None)
        self._histories[model] = after
        if self._listener is not None:
            self._listener(current.release.name, decision)
        if decision.acts:
            self._finish_pending(model)

    def _finish_pending(self, model: str) -> bool:
        """Carry out what is not confirmed; whether there was anything, which is in force now."""
        current = self._histories.get(model)
        if current is None or current.unconfirmed is None:
            return False
        record = current.unconfirmed
        try:
            # users first: an alias that waits harms nobody
            self._tell(model, _traffic(record))
            if record["champion"] is not None:
                self._set_champion(model, record["champion"])
        except UnconfirmedError:
            raise
        except WindlassError as error:
            self._note_failure(model, record, error)
            raise
        self._store.append(current.entry, {"kind": "confirmed", "seq": record["seq"]})
        self._histories[model] = replace(current, unconfirmed=None, failures=0, noted=False)
        return True

    def _tell(self, model: str, wanted: Traffic) -> None:
        try:
            self._backend.set_traffic(model, wanted)
        except UsageError as error:
            # a router that says it can never be meant has refused it
            raise RejectedError(str(error)) from error

    def _note_failure(self, model: str, record: Record, error: WindlassError) -> None:
        current, refused = self._histories[model], isinstance(error, RejectedError)
        if current.noted and not refused:
            return  # an API that is down is noted once, not at every look
        note = {
            "kind": "failed",
            "seq": record["seq"],
            "at": self._clock.now().isoformat(),
            "refused": refused,
            "reason": str(error),
        }
        self._store.append(current.entry, note)
        self._histories[model] = replace(current, failures=current.failures + refused, noted=True)

    def _repair(self, model: str) -> None:
        """Set the decided traffic again where the wire shows other."""
        current = self._history(model)
        if not current.state.live or current.state.phase == "Pending":
            return
        shown = self._shown(model)
        if shown is None:
            return
        if shown == admission.canonical(current.state.traffic):
            if model in self._repairing:  # and not confirmed yet
                self._tell(model, current.state.traffic)
                del self._repairing[model]
            return
        # a person's rollback writes its order first and then moves the weights: if we see the weights, we see it
        if self.obey_commands().get(model) is not None:
            return
        record = {
            "kind": "repaired",
            "at": self._clock.now().isoformat(),
            "found": traffic.to_json(shown),
            "weights": dict(current.state.weights),
        }
        if self._repairing.get(model) != shown:  # one that does not succeed is written down once
            self._store.append(current.entry, record)
            self._repairing[model] = shown
            self._histories[model] = replace(current, state=state.recounted(current.state))
        self._tell(model, current.state.traffic)
        self._repairing.pop(model, None)

    def _shown(self, model: str) -> Traffic | None:
        try:
            return self._backend.traffic(model) or Traffic({})
        except WindlassError:
            return None  # nobody can be asked; the next act will say so

    # --- helpers

    def _conflict(self, release: Release, current: History) -> Decision:
        if release.on_conflict == "refuse":
            raise Conflict(
                f"release {release.name!r} of {release.model!r} is refused: release {current.release.name!r} is live "
                f"({current.state.phase}); wait for it, abort it, or set spec.onConflict: queue"
            )
        self._store.enqueue(release.model, release.name, spec.document(release), self._clock.now())
        return Decision(
            "hold", f"queued behind release {current.release.name!r}", self._clock.now(), current.state
        )

    def _new_entry(self, release: Release) -> Entry:
        entries = self._store.entries(release.model)
        for entry in entries:
            if entry.name != release.name:
                continue
            if history.of_records(entry, self._store.records(entry)) is not None:
                raise UsageError(
                    f"release {entry.name!r} of {release.model!r} is over; give the new one another name"
                )
            return entry  # a crash came before its first line
        return Entry(release.model, entries[-1].number + 1 if entries else 1, release.name)

    def _begun(self, model: str, name: str) -> bool:
        return any(
            entry.name == name and history.of_records(entry, self._store.records(entry)) is not None
            for entry in self._store.entries(model)
        )

    def _history(self, model: str) -> History:
        if model not in self._histories:
            raise UsageError(
                f"model {model!r} has no release; start one with `windlass release apply -f FILE`"
            )
        return self._histories[model]


def _newest(store: Store, model: str) -> History | None:
    for entry in reversed(store.entries(model)):
        found = history.of_records(entry, store.records(entry))
        if found is not None:
            return found
    return None


def _traffic(record: Record) -> Traffic:
    told = record.get("traffic")
    return traffic.from_json(told) if told is not None else Traffic(record["weights"], record["mirror_to"])
