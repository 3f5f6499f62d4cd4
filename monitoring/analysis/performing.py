"""How well a version does: measured where labels have come, estimated where they have not, and where it is worst."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from monitoring import performance
from monitoring.analysis import cuts, days, estimated, maturity
from monitoring.analysis.check import Check
from monitoring.analysis.cuts import Cut
from monitoring.analysis.evaluation import Evaluation
from monitoring.analysis.inputs import AnalysisPolicy, VersionInputs
from monitoring.analysis.maturity import Maturity
from monitoring.analysis.slices import Losses, SliceReport, find
from monitoring.collector.reading import ENTITY, REQUEST, StoredWindow
from monitoring.columns import Floats
from monitoring.verdict import Verdict
from windlass.contract import Workload

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Figure:
    """One measure: `kind` is "measured", "estimated" or "baseline" (measured before the release)."""

    metric: str
    kind: str
    value: float
    lower: float | None
    upper: float | None


@dataclass(frozen=True, eq=False)
class Performing:
    """What is known of a version's performance."""

    figures: tuple[Figure, ...]
    maturity: Maturity
    measured: Check
    estimated: Check
    slices: SliceReport


def judge(
    workload: Workload, known: VersionInputs, end: float, now: float, policy: AnalysisPolicy
) -> Performing:
    """Measure, estimate and search the slices."""
    ripe, matured = maturity.measure(known.history, end=end, now=now, span=policy.span.total_seconds())
    evaluation = known.evaluation
    estimator = None
    figures: list[Figure] = []
    if evaluation is not None:
        figures += _figures("baseline", evaluation.labels, evaluation.scores, evaluation.at, policy)
        estimator = estimated.fit(
            evaluation.labels, evaluation.scores, evaluation.at, threshold=policy.threshold
        )
    rows = np.isfinite(matured.labels)
    figures += _figures("measured", matured.labels[rows], matured.scores[rows], matured.at[rows], policy)
    if estimator is not None:
        figures += [
            Figure(e.metric, "estimated", e.value, e.lower, e.upper)
            for e in estimator.estimate(known.window.scores, known.window.at, confidence=CONFIDENCE).values()
        ]
    return Performing(
        tuple(figures),
        ripe,
        _measured(evaluation, matured, ripe, policy, known.nothing),
        _estimated(estimator, known.window, policy, "" if evaluation is not None else known.nothing),
        _slices(workload, evaluation, matured, policy),
    )


def seen(ripe: Maturity, policy: AnalysisPolicy) -> str:
    """How many of the labels came that have had their time, in words."""
    known = "none is known" if ripe.coverage is None else f"{ripe.coverage:.0%} of {ripe.rows} rows have one"
    return f"{known}, {policy.coverage:.0%} are needed"


def _figures(
    kind: str, labels: Floats, scores: Floats, at: Floats | None, policy: AnalysisPolicy
) -> list[Figure]:
    found: list[Figure] = []
    for metric in estimated.METRICS if len(labels) else ():
        sampled = estimated.measured(metric, labels, scores, at, policy.threshold)
        if not math.isfinite(sampled.value):
            continue
        reach = days.quantile(0.5 + CONFIDENCE / 2, sampled.freedom) * sampled.error
        bounds = (sampled.value - reach, sampled.value + reach) if math.isfinite(reach) else (None, None)
        found.append(Figure(metric, kind, sampled.value, *bounds))
    return found


def _measured(
    evaluation: Evaluation | None,
    matured: StoredWindow,
    ripe: Maturity,
    policy: AnalysisPolicy,
    nothing: str,
) -> Check:
    """The AUC of the matured rows against that of the rows that the version was judged on."""
    evidence: dict[str, Any] = {"maturity": ripe.document(), "tests": []}
    if evaluation is None:
        told = nothing or "the bundle has no evaluation rows to compare with"
        return Check("performanceDecay", "INCONCLUSIVE", told, evidence)
    if ripe.coverage is None or ripe.coverage < policy.coverage:
        return Check(
            "performanceDecay",
            "INCONCLUSIVE",
            f"labels that have had their time: {seen(ripe, policy)}",
            evidence,
        )
    rows = np.isfinite(matured.labels)
    found = performance.decay(
        _by_days(evaluation.labels, evaluation.scores, evaluation.at),
        _by_days(matured.labels[rows], matured.scores[rows], matured.at[rows]),
        policy.decay,
    )
    evidence["tests"] = [asdict(t) for t in found.tests]
    if found.tests and not math.isfinite(found.tests[0].lower):
        told = "the labelled rows are of one day, which does not tell how days differ"
        return Check("performanceDecay", "INCONCLUSIVE", told, evidence)
    return Check("performanceDecay", found.verdict, found.reason, evidence)


def _by_days(labels: Floats, scores: Floats, at: Floats | None) -> performance.Performance:
    # the same figures with errors that know that rows of a day hang together
    plain = performance.measure(labels, scores)
    if not len(labels):
        return plain
    sampled = {m: estimated.measured(m, labels, scores, at) for m in estimated.METRICS}
    return replace(
        plain,
        auc_error=sampled["auc"].error,
        brier_error=sampled["brier"].error,
        log_loss_error=sampled["log_loss"].error,
    )


def _estimated(
    estimator: estimated.Estimator | None, window: StoredWindow, policy: AnalysisPolicy, nothing: str
) -> Check:
    """The AUC that the window's scores promise against the one that the evaluation rows' scores promise."""
    if estimator is None:
        return Check(
            "estimatedDecay",
            "INCONCLUSIVE",
            nothing or "the bundle has too few evaluation rows to calibrate the scores on",
        )
    if len(window) < policy.decay.minimum_rows:
        return Check(
            "estimatedDecay", "INCONCLUSIVE", f"{len(window)} rows; {policy.decay.minimum_rows} are needed"
        )
    margin = dict(policy.decay.margins).get("auc", 0.0)
    change = estimator.change("auc", window.scores, window.at)
    evidence: dict[str, Any] = {
        "method": "CBPE",
        "calibration": estimator.calibration.calibrator.method,
        "log_loss": estimator.calibration.log_loss,
        **{
            k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(change).items()
        },
        "margin": margin,
    }
    reach = days.quantile(1 - policy.decay.alpha, change.freedom) * change.error
    loss = change.before - change.now
    if not math.isfinite(loss) or not math.isfinite(reach):
        return Check(
            "estimatedDecay",
            "INCONCLUSIVE",
            "the scores do not tell (all of one value, or one day)",
            evidence,
        )
    lower, upper = loss - reach, loss + reach
    verdict: Verdict = "FAIL" if lower > margin else "PASS" if upper < margin else "INCONCLUSIVE"
    evidence |= {"lower": lower, "upper": upper}
    reason = (
        f"expected AUC {change.now:.3f} against {change.before:.3f}: loss {loss:.3f} "
        f"({lower:.3f} to {upper:.3f}), margin {margin:g}"
    )
    return Check("estimatedDecay", verdict, reason, evidence)


def _slices(
    workload: Workload, evaluation: Evaluation | None, matured: StoredWindow, policy: AnalysisPolicy
) -> SliceReport:
    if evaluation is None or evaluation.at is None or not evaluation.inputs:
        return SliceReport(0, "the bundle's evaluation rows have no inputs; a version trained anew has them")
    rows = np.isfinite(matured.labels)
    if not rows.any() or matured.features.shape[1] != len(evaluation.inputs):
        return SliceReport(0, "no labelled row of the version's inputs")
    loss = _loss(workload.decision_metric)
    window = Losses(loss(matured.labels[rows], matured.scores[rows]), days.codes(matured.at[rows]))
    reference = Losses(loss(evaluation.labels, evaluation.scores), days.codes(evaluation.at))
    return find(_cuts(workload, evaluation, matured, rows), reference, window, policy.slices)


def _loss(metric: str) -> Any:
    def brier(y: Floats, p: Floats) -> Floats:
        return np.square(p - y)

    def log_loss(y: Floats, p: Floats) -> Floats:
        clipped = np.clip(p, estimated.SMALLEST, 1 - estimated.SMALLEST)
        return np.asarray(-(y * np.log(clipped) + (1 - y) * np.log1p(-clipped)))

    return log_loss if metric == "log_loss" else brier


def _cuts(
    workload: Workload, evaluation: Evaluation, matured: StoredWindow, rows: np.ndarray[Any, Any]
) -> Sequence[Cut]:
    """Every input, the workload's slices, and each of these crossed with every other cut."""
    categories = {f.name: f.categories for f in workload.request_fields if f.categories}
    single: dict[str, Cut] = {}
    for i, (name, values) in enumerate(evaluation.inputs.items()):
        single[name] = cuts.cut(name, values, matured.features[rows, i], categories.get(name))
    for name, texts in evaluation.texts.items():
        column = matured.columns.get(REQUEST + name, matured.columns.get(ENTITY + name))
        if column is not None:
            single[name] = cuts.text_cut(name, texts, [str(v) for v in column[rows]])
    crossed: list[Cut] = []
    done: set[str] = set()
    for first in (name for name in workload.slices if name in single):
        done.add(first)
        crossed += [cuts.cross(single[first], single[n]) for n in single if n not in done]
    return [*single.values(), *crossed]
