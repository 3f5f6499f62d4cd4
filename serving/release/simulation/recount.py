"""Promotions judged again from the evidence in the journal, by counting and by plain z-values.

Far looser than the engine's own tests and without a line of theirs, so that what is reported is a mistake and no
matter of taste.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from serving.release import durations
from serving.release.evidence import Pairs
from serving.release.journal import evidence_json
from serving.release.journal.store import Record
from serving.release.metrics import METRICS
from serving.release.release import BlueGreen, Canary, Check, Shadow, Step
from serving.release.simulation.told import Stratum, Told

#: z-value beyond which a difference is no chance, and one that a passed decision surely has.
SURE = 6.0
PLAUSIBLE = 0.5


class Require(Protocol):
    """Notes a violation where something does not hold."""

    def __call__(self, holds: bool, invariant: str, detail: Callable[[], str] | str) -> None: ...


class Recount:
    """What a decision rests on, counted again."""

    def __init__(self, require: Require) -> None:
        self.require = require

    def follow(self, told: Told, record: Record) -> None:
        """Compare the arms, and their shares, within what came since the last record."""
        seen = record["evidence"]
        if seen is None:
            return
        trusted = not seen.get("silent") and not seen.get("faults")
        arms = seen["arms"]
        theirs = arms.get(told.champion)
        if theirs is None:
            return
        for version in told.release.candidates:
            ours = arms.get(version)
            if ours is None:
                return
            found = told.harm.setdefault(("errors", version), Stratum())
            count = found.add if trusted else found.skip
            count((ours["requests"], ours["errors"]), (theirs["requests"], theirs["errors"]))

    def check_trusted(self, told: Told, record: Record, what: str, kinds: tuple[str, ...]) -> None:
        """Nothing goes on with evidence that is missing or makes no sense."""
        seen = record["evidence"]
        self.require(seen is not None, "no promotion without evidence", f"{what} without evidence")
        if seen is None:
            return
        for check in told.release.checks:
            if check.kind not in kinds:
                continue
            silent = seen.get("silent", {}).get(check.source)
            self.require(silent is None, "no promotion without evidence", f"{what}, {check.source}: {silent}")
            fault = seen.get("faults", {}).get(check.metric)
            self.require(fault is None, "no promotion without evidence", f"{what}, {check.metric}: {fault}")
        for version, arm in seen["arms"].items():
            sane = 0 <= arm["errors"] <= arm["requests"]
            self.require(
                sane, "no promotion without evidence", f"{what}, {version} has {arm['errors']} errors"
            )

    def is_deaf(self, record: Record, told: Told, kinds: tuple[str, ...]) -> bool:
        """Whether a decision's evidence says nothing, or nothing that makes sense, of a check of these kinds."""
        seen = record["evidence"] or {}
        return any(
            check.source in seen.get("silent", {}) or check.metric in seen.get("faults", {})
            for check in told.release.checks
            if check.kind in kinds
        )

    def check_advance(self, told: Told, record: Record, at: datetime) -> None:
        strategy = told.release.strategy
        if isinstance(strategy, BlueGreen):
            smoke = (record["evidence"] or {}).get("smoke")
            passed = smoke is not None and smoke["failed"] == 0 and smoke["passed"] >= len(strategy.smoke)
            self.require(passed, "no switch without smoke", f"switches with {smoke}")
            return
        self.check_trusted(told, record, "advances", ("guardrail",))
        if isinstance(strategy, Canary) and told.last is not None:
            self._check_step(told, record, at, strategy.steps[told.last["state"]["step"]])
            self._check_guardrails(told, record, told.release.candidate)

    def check_promotion(self, told: Told, record: Record, at: datetime) -> None:
        """The evidence of the decision, counted again."""
        self.check_trusted(told, record, "promotes", ("guardrail", "decision"))
        if record["evidence"] is None:
            return
        winner, strategy = record["champion"], told.release.strategy
        self._check_guardrails(told, record, winner)
        if isinstance(strategy, Canary):
            self._check_step(told, record, at, strategy.steps[-1])
            last = told.last["state"]["step"] if told.last is not None else -1
            self.require(
                last == len(strategy.steps) - 1,
                "no promotion before its time",
                f"promotes in step {last + 1}",
            )
        elif isinstance(strategy, BlueGreen):
            self._check_step(told, record, at, Step(100, strategy.min_samples, strategy.keep_warm))
        elif isinstance(strategy, Shadow):
            self._check_step(told, record, at, Step(1, strategy.min_samples, strategy.min_duration))
        else:
            self._check_step(told, record, at, Step(1, 1, strategy.min_duration))
        decision = told.release.decision
        if decision is not None:
            self._check_decision(told, record, decision, winner)

    def _check_step(self, told: Told, record: Record, at: datetime, step: Step) -> None:
        entered = told.entered
        if entered is None:
            self.require(False, "no promotion before its time", "no step was entered")
            return
        lasted = max(at - datetime.fromisoformat(entered["at"]) - told.paused, timedelta(0))
        self.require(
            lasted >= step.min_duration,
            "no promotion before its time",
            lambda: (
                f"{record['action']} after {durations.format(lasted)}, the step takes "
                f"{durations.format(step.min_duration)}"
            ),
        )
        now = _requests(record, told.release.candidates)
        then = _requests(entered, told.release.candidates)
        self.require(
            now - then >= step.min_samples,
            "enough samples in the step",
            f"{record['action']} with {now - then} of {step.min_samples} requests",
        )

    def _check_guardrails(self, told: Told, record: Record, version: str) -> None:
        seen = evidence_json.from_json(record["evidence"], told.pairs)
        arm, theirs = seen.arms.get(version), seen.arms.get(told.champion)
        self.require(arm is not None, "no promotion without evidence", f"{version} was not measured")
        if arm is None:
            return
        for check in told.release.checks:
            if check.kind != "guardrail":
                continue
            n, events = _observed(check, arm, seen.pairs)
            self.require(
                n >= check.min_samples,
                "enough samples of every guardrail",
                f"{record['action']} with {n} of {check.min_samples} of {check.name}",
            )
            bound = METRICS[check.metric].slow_share or check.bound
            absolute = not check.relative_to_champion and check.metric not in ("scoreDistance",)
            if absolute and bound is not None and n:
                z = (events - n * bound) / math.sqrt(max(n * bound * (1 - bound), 1e-9))
                excused = False
                if theirs is not None:
                    m, their_events = _observed(check, theirs, None)
                    excused = m > 0 and their_events / m > bound
                self.require(
                    z <= SURE or excused,
                    "no promotion of known harm",
                    f"{record['action']}, {check.name} has {events} of {n}, bound {bound:g}",
                )
        found = told.harm.get(("errors", version))
        if found is not None and any(
            c.metric == "errorRate" and c.relative_to_champion for c in told.release.checks
        ):
            self.require(
                found.z <= SURE,
                "no promotion of known harm",
                f"{record['action']}, errors {found.z:.1f} sigma above the champion's",
            )

    def _check_decision(self, told: Told, record: Record, check: Check, winner: str) -> None:
        seen = evidence_json.from_json(record["evidence"], told.pairs)
        if check.metric == "brier":
            values = seen.paired.get("brier", ())
            n, mean = len(values), math.fsum(values) / max(len(values), 1)
            spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / max(n - 1, 1) / max(n, 1))
            good = n >= check.min_samples and mean + PLAUSIBLE * spread < (check.margin or 0.0)
            self.require(good, "no promotion without a passed decision", f"brier {mean:+.4f} on {n} pairs")
            return
        ours = seen.arms[winner].outcomes.get(check.name)
        champion = seen.arms.get(told.champion)
        theirs = None if champion is None else champion.outcomes.get(check.name)
        if ours is None or theirs is None or min(ours.n, theirs.n) < 2:
            self.require(False, "no promotion without a passed decision", "no outcomes of both versions")
            return
        by = (ours.z, theirs.z) if check.value_type == "ratio" else (ours.n, theirs.n)
        means = (ours.y / by[0], theirs.y / by[1])
        sign = 1 if check.direction == "increase" else -1
        rates = [m.y / m.n for m in (ours, theirs)]
        variance = sum((m.yy / m.n - rate**2) / m.n for m, rate in zip((ours, theirs), rates, strict=True))
        z = sign * (rates[0] - rates[1]) / math.sqrt(max(variance, 1e-12))
        good = sign * (means[0] - means[1]) > 0 and z > PLAUSIBLE
        enough = check.value_type == "binary" or min(ours.n, theirs.n) >= check.min_samples
        self.require(
            good and enough,
            "no promotion without a passed decision",
            f"{check.name} {means[0]:.4f} against {means[1]:.4f} (z {z:.1f}) on {ours.n} and {theirs.n}",
        )


def _requests(record: Record, versions: Sequence[str]) -> int:
    counts = record["state"]["requests"]
    return sum(counts[version]["n"] for version in versions if version in counts)


def _observed(check: Check, arm: Any, pairs: Pairs | None) -> tuple[int, int]:
    """Observations of a guardrail's metric, and how many were what it counts."""
    if check.metric == "errorRate":
        return arm.requests, arm.errors
    if check.metric == "featureSkew":
        return arm.skew_checked, arm.skew_mismatched
    if METRICS[check.metric].paired:
        return (0, 0) if pairs is None else (pairs.n, pairs.differing)
    if METRICS[check.metric].unit == "latency":
        if arm.latencies is None:
            return 0, 0
        return arm.latencies.n, 0 if check.bound is None else arm.latencies.above(check.bound)
    return arm.requests, 0
