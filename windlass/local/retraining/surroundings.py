"""What the retrain trigger of one workload needs of everything around it (see `monitoring.retrain.following`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from components import release_request
from components.registry import REJECTED, Registry
from monitoring.data_versions import version as data_versions
from monitoring.retrain.following import Ended, Outcome
from monitoring.retrain.signals import Signal
from pipelines import span
from pipelines.submit_kfp import KfpRuns
from pipelines.submit_local import LocalRuns
from serving.release import rollback, spec
from serving.release.journal import history, mailbox, refusals
from serving.release.people import operations
from serving.release.people.running import Platform
from windlass.clock import SystemClock
from windlass.contract import Workload
from windlass.local import state
from windlass.settings import Settings


class Runs(Protocol):
    """Where pipelines run."""

    def submit(self, trigger: str, signal: Signal) -> str: ...

    def run(self, trigger: str) -> Ended | None: ...


class OnThisMachine:
    """Runs in processes of their own."""

    def __init__(self, settings: Settings, workload: Workload) -> None:
        self.runs = LocalRuns(settings)
        self._workload = workload

    def submit(self, trigger: str, signal: Signal) -> str:
        return self.runs.submit(trigger, self._workload.name, signal.detail)

    def run(self, trigger: str) -> Ended | None:
        found = self.runs.find(trigger)
        return None if found is None else Ended(found.result, found.error, found.seconds)


class OnKubeflow:
    """Runs of Kubeflow Pipelines; what they registered is asked of the registry."""

    def __init__(self, settings: Settings, workload: Workload, runs: KfpRuns) -> None:
        self._settings = settings
        self._workload = workload
        self._runs = runs

    def submit(self, trigger: str, signal: Signal) -> str:
        found = span.of(self._settings, self._workload, signal.detail)
        arguments = {
            "workload": self._workload.name,
            "start": found.start,
            "end": found.end,
            "run_id": trigger,
            "data": found.data or "",
        }
        trials = signal.detail.get("trials")
        return self._runs.submit(trigger, arguments | ({"trials": trials} if trials else {}))

    def run(self, trigger: str) -> Ended | None:
        found = self._runs.find(trigger)
        if found is None or found.error is not None:
            return None if found is None else Ended(None, found.error, found.seconds)
        registry = Registry(self._settings)
        made = [v for v in registry.versions(self._workload.name) if v.tags.get("run") == trigger]
        if not made:
            return Ended(
                None, "it registered no version: the registry has a model of this data", found.seconds
            )
        registered = made[0]
        passed = registered.state != REJECTED
        result = {
            "version": registered.version,
            "passed": passed,
            "champion": registered.tags.get("compared_with") or None,
            "gates": [] if passed else [{"check": f"see run {trigger}", "passed": False}],
        }
        return Ended(result, None, found.seconds)


class Surroundings:
    """The registry, the releases, the data and the runs of one workload.

    Args:
        runs: None for this machine.
    """

    def __init__(self, settings: Settings, workload: Workload, runs: Runs | None = None) -> None:
        self._settings = settings
        self._workload = workload
        self._runs = runs or OnThisMachine(settings, workload)
        #: what was handed over, by version
        self.handed_over: dict[str, dict[str, Any]] = {}

    def submit(self, trigger: str, signal: Signal) -> str:
        return self._runs.submit(trigger, signal)

    def run(self, trigger: str) -> Ended | None:
        return self._runs.run(trigger)

    def champion(self) -> str | None:
        return Registry(self._settings).champion(self._workload.name)

    def live_release(self) -> bool:
        """Whether a release is being judged, or lies in the platform's letter box."""
        newest = history.newest(self._journals, self._workload.name)
        if newest is not None and newest.state.live:
            return True
        letters = mailbox.submissions(mailbox.inbox(self._settings))
        return any(letter.model == self._workload.name for _, letter in letters)

    def data_refused(self) -> bool:
        return data_versions.refusal(self._settings, self._workload.name) is not None

    def release(self, result: Mapping[str, Any]) -> str | None:
        version, champion = str(result["version"]), self.champion()
        if champion is None or champion == version:
            return None
        withheld = self.withheld(version)
        if withheld is not None:
            return withheld
        planned = self._workload.retrain.release or self._workload.release
        document = release_request.document(replace(self._workload, release=planned), version, champion)
        wanted = spec.parse(document)
        if any(name == wanted.name for _, name, _ in history.files(self._journals, wanted.model)):
            return None  # it was handed over, and begun
        described = state.running(self._settings)
        running = Platform(described is not None, tuple((described or {}).get("models", ())))
        self.handed_over[version] = operations.apply(self._settings, wanted, SystemClock(), running)
        return None

    def withheld(self, version: str) -> str | None:
        """Why a candidate is not released again without a person; None where nothing speaks against it.

        The same data and settings give the same model, and the registry its old number, or another one where it was
        judged against another champion: what users were taken off must not come back by a schedule.
        """
        model = self._workload.name
        gone = rollback.withdrawn(self._settings, model)
        if not gone:
            return None
        known = {v.version: v.tags.get("candidate_content") for v in Registry(self._settings).versions(model)}
        content = known.get(version)
        for old in sorted(gone):
            if old == version or (content is not None and known.get(old) == content):
                what = "it" if old == version else f"version {old}, the same model,"
                return (
                    f"version {version} is not released by itself: {what} was rolled back; a person may apply its "
                    "release"
                )
        return None

    def outcome(self, version: str) -> Outcome | None:
        model = self._workload.name
        for _, _, file in reversed(history.files(self._journals, model)):
            found = history.read(file)
            if found is None or version not in found.release.candidates:
                continue
            if found.state.live:
                return None
            reason = (found.last or {}).get("reason")
            why = f": {reason}" if reason else ""
            helped = found.state.phase == "Promoted" and self._took_over(found, version)
            return Outcome(helped, f"release {found.release.name}: {found.state.phase}{why}")
        waiting = f"{model.replace('_', '-')}-{version}"
        for refusal in refusals.find(self._settings, model, waiting):
            return Outcome(False, f"release {waiting} was refused: {refusal.reason}")
        if self.champion() == version:
            return Outcome(
                True, f"version {version} is the champion: a person put it there without a release"
            )
        return None

    def _took_over(self, found: history.History, version: str) -> bool:
        """Whether it was this candidate that was promoted."""
        return len(found.release.candidates) == 1 or found.state.weights.get(version, 0) > 0

    @property
    def _journals(self) -> Any:
        return self._settings.journal_dir / "releases"
