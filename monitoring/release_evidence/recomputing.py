"""What versions should have been given: offline rows, bundles and workloads, as they lie in the collector's home."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from monitoring.collector.names import BrokenWorkloadError, Names
from monitoring.release_evidence.bringing import Bringing
from monitoring.release_evidence.vectors import Vector
from windlass.contract import Workload
from windlass.errors import WindlassError
from windlass.features import asof, offline, parity
from windlass.settings import Settings


@dataclass(frozen=True)
class Standing:
    """What can be recomputed now.

    Attributes:
        build: the offline rows' content hash; None while they are written.
        reach: up to when they are known, epoch seconds.
        lacking: by version, why its vectors cannot be recomputed.
    """

    build: str | None = None
    reach: float = -math.inf
    lacking: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Compared:
    """What a comparison found; vectors that name no entity are `nameless` and were not compared."""

    checked: int
    mismatched: int
    by_input: Mapping[str, int]
    nameless: int = 0


class Recomputing:
    """Recomputes served vectors point in time.

    Args:
        names: of the workloads in the settings' project.
        clock: seconds, of any beginning.
    """

    def __init__(
        self, settings: Settings, names: Names, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._names = names
        self._bringing = Bringing(settings, clock=clock)

    def standing(
        self, model: str, versions: Sequence[str], stored: Mapping[str, Sequence[str]], known: Standing
    ) -> Standing:
        """What can be recomputed of a model's versions.

        Args:
            stored: by version, names of the inputs in whose order its vectors are.
            known: what stood before: while rows are written, nobody says how far they reach.
        """
        try:
            workload = self._workload(model)
            build, reach = self._build(workload), known.reach
            if build is None and known.build is None and reach == -math.inf:
                raise WindlassError(
                    f"there are no finished offline rows of {model!r} in {self._settings.offline_dir}; have "
                    f"`windlass features build {model}` run there (the chart: features.workloads)"
                )
            if build is not None and build != known.build:
                reach = asof.reach(workload, self._settings)
            lacking = {version: self._lacking(workload, version, stored) for version in versions}
        except (WindlassError, OSError, ValueError) as error:
            # a file that cannot be read costs this check and no other
            reason = str(error) if isinstance(error, WindlassError) else f"it cannot be recomputed: {error!r}"
            return Standing(known.build, known.reach, dict.fromkeys(versions, reason))
        return Standing(build, reach, {version: why for version, why in lacking.items() if why is not None})

    def compare(self, model: str, vectors: Sequence[Vector], build: str) -> Compared | None:
        """Compare vectors with what the offline rows say; None where these are of another build by now.

        Raises:
            WindlassError: they cannot be recomputed.
        """
        workload = self._workload(model)
        try:
            given = [vector.record(model) for vector in vectors]
            named = [r for r in given if all(r["entities"].get(e) is not None for e in workload.entities)]
            found = parity.check(workload, self._settings, named, asof.lookup, hidden=workload.privacy)
        except (
            Exception
        ) as error:  # transformations of a bundle are somebody's code, and raise what they like
            if self._build(workload) != build:
                return None
            reason = str(error) if isinstance(error, WindlassError) else repr(error)
            raise WindlassError(
                f"vectors of version {vectors[0].version} cannot be recomputed: {reason}"
            ) from error
        if self._build(workload) != build:
            return None
        return Compared(found.checked, found.mismatched, found.by_feature, len(given) - len(named))

    def _build(self, workload: Workload) -> str | None:
        return offline.standing(workload, self._settings) if workload.views else ""

    def _workload(self, model: str) -> Workload:
        """The workload of a model.

        Raises:
            WindlassError: there is none, or it keeps to itself whom its features are of.
        """
        try:
            workload = self._names.workload(model)
        except BrokenWorkloadError as error:
            raise WindlassError(str(error.__cause__ or error)) from error
        if workload is None:
            raise WindlassError(
                f"{model!r} is no workload of the collector's project, so that nobody knows its features; run the "
                "collector with an image that holds the workload"
            )
        if (hidden := parity.hidden_keys(workload)) is not None:
            raise WindlassError(f"{hidden}; leave the check out")
        return workload

    def _lacking(self, workload: Workload, version: str, stored: Mapping[str, Sequence[str]]) -> str | None:
        folder = self._settings.bundles_dir / workload.name / version
        if (why := self._bringing.lacking(workload.name, version)) is not None:
            return why
        if not (folder / "serving.json").is_file():
            return (
                f"the collector finds no bundle of version {version} in {folder}, and does not know its inputs; mount "
                "the bundles there (the chart: collector.mountModels, or a models.volume that is ReadWriteMany)"
            )
        inputs = [given.name for given in parity.inputs_of(workload, self._settings, version)]
        there = list(stored.get(version, ()))
        if there and there != inputs:
            return (
                f"vectors of version {version} are stored with the inputs {', '.join(there)}, and its bundle has "
                f"{', '.join(inputs)}; serve and mount one build of it"
            )
        return None
