"""The analysis job: reads, has it judged, keeps and tells. The same code for a CronJob and for a task of this machine.

It may be started twice, or killed anywhere: the window's file is replaced whole, what detection remembers is kept
after the judgement that it led to, and what the trigger was told it is told again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from monitoring.analysis import memories, signals, store, untold
from monitoring.analysis.analysis import Analysis, VersionAnalysis, analyse, document
from monitoring.analysis.gathering import Moment, gather
from monitoring.analysis.inputs import AnalysisPolicy, Inputs
from monitoring.analysis.store import Status
from windlass import catalog
from windlass.contract import Workload
from windlass.errors import WindlassError
from windlass.settings import Settings

EVIDENTLY_ROWS = 50_000


@dataclass(frozen=True)
class Told:
    """Where incidents are told; `url` None keeps them here."""

    url: str | None = None
    token: Path | None = None


@dataclass(frozen=True)
class Result:
    """What a job did.

    Attributes:
        path: the window's file.
        document: its content.
        warnings: what went wrong without stopping it, in sentences.
    """

    path: Path
    document: Mapping[str, Any]
    warnings: tuple[str, ...]


def run(
    settings: Settings,
    name: str,
    moment: Moment,
    *,
    policy: AnalysisPolicy | None = None,
    told: Told | None = None,
    report: bool = False,
) -> Result:
    """Analyse the window of a workload that ends at `moment.end`.

    Args:
        report: make Evidently's report also where nothing new failed.

    Raises:
        UsageError: there is no such workload.
        WindlassError: the events cannot be read, or the result not be written; the status says so.
    """
    workload = catalog.load(name, settings.project)
    policy = policy or AnalysisPolicy()
    before = store.status(settings, name)
    began, began_s = time.time(), time.monotonic()
    store.note(settings, name, replace(before, attempt=began))
    try:
        result = _run(settings, workload, moment, policy, told or Told(), report)
    except Exception as error:
        said = f"{type(error).__name__}: {error}".partition("\n")[0]
        store.note(settings, name, replace(before, attempt=began, error=said))
        raise
    store.note(settings, name, Status(began, time.time(), time.monotonic() - began_s))
    return result


def _run(
    settings: Settings,
    workload: Workload,
    moment: Moment,
    policy: AnalysisPolicy,
    told: Told,
    report: bool,
) -> Result:
    warnings: list[str] = []
    inputs = gather(settings, workload, moment, policy, warnings)
    found = analyse(inputs, policy)
    known = _before(settings, workload.name, found.end)
    incidents = signals.incidents(found, known)
    content = document(found, now=moment.now)
    content["incidents"] = signals.document(incidents)
    content["evidently"] = _evidently(settings, inputs, found, incidents, report, warnings)
    content["warnings"] = warnings
    ended: Sequence[signals.Incident] = ()
    if told.url is not None:
        ended = untold.joined(untold.load(settings, workload.name), incidents, known)
        untold.keep(settings, workload.name, ended)
    path = store.write(settings, workload.name, found.end, content, wall=time.time())
    for version in found.versions:
        _remember(settings, workload.name, version, found.end, time.time())
    if told.url is not None:
        try:
            signals.send([*ended, *(i for i in incidents if i.ended is None)], told.url, told.token)
            untold.keep(settings, workload.name, ())
        except WindlassError as error:
            warnings.append(str(error))
    return Result(path, content, tuple(warnings))


def _before(settings: Settings, workload: str, end: float) -> Sequence[Mapping[str, Any]]:
    newest = store.latest(settings, workload)
    # analysing an old window again must not end or date what began since
    if newest is None or newest["end"] > end:
        return ()
    before: Sequence[Mapping[str, Any]] = newest.get("incidents", ())
    return before


def _remember(settings: Settings, workload: str, found: VersionAnalysis, end: float, wall: float) -> None:
    looked = memories.load(settings, workload, found.version).looked
    # what a clock that was ahead looked at is of no day yet, and must not stand for ever
    if found.memory.looked is not None and (looked is None or looked <= end or looked > wall):
        memories.keep(settings, workload, found.version, found.memory)


def _evidently(
    settings: Settings,
    inputs: Inputs,
    found: Analysis,
    incidents: Sequence[signals.Incident],
    wanted: bool,
    warnings: list[str],
) -> str | None:
    """Evidently's report with its tests, of a window in which something began to fail, or where it is asked for."""
    end = datetime.fromtimestamp(found.end, UTC).isoformat()
    begun = any(i.kind in ("featureDrift", "predictionDrift") and i.since == end for i in incidents)
    champion = inputs.versions[0] if inputs.versions else None
    if champion is None or not (wanted or begun):
        return None
    from monitoring import evidently_reports, reference

    rows = champion.window
    every = max(-(-len(rows) // EVIDENTLY_ROWS), 1)
    name = f"{inputs.workload.name}-{champion.version}-{store.name(found.end).removesuffix('.json')}.html"
    path = settings.home / "evidently" / name
    try:
        trained = reference.of_version(settings, inputs.workload.name, champion.version)
        evidently_reports.report(trained, rows.features[::every], rows.scores[::every], html=path, tests=True)
    except (WindlassError, OSError, ValueError, KeyError) as error:  # of a bundle that is damaged as well
        warnings.append(f"Evidently's report: {error}")
        return None
    return str(path.relative_to(settings.home))
