"""Carrying decisions out: decide, journal, act, confirm.

A decision is in the journal before anything is done about it, and every act is idempotent: whoever crashed in
between finds the unconfirmed decision and carries it out again, so the outcome is that of a run without a crash.
The rules themselves are in `engine.py`; what stands in a journal is in `history.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from serving.release import engine, history, mailbox, spec, state
from serving.release.engine import Command, Decision
from serving.release.evidence import Evidence
from serving.release.history import History
from serving.release.mailbox import Mailbox
from serving.release.release import Release
from serving.release.state import ReleaseState
from windlass import atomic
from windlass.clock import Clock
from windlass.errors import UsageError, WindlassError
from windlass.journal import Journal


class TrafficBackend(Protocol):
    """Whoever splits the traffic; `set_weights` returns once the split is in force and may be repeated."""

    def set_weights(self, model: str, weights: Mapping[str, int], mirror_to: str | None = None) -> None: ...

    def weights(self, model: str) -> Mapping[str, int]: ...


class Conflict(UsageError):  # noqa: N818 - what happened, not a kind of error
    """A release of the model is live, and the new one does not want to queue."""


class ReleaseController:
    """Releases of any number of models, at most one live for each.

    Args:
        directory: where the journals lie, `settings.journal_dir / "releases"`.
        set_champion: moves the champion alias of a model to a version; may be repeated.
        commands: where people's commands arrive; None for a controller that takes none.

    What an earlier controller decided and did not confirm is carried out at once.
    """

    def __init__(
        self,
        directory: Path,
        backend: TrafficBackend,
        clock: Clock,
        *,
        set_champion: Callable[[str, str], None],
        commands: Mailbox | None = None,
    ) -> None:
        self.directory = directory
        self._backend = backend
        self._clock = clock
        self._set_champion = set_champion
        self._commands = commands
        self._histories: dict[str, History] = {}
        self._journals: dict[Path, Journal] = {}
        for model in history.models(directory):
            found = history.newest(directory, model)
            if found is not None:
                self._histories[model] = found

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
            Conflict: another release of the model is live.
            UsageError: the name is taken by a finished release, or no champion is known.
        """
        champion = release.champion or champion
        if champion is None:
            raise UsageError(
                f"release {release.name!r}: model {release.model!r} has no champion to compare with; "
                "promote a first version, or state spec.champion"
            )
        if champion == release.candidate:
            raise UsageError(
                f"release {release.name!r}: version {champion} of {release.model!r} is the champion"
            )
        current = self._histories.get(release.model)
        if current is not None and current.state.live:
            if current.release == release:
                if current.seq == 0:
                    return self._advance(release.model, Evidence(self._clock.now()))
                self._finish_pending(release.model)
                return Decision("hold", "this release is live already", self._clock.now(), current.state)
            return self._conflict(release, current)
        path = self._new_file(release)
        self._journal(path).append(history.release_record(release, champion, self._clock.now()))
        self._histories[release.model] = History(path, state.initial(release, champion), 0, None, None)
        self._queue_file(release).unlink(missing_ok=True)
        return self._advance(release.model, Evidence(self._clock.now()))

    def observe(self, model: str, evidence: Evidence) -> Decision:
        """Look at the evidence and do what follows from it.

        Raises:
            UsageError: the model has no release.
            WindlassError: the act failed; it is in the journal and tried again at the next call.
        """
        ordered = self.obey_commands()
        if model in ordered and not self.live(model):
            return ordered[model]
        self._finish_pending(model)
        self._repair(model)
        return self._advance(model, evidence)

    def command(
        self, model: str, command: Command, *, by: str = "a person", to: str | None = None
    ) -> Decision:
        """Carry out a person's command on the model's newest release."""
        current = self._history(model)
        self._finish_pending(model)
        decision = engine.obey(current.state, command, self._clock.now(), by=by, to=to)
        if decision.state != current.state:
            self._carry_out(model, decision)
        return decision

    def obey_commands(self) -> dict[str, Decision]:
        """Carry out what waits in the mailbox; the last decision by model."""
        decisions: dict[str, Decision] = {}
        if self._commands is None:
            return decisions
        for path, order in mailbox.orders(self._commands):
            if order.model in self._histories:
                decisions[order.model] = self.command(order.model, order.command, by=order.by, to=order.to)
            elif order.command == "rollback" and order.to is not None:
                # a model that was never released, only started: the traffic has been moved, the alias has not
                self._set_champion(order.model, order.to)
            # only now: a crash before this line does it once more, which changes nothing
            path.unlink(missing_ok=True)
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
        for path in sorted((self.directory / model / "queue").glob("[!.]*.json")):
            return spec.parse(json.loads(path.read_bytes()))
        return None

    def close(self) -> None:
        for opened in self._journals.values():
            opened.close()
        self._journals.clear()

    # --- decide, journal, act, confirm

    def _advance(self, model: str, evidence: Evidence) -> Decision:
        current = self._history(model)
        decision = engine.next_step(current.state, evidence, self._clock.now())
        # a look that saw nothing new leaves no trace, so that the same evidence twice is the same as once
        if decision.state != current.state or decision.alert is not None:
            self._carry_out(model, decision)
        return decision

    def _carry_out(self, model: str, decision: Decision) -> None:
        current = self._history(model)
        record = history.decision_record(decision, current.seq + 1)
        self._journal(current.path).append(record)
        pending = record if record["acts"] else current.unconfirmed
        self._histories[model] = replace(
            current, state=decision.state, seq=record["seq"], unconfirmed=pending, last=record
        )
        self._finish_pending(model)

    def _finish_pending(self, model: str) -> None:
        current = self._histories.get(model)
        if current is None or current.unconfirmed is None:
            return
        record = current.unconfirmed
        # users first: an alias that waits harms nobody
        self._backend.set_weights(model, record["weights"], record["mirror_to"])
        if record["champion"] is not None:
            self._set_champion(model, record["champion"])
        self._journal(current.path).append({"kind": "confirmed", "seq": record["seq"]})
        self._histories[model] = replace(self._histories[model], unconfirmed=None)

    def _repair(self, model: str) -> None:
        """Set the decided weights again where the wire shows others."""
        current = self._history(model)
        if not current.state.live or current.state.phase == "Pending":
            return
        try:
            shown = dict(self._backend.weights(model))
        except WindlassError:
            return  # nobody can be asked; the next act will say so
        if shown == dict(current.state.weights):
            return
        # a person's rollback writes its order first and then moves the weights: if we see the weights, we see it
        if self.obey_commands().get(model) is not None:
            return
        record = {
            "kind": "repaired",
            "at": self._clock.now().isoformat(),
            "found": shown,
            "weights": dict(current.state.weights),
        }
        self._journal(current.path).append(record)
        self._backend.set_weights(model, current.state.weights, current.state.mirror_to)

    # --- helpers

    def _conflict(self, release: Release, current: History) -> Decision:
        if release.on_conflict == "refuse":
            raise Conflict(
                f"release {release.name!r} of {release.model!r} is refused: release {current.release.name!r} is live "
                f"({current.state.phase}); wait for it, abort it, or set spec.onConflict: queue"
            )
        path = self._queue_file(release)
        if not path.exists():
            atomic.write_text(path, json.dumps(spec.document(release)))
        return Decision(
            "hold", f"queued behind release {current.release.name!r}", self._clock.now(), current.state
        )

    def _new_file(self, release: Release) -> Path:
        files = history.files(self.directory, release.model)
        for _, name, path in files:
            if name != release.name:
                continue
            if history.read(path) is not None:
                raise UsageError(
                    f"release {name!r} of {release.model!r} is over; give the new one another name"
                )
            return path  # a crash came before its first line
        number = files[-1][0] + 1 if files else 1
        return self.directory / release.model / f"{number:04d}-{release.name}.jsonl"

    def _queue_file(self, release: Release) -> Path:
        folder = self.directory / release.model / "queue"
        for path in sorted(folder.glob(f"*-{release.name}.json")):
            return path
        return folder / f"{self._clock.now():%Y%m%dT%H%M%S.%f}-{release.name}.json"

    def _history(self, model: str) -> History:
        if model not in self._histories:
            raise UsageError(
                f"model {model!r} has no release; start one with `windlass release apply -f FILE`"
            )
        return self._histories[model]

    def _journal(self, path: Path) -> Journal:
        if path not in self._journals:
            self._journals[path] = Journal(path)
        return self._journals[path]
