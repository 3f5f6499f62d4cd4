"""The verdict on a candidate: pure checks of measured facts against the workload's bounds.

The pipeline cannot branch on it (KFP's local runner gets `dsl.If` wrong), so the verdict is written down and the
next step obeys it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from windlass.contract import Gates


@dataclass(frozen=True)
class SliceComparison:
    """A slice's AUC of both models on the same rows."""

    name: str
    rows: int
    candidate_auc: float
    champion_auc: float


@dataclass(frozen=True)
class ChampionComparison:
    """The champion on the rows that the candidate is judged on.

    Attributes:
        difference, lower: the candidate's AUC minus the champion's, and its one-sided lower bound.
        overlap: why the champion has seen some of these rows in training; empty where it has not.
        obstacle: why the two cannot be compared at all; the other fields mean nothing then.
    """

    version: str
    rows: int = 0
    difference: float = math.nan
    lower: float = math.nan
    slices: tuple[SliceComparison, ...] = ()
    overlap: str = ""
    obstacle: str = ""


@dataclass(frozen=True)
class Facts:
    """What was measured of a candidate on rows it was not trained on.

    Attributes:
        auc_without: AUC with all features of one view missing, by view.
        champion: None where the model has no champion yet.
    """

    rows: int
    auc: float
    calibration_error: float
    single_row_ms: float
    auc_without: Mapping[str, float]
    champion: ChampionComparison | None


@dataclass(frozen=True)
class Check:
    """One gate: `value` and `bound` are None where there was nothing to measure."""

    check: str
    value: float | None
    bound: float | None
    passed: bool
    detail: str


def judge(gates: Gates, facts: Facts) -> tuple[Check, ...]:
    """Check everything; a fact that is not a number never passes."""
    checks = [
        Check(
            "minimumAuc", _number(facts.auc), gates.minimum_auc, facts.auc >= gates.minimum_auc,
            f"AUC on {facts.rows} newest rows that the candidate was not trained on",
        ),
        _non_inferiority(gates, facts.champion),
        _slices(gates, facts.champion),
        Check(
            "calibration", _number(facts.calibration_error), gates.calibration_bound,
            facts.calibration_error <= gates.calibration_bound, "expected calibration error, 10 bins of equal mass",
        ),
        Check(
            "latency", _number(facts.single_row_ms), gates.latency_budget_ms,
            facts.single_row_ms <= gates.latency_budget_ms, "median milliseconds of one row on the exported artifact",
        ),
    ]  # fmt: skip
    for view, auc in facts.auc_without.items():
        checks.append(
            Check(
                f"missingFeatures/{view}", _number(auc), gates.missing_feature_auc_floor,
                auc >= gates.missing_feature_auc_floor, f"AUC with every feature of view {view!r} missing",
            )
        )  # fmt: skip
    return tuple(checks)


def passed(checks: tuple[Check, ...]) -> bool:
    """Whether a candidate may be released."""
    return all(c.passed for c in checks)


def explain(check: Check) -> str:
    """One line for a person: check, value, bound."""
    mark = "passed" if check.passed else "FAILED"
    value = "-" if check.value is None else f"{check.value:.4f}"
    bound = "-" if check.bound is None else f"{check.bound:.4f}"
    return f"{check.check}: {mark}, value {value}, bound {bound} ({check.detail})"


def _non_inferiority(gates: Gates, champion: ChampionComparison | None) -> Check:
    name, bound = "championNonInferiority", -gates.champion_margin
    if champion is None:
        return Check(name, None, bound, True, "there is no champion yet")
    if champion.obstacle:
        return Check(
            name, None, bound, False, f"champion {champion.version} cannot be compared: {champion.obstacle}"
        )
    detail = (
        f"lower bound of the AUC difference to champion {champion.version} at confidence {1 - gates.alpha:g} "
        f"(DeLong, paired, one-sided, {champion.rows} rows; difference {champion.difference:+.4f})"
    )
    if champion.overlap:
        detail += f"; {champion.overlap}"
    return Check(name, _number(champion.lower), bound, champion.lower >= bound, detail)


def _slices(gates: Gates, champion: ChampionComparison | None) -> Check:
    name, bound = "slices", gates.slice_margin
    if champion is None or champion.obstacle:
        why = "there is no champion yet" if champion is None else champion.obstacle
        return Check(name, None, bound, champion is None, why)
    large = [s for s in champion.slices if s.rows >= gates.slice_minimum_rows]
    if not large:
        return Check(name, None, bound, True, f"no slice has {gates.slice_minimum_rows} rows of both classes")
    worst = max(large, key=lambda s: s.champion_auc - s.candidate_auc)
    loss = worst.champion_auc - worst.candidate_auc
    detail = (
        f"largest loss of AUC to champion {champion.version} in {len(large)} slices of {gates.slice_minimum_rows} rows "
        f"or more: {worst.name} ({worst.rows} rows, {worst.candidate_auc:.4f} against {worst.champion_auc:.4f})"
    )
    return Check(name, _number(loss), bound, loss <= bound, detail)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
