"""Following a retraining from its run to what came of it: run -> model version -> gates -> release -> outcome.

Each step is found again after a crash, so that each may be done twice: a run is asked for by its name, a release that
was handed over is not handed over again, and the journal keeps the first word about each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from monitoring.retrain.journal import Trigger
from monitoring.retrain.signals import PastTrigger, Signal
from windlass.errors import WindlassError

RELEASE = "release"
"""Key of a signal's detail: false where a person does not want the candidate handed to a release."""


@dataclass(frozen=True)
class Ended:
    """A run that has ended.

    Attributes:
        result: what the pipeline says of its candidate (`version`, `passed`, `gates`, `champion`, `release`); None
            where it failed.
        error: why it failed, None where it did not.
        seconds: how long it took.
    """

    result: Mapping[str, Any] | None
    error: str | None
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What came of a candidate: whether it took over, and why."""

    helped: bool
    reason: str


class Platform(Protocol):
    """What the trigger of one workload needs of everything around it."""

    def submit(self, trigger: str, signal: Signal) -> str | None:
        """Start the run of that name, or find it; idempotent. Returns a reference to it."""

    def run(self, trigger: str) -> Ended | None:
        """The run of that name, None while it goes on.

        Raises:
            WindlassError: it cannot be asked now.
        """

    def champion(self) -> str | None:
        """The version in force, None where there is none."""

    def live_release(self) -> bool:
        """Whether a release of the model is being judged, or waits to be."""

    def data_refused(self) -> bool:
        """Whether the newest training data fails validation."""

    def release(self, result: Mapping[str, Any]) -> str | None:
        """Hand the release of a candidate over, or find it; why it is withheld, None where it is not.

        Raises:
            WindlassError: it cannot be handed over now.
        """

    def outcome(self, version: str) -> Outcome | None:
        """What came of the release of a version, None while that is open."""


def follow(trigger: Trigger, platform: Platform, now: datetime) -> tuple[str, ...]:
    """Go on with every open trigger as far as it can be known; return what happened, as sentences.

    Raises:
        WindlassError: something could not be asked or handed over; the others went on.
    """
    said: list[str] = []
    failed: WindlassError | None = None
    for past in trigger.history():
        try:
            if not past.finished and past.submitted:
                ended = platform.run(past.id)
                if ended is not None:
                    said.append(f"{past.id}: {_close(trigger, platform, past, ended, now)}")
            elif past.finished and past.helped is None and past.version is not None:
                outcome = platform.outcome(past.version)
                if outcome is not None:
                    helped, reason = outcome.helped, outcome.reason
                    trigger.resolved(past.id, now, helped=helped, reason=reason, version=past.version)
                    said.append(f"{past.id}: {reason}")
        except WindlassError as error:
            failed = failed or error
    if failed is not None:
        raise failed
    return tuple(said)


def _close(trigger: Trigger, platform: Platform, past: PastTrigger, ended: Ended, now: datetime) -> str:
    """Journal how a run ended, and hand the release of a candidate that passed over."""
    result, seconds = ended.result, round(ended.seconds, 1)
    if result is None:
        reason = f"the run failed: {ended.error}"
        trigger.resolved(past.id, now, helped=False, reason=reason, error=ended.error, seconds=seconds)
        return reason
    version = str(result["version"])
    verdict = judged(result)
    signal = trigger.state().signals.get(past.id)
    wanted = signal is None or signal.detail.get(RELEASE) is not False
    if verdict is None and wanted:
        # before anything is written: a release that could not be handed over is tried again
        withheld = platform.release(result)
        verdict = None if withheld is None else Outcome(False, withheld)
    gates = {str(gate["check"]): bool(gate["passed"]) for gate in result.get("gates") or ()}
    detail = {"version": version, "seconds": seconds, "gates": gates}
    if verdict is None:
        trigger.finished(past.id, now, **detail)
        what = "its release decides" if wanted else "it waits for a person to release it"
        return f"version {version} passed its gates; {what}"
    # one record: there is no moment at which the run has ended and nobody knows why nothing follows
    trigger.resolved(past.id, now, helped=verdict.helped, reason=verdict.reason, **detail)
    return verdict.reason


def judged(result: Mapping[str, Any]) -> Outcome | None:
    """What a run's result decides by itself; None where a release has to."""
    version, champion = str(result["version"]), result.get("champion")
    if not result["passed"]:
        failed = ", ".join(str(gate["check"]) for gate in result["gates"] if not gate["passed"])
        stays = f"; version {champion} stays the champion" if champion is not None else ""
        return Outcome(False, f"gates failed: {failed}{stays}")
    if champion is None:
        return Outcome(True, "the first champion")
    if version == str(champion):
        return Outcome(False, f"the run made version {version} again, which is the champion")
    return None
