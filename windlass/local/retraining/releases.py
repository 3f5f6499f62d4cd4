"""Where the releases of retrained candidates are judged, as the trigger of one workload asks of it.

On this machine they lie in the home's journals, and a new one goes into its letter box. On a cluster they are custom
resources: `cluster_releases.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from monitoring.retrain.following import Outcome
from serving.release import rollback, spec
from serving.release.journal import history, mailbox, refusals
from serving.release.people import operations
from serving.release.people.running import Platform
from windlass.clock import SystemClock
from windlass.local import state
from windlass.settings import Settings


class Releases(Protocol):
    """The releases of one model.

    Raises:
        WindlassError: of every method: it cannot be known, or done, now.
    """

    def live(self) -> bool:
        """Whether one is being judged, or waits to be."""

    def withdrawn(self) -> set[str]:
        """Versions that were taken off traffic and not promoted since."""

    def hand_over(self, document: dict[str, Any], trigger: str | None) -> dict[str, Any] | str | None:
        """Begin a release, or find it.

        Args:
            document: of a Release.
            trigger: id of the retraining that it is of; None where no trigger made the candidate.

        Returns:
            What was done, None where it was there already; a text where it can never be: why.
        """

    def outcome(self, version: str) -> tuple[bool, Outcome | None]:
        """Whether there is one of a version, and what came of the newest; None while that is open."""


class LocalReleases:
    """Those of a home."""

    def __init__(self, settings: Settings, model: str) -> None:
        self._settings = settings
        self._model = model

    def live(self) -> bool:
        newest = history.newest(self._journals, self._model)
        if newest is not None and newest.state.live:
            return True
        letters = mailbox.submissions(mailbox.inbox(self._settings))
        return any(letter.model == self._model for _, letter in letters)

    def withdrawn(self) -> set[str]:
        return rollback.withdrawn(self._settings, self._model)

    def hand_over(self, document: dict[str, Any], trigger: str | None) -> dict[str, Any] | str | None:
        wanted = spec.parse(document)
        if any(name == wanted.name for _, name, _ in history.files(self._journals, wanted.model)):
            return None  # it was handed over, and begun
        described = state.running(self._settings)
        running = Platform(described is not None, tuple((described or {}).get("models", ())))
        return operations.apply(self._settings, wanted, SystemClock(), running)

    def outcome(self, version: str) -> tuple[bool, Outcome | None]:
        for _, _, file in reversed(history.files(self._journals, self._model)):
            found = history.read(file)
            if found is None or version not in found.release.candidates:
                continue
            if found.state.live:
                return True, None
            reason = (found.last or {}).get("reason")
            why = f": {reason}" if reason else ""
            # of several candidates it is the one that has the traffic
            won = len(found.release.candidates) == 1 or found.state.weights.get(version, 0) > 0
            helped = found.state.phase == "Promoted" and won
            return True, Outcome(helped, f"release {found.release.name}: {found.state.phase}{why}")
        waiting = f"{self._model.replace('_', '-')}-{version}"
        for refusal in refusals.find(self._settings, self._model, waiting):
            return True, Outcome(False, f"release {waiting} was refused: {refusal.reason}")
        return False, None

    @property
    def _journals(self) -> Path:
        return self._settings.journal_dir / "releases"
