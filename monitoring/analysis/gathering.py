"""Reading what an analysis goes by: events, bundles, what detection remembers, the serving side's metrics.

What cannot be read is missing, and its checks are INCONCLUSIVE; nothing stands in for it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from monitoring import quality
from monitoring.analysis import bundle, distances, memories, skewed
from monitoring.analysis.drifting import Memory
from monitoring.analysis.events import Answers, open_answers
from monitoring.analysis.inputs import AnalysisPolicy, Inputs, VersionInputs
from monitoring.analysis.serving_metrics import Metrics
from monitoring.analysis.slo import Counted, Name, Resources
from monitoring.analysis.traffic import joined, take
from monitoring.collector.reading import StoredWindow
from monitoring.columns import Floats
from monitoring.reference import Reference
from windlass.contract import Workload
from windlass.errors import WindlassError
from windlass.settings import Settings

NEWEST = timedelta(days=1)
DAY_S = 86400.0


@dataclass(frozen=True)
class Moment:
    """When an analysis is made.

    Attributes:
        now: labels that came until then are known.
        end: of the window.
    """

    now: datetime
    end: datetime

    @classmethod
    def at(cls, now: datetime, end: datetime | None = None) -> Moment:
        """The window ends with the last full hour before `now`, unless its end is named."""
        return cls(now, end or now.replace(minute=0, second=0, microsecond=0))


def standing(settings: Settings) -> datetime | None:
    """Where the clock of the platform of this home stands, on historical data; None where it is the present."""
    try:
        found = json.loads((settings.run_dir / "platform.json").read_text()).get("as_of")
    except (FileNotFoundError, ValueError):
        return None
    return None if found is None else datetime.fromisoformat(found)


def gather(
    settings: Settings,
    workload: Workload,
    moment: Moment,
    policy: AnalysisPolicy,
    warnings: list[str],
    *,
    only: str | None = None,
) -> Inputs:
    """Read everything that the window's analysis goes by; what cannot be read is told in `warnings` and missing.

    Args:
        only: judge this version, and as if for the first time: a person's question spends none of the schedule's looks.
    """
    end = moment.end.timestamp()
    start = end - policy.span.total_seconds()
    since = end - max(policy.history, policy.span).total_seconds()
    answers = open_answers(settings, workload.name)
    arrivals = answers.arrivals(since, _behind(end))
    if len(arrivals):
        # rows may be read day by day: not through years in which nothing came
        since = max(since, float(arrivals[0]))
    versions = [
        _version(settings, workload, answers, version, (start, end, since), moment, policy, warnings)
        for version in (_answering(answers, arrivals) if only is None else [only])
    ]
    if only is not None:
        versions = [replace(v, memory=Memory()) for v in versions]
    counted, resources = _serving(settings, workload.name, end, policy, warnings)
    return Inputs(workload, start, end, moment.now.timestamp(), arrivals, tuple(versions), counted, resources)


def _behind(moment: float) -> float:
    # a row of just this moment belongs to the window: a clock that stands gives every row its own time
    return float(np.nextafter(moment, np.inf))


def _answering(answers: Answers, arrivals: Floats) -> list[str]:
    """Versions that gave the newest answers, the one with most of them first."""
    if not len(arrivals):
        return []
    newest = float(arrivals[-1])
    counts = answers.counts(newest - NEWEST.total_seconds(), _behind(newest))
    return sorted(counts, key=lambda v: (-counts[v], v))


def _version(
    settings: Settings,
    workload: Workload,
    answers: Answers,
    version: str,
    span: tuple[float, float, float],
    moment: Moment,
    policy: AnalysisPolicy,
    warnings: list[str],
) -> VersionInputs:
    start, end, since = span
    rows, every = _rows(answers, version, since, _behind(end), policy.most_rows)
    history = _known(rows, moment.now.timestamp())
    window = take(history, history.at > start)
    trained = bundle.of_version(settings, workload.name, version)
    warnings += [f"version {version}: {said}" for said in trained.problems]
    memory = memories.load(settings, workload.name, version)
    if memory.looked is not None and memory.looked > end:
        memory = Memory()  # an old window again: what was seen later is not known yet
    width = None if trained.baseline is None else len(trained.baseline.columns)
    nothing = trained.nothing
    if len(history) and width is not None and history.features.shape[1] != width:
        nothing = (
            f"version {version} logged {history.features.shape[1]} inputs, its bundle has {width}: "
            "the events are of another model of that name"
        )
        # nor do its rows say how well this one should do
        trained = replace(trained, evaluation=None)
    distances_ = None
    if trained.reference is not None and not nothing:
        distances_ = distances.measure(trained.reference, answers, version, _behind(start), _behind(end))
    return VersionInputs(
        version=version,
        window=window,
        history=history,
        rows=answers.counts(_behind(start), _behind(end)).get(version, 0),
        every=every,
        distances=distances_,
        evaluation=trained.evaluation,
        baseline=trained.baseline,
        nothing=nothing,
        far=frozenset() if nothing else _far(trained.reference, window),
        memory=memory,
        skew=skewed.sample(settings, workload, window, policy),
    )


def _far(reference: Reference | None, window: StoredWindow) -> frozenset[str]:
    if reference is None or not len(window):
        return frozenset()
    found = quality.measure(reference, window.features)
    return frozenset(f.feature for f in found.features if f.far)


def _rows(answers: Answers, version: str, since: float, until: float, most: int) -> tuple[StoredWindow, int]:
    """A version's rows, every k-th where there are more than `most`: read by days then, so that memory is bounded."""
    total = answers.counts(since, until).get(version, 0)
    every = -(-total // most)
    if every <= 1:
        return answers.rows(version, since, until), 1
    parts: list[StoredWindow] = []
    day = since
    while day < until:
        rows = answers.rows(version, day, min(day + DAY_S, until))
        parts.append(take(rows, np.arange(len(rows)) % every == 0))
        day += DAY_S
    return joined([p for p in parts if len(p)]), every


def _known(rows: StoredWindow, now: float) -> StoredWindow:
    """Labels that came later are not known yet: an old window is judged as it would have been."""
    later = rows.label_at > now
    if not later.any():
        return rows
    return replace(
        rows,
        labels=np.where(later, np.nan, rows.labels),
        label_at=np.where(later, np.nan, rows.label_at),
    )


def _serving(
    settings: Settings, model: str, end: float, policy: AnalysisPolicy, warnings: list[str]
) -> tuple[dict[Name, Counted], Resources | None]:
    if settings.prometheus_url is None:
        return {}, None
    metrics = Metrics(settings.prometheus_url, end, settings.namespace)
    counted: dict[Name, Counted] = {}
    try:
        for objective in policy.objectives:
            if (found := metrics.counted(model, objective)) is not None:
                counted[objective.name] = found
        return counted, metrics.resources(model)
    except WindlassError as error:
        warnings.append(str(error))
        return counted, None
