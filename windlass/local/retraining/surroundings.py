"""What the retrain trigger of one workload needs of everything around it (see `monitoring.retrain.following`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from windlass.contract import Workload
from windlass.local.retraining.releases import LocalReleases, Releases
from windlass.objectstore import bundle_prefix
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
    """Runs of Kubeflow Pipelines; what they registered is asked of the registry.

    A run's pods write neither our home nor, with another address, our object store: it has ended for us once the
    bundle of its version is where model servers load it, because a release begins them at once. So is the champion's,
    whose servers a release begins too: that of one from before an upgrade may lie elsewhere.

    Args:
        say: is told of a champion whose bundle the registry has not.
    """

    def __init__(
        self, settings: Settings, workload: Workload, runs: KfpRuns, say: Callable[[str], object]
    ) -> None:
        self._settings = settings
        self._workload = workload
        self._runs = runs
        self._say = say

    def submit(self, trigger: str, signal: Signal) -> str:
        # what is left out the first step finds, where the data is: a trigger need not read it
        arguments = {"workload": self._workload.name, "run_id": trigger}
        return self._runs.submit(trigger, arguments | span.arguments(signal.detail))

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
        if passed:
            registry.place(self._workload.name, registered.version)
            self._place_champion(registry, registered.version)
        result = {
            "run_id": trigger,
            "version": registered.version,
            "passed": passed,
            "champion": registered.tags.get("compared_with") or None,
            "gates": [] if passed else [{"check": f"see run {trigger}", "passed": False}],
        }
        return Ended(result, None, found.seconds)

    def _place_champion(self, registry: Registry, candidate: str) -> None:
        model, champion = self._workload.name, registry.champion(self._workload.name)
        if champion is None or champion == candidate:
            return
        if registry.has_bundle(model, champion):
            registry.place(model, champion)
            return
        # no reason to wait: the registry will not have it later, and its servers may load it from elsewhere
        store = self._settings.object_store
        where = (
            registry.bundle_dir(model, champion)
            if store is None
            else f"{store}/{bundle_prefix(model, champion)}"
        )
        self._say(
            f"{model}: the registry has no bundle of version {champion}, the champion; unless its servers load it from "
            f"elsewhere, copy it to {where}, or the release of version {candidate} holds"
        )


class Surroundings:
    """The registry, the releases, the data and the runs of one workload.

    Args:
        runs: None for this machine.
        releases: None for this machine.
    """

    def __init__(
        self,
        settings: Settings,
        workload: Workload,
        runs: Runs | None = None,
        releases: Releases | None = None,
    ) -> None:
        self._settings = settings
        self._workload = workload
        self._runs = runs or OnThisMachine(settings, workload)
        self._releases = releases or LocalReleases(settings, workload.name)
        #: strategy and checks of a candidate's release; empty for the workload's own
        self.release_plan: Mapping[str, Any] = workload.retrain.release
        #: what was handed over, by version
        self.handed_over: dict[str, dict[str, Any]] = {}

    def submit(self, trigger: str, signal: Signal) -> str:
        return self._runs.submit(trigger, signal)

    def run(self, trigger: str) -> Ended | None:
        return self._runs.run(trigger)

    def champion(self) -> str | None:
        return Registry(self._settings).champion(self._workload.name)

    def live_release(self) -> bool:
        return self._releases.live()

    def data_refused(self) -> bool:
        return data_versions.refusal(self._settings, self._workload.name) is not None

    def release(self, result: Mapping[str, Any]) -> str | None:
        version, champion = str(result["version"]), self.champion()
        if champion is None or champion == version:
            return None
        withheld = self.withheld(version)
        if withheld is not None:
            return withheld
        done = self._releases.hand_over(self.planned(version, champion), result.get("run_id"))
        if isinstance(done, str):
            return f"version {version}: {done}"
        if done is not None:
            self.handed_over[version] = done
        return None

    def planned(self, version: str, champion: str) -> dict[str, Any]:
        """The Release document that a candidate asks for: by the policy in force, else by the workload's own plan."""
        stated = replace(self._workload, release=self.release_plan or self._workload.release)
        return release_request.document(stated, version, champion)

    def withheld(self, version: str) -> str | None:
        """Why a candidate is not released again without a person; None where nothing speaks against it.

        The same data and settings give the same model, and the registry its old number, or another one where it was
        judged against another champion: what users were taken off must not come back by a schedule.
        """
        model = self._workload.name
        gone = self._releases.withdrawn()
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
        released, found = self._releases.outcome(version)
        if not released and self.champion() == version:
            return Outcome(
                True, f"version {version} is the champion: a person put it there without a release"
            )
        return found
