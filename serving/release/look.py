"""One look at the evidence: every check's verdict, what the checks remember from now on, what happened meanwhile."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from serving.release import checks, counts, effects
from serving.release.counts import ArmCounts, Counts
from serving.release.decision import Action, Decision
from serving.release.evidence import ArmEvidence, Evidence, Pairs
from serving.release.metrics import METRICS
from serving.release.release import Bandit, Check, Experiment
from serving.release.state import Memory, Ratio, ReleaseState
from serving.release.statistics import arms, tail
from serving.release.statistics.moments import Moments
from serving.release.verdict import Verdict

#: All versions failing at this share of the requests of a window, of this many of each, is an outage.
OUTAGE_SHARE = 0.2
OUTAGE_REQUESTS = 20

_NO_ARM = ArmEvidence()


@dataclass(frozen=True)
class Obstacle:
    """Why a release stays where it is.

    Attributes:
        alert: news for a person; the same for as long as the obstacle is.
        planned: the wait is part of the plan and no lack of progress.
    """

    check: str | None
    reason: str
    alert: str | None = None
    planned: bool = False


@dataclass(frozen=True)
class Look:
    """One look at the evidence.

    Attributes:
        state: with the memory as it is after this look.
        shared: names of guardrails that the champion fails no less than the candidate.
    """

    state: ReleaseState
    evidence: Evidence
    now: datetime
    verdicts: tuple[Verdict, ...]
    shared: tuple[str, ...] = ()
    by_name: Mapping[tuple[str, str | None], Verdict] = field(default_factory=dict)

    def verdict(self, check: str, version: str | None = None) -> Verdict:
        """The verdict of a check of a candidate (of the whole release where no version is given)."""
        return self.by_name[(check, version)]

    @property
    def answered(self) -> int:
        """Requests that the candidates answered so far."""
        return sum(self.state.seen(version).n for version in self.state.release.candidates)

    def decide(self, action: Action, reason: str, state: ReleaseState | None = None, **more: Any) -> Decision:
        return Decision(
            action,
            reason,
            self.now,
            state if state is not None else self.state,
            verdicts=self.verdicts,
            requests=self.answered,
            evidence=self.evidence,
            **more,
        )


def look(state: ReleaseState, evidence: Evidence, now: datetime) -> Look:
    """Judge every check of every candidate that is still in."""
    release = state.release
    seen, backwards = _requests(state, evidence)
    window, outage = _outage(state, seen)
    memory = dict(state.memory)
    if state.outage and not outage and state.rules > 1:
        memory = {key: recovered(held) for key, held in memory.items()}
    verdicts: list[Verdict] = []
    shared: list[str] = []
    for check in release.checks:
        for version in _judged(state, check):
            key = state.key(check.name, version)
            judging = _Judging(state, check, version, evidence, bool(outage))
            counts_answers = check.metric == "errorRate" or METRICS[check.metric].unit == "latency"
            fault = backwards if counts_answers or (state.rules == 1 and check.kind == "guardrail") else None
            memory[key], verdict, excused = judging.judge(memory.get(key, Memory()), fault)
            if excused:
                shared.append(check.name)
            verdicts.append(replace(verdict, version=version))
    verdicts = _with_secondary(release.checks, verdicts)
    verdicts += _steadiness(state, evidence)
    ratio, ratio_verdict = _ratio(state, seen, evidence)
    verdicts.append(ratio_verdict)
    memory = {key: held for key, held in memory.items() if held != Memory()}
    after = replace(
        state,
        requests=seen,
        window=window,
        outage=outage,
        memory=memory,
        ratio=ratio,
    )
    by_name = {(v.check, v.version): v for v in verdicts}
    return Look(after, evidence, now, tuple(verdicts), tuple(dict.fromkeys(shared)), by_name)


def _judged(state: ReleaseState, check: Check) -> tuple[str, ...]:
    """Versions that a check judges: the candidates, and in a bandit the champion too, whose weight may be zero."""
    bandit = isinstance(state.release.strategy, Bandit)
    if not bandit or check.kind != "guardrail" or check.metric == "reward" or state.champion in state.dropped:
        return state.candidates
    return (*state.candidates, state.champion)


def _pooled(arms: Sequence[ArmEvidence]) -> ArmEvidence:
    latencies = [arm.latencies for arm in arms if arm.latencies is not None]
    return ArmEvidence(
        requests=sum(arm.requests for arm in arms),
        errors=sum(arm.errors for arm in arms),
        latencies=None if not latencies else functools.reduce(operator.add, latencies),
    )


@dataclass(frozen=True)
class _Judging:
    """One check of one candidate at one look."""

    state: ReleaseState
    check: Check
    version: str
    evidence: Evidence
    outage: bool

    @property
    def alpha(self) -> float:
        # whoever may be stopped by chance shares the chance
        return self.check.alpha / len(_judged(replace(self.state, dropped={}), self.check))

    def judge(self, memory: Memory, fault: str | None) -> tuple[Memory, Verdict, bool]:
        """The memory after this look, the verdict, and whether the champion shares the failure."""
        check = self.check
        reason = self.evidence.silent.get(check.source)
        if reason is not None:
            return memory, checks.silent(check, reason), False
        fault = self.evidence.faults.get(check.metric) or fault or self._fault(memory)
        if fault is not None:
            return memory, checks.unusable(check, fault), False
        excused = False
        if METRICS[check.metric].paired:
            memory, verdict = self._paired(memory)
        elif check.metric == "reward":
            memory, verdict = self._reward(memory)
        elif METRICS[check.metric].unit == "latency" and check.bound is None:
            memory, verdict = self._tail(memory)
        else:
            memory, verdict, excused = self._rates(memory)
        missing = self._arms[0].silent.get(check.metric)
        if missing is not None and verdict.outcome != "FAIL":
            # what has failed already fails whatever else is not known
            verdict = checks.silent(check, missing)
        if verdict.outcome == "PASS" and verdict.n < check.min_samples:
            verdict = replace(verdict, outcome="INCONCLUSIVE")
        return memory, verdict, excused

    @property
    def _arms(self) -> tuple[ArmEvidence, ArmEvidence]:
        arms, champion = self.evidence.arms, self.state.champion
        ours = arms.get(self.version, _NO_ARM)
        if isinstance(self.state.release.strategy, Bandit) and self.check.metric != "reward":
            # the champion may have few requests, or be the one that fails: each is held to all others together,
            # those that are out included, since counts must not go backwards
            everybody = (*self.state.release.candidates, champion)
            return ours, _pooled(
                [arms.get(version, _NO_ARM) for version in everybody if version != self.version]
            )
        return ours, arms.get(champion, _NO_ARM)

    def _counts(self) -> ArmCounts:
        ours, theirs = self._arms
        check = self.check
        return ArmCounts(counts.of_arm(check, ours, check.bound), counts.of_arm(check, theirs, check.bound))

    def _fault(self, memory: Memory) -> str | None:
        metric = METRICS[self.check.metric]
        if self.check.metric == "brier":
            return counts.difference_fault(self.evidence.paired.get("brier", ()))
        if metric.paired:
            return counts.pairs_fault(self._pairs)
        if metric.unit == "value":
            return None
        try:
            found = self._counts()
        except ValueError as error:
            return str(error)
        fault = counts.fault_of("candidate", found.candidate) or counts.fault_of("champion", found.champion)
        # offline rows may be corrected, and fewer vectors differ from them then
        corrected = self.check.metric == "featureSkew" and self.state.rules > 2
        if fault is not None or self.state.rules == 1 or corrected:
            return fault
        return counts.backwards(memory.comparison.seen, found)

    def _rates(self, memory: Memory) -> tuple[Memory, Verdict, bool]:
        check, now = self.check, self._counts()
        if check.metric == "featureSkew":
            return self._skew(memory)
        if check.relative_to_champion or self.state.rules > 1:
            memory = replace(memory, comparison=checks.compare(check, memory.comparison, now))
        if check.relative_to_champion:
            return *self._relative(memory, now), False
        if self.state.rules == 1:
            return memory, checks.judge_rate(check, now.candidate, self.alpha), False
        # what was answered while all versions failed says nothing of a version, then or later
        new = now - memory.last
        memory = replace(memory, last=now, excused=memory.excused + new if self.outage else memory.excused)
        judged = now - memory.excused
        # unless it fails far more than the others do
        alone = self.outage and checks.harms(memory.comparison, self.alpha)
        verdict = checks.judge_rate(check, now.candidate if alone else judged.candidate, self.alpha)
        excused = checks.shared_fault(check, verdict, judged.champion, memory.comparison, outage=self.outage)
        return memory, excused, excused is not verdict

    def _skew(self, memory: Memory) -> tuple[Memory, Verdict, bool]:
        """Vectors that differ; versions read one online store, so that a stale one is no fault of the candidate's."""
        check, champion, arms = self.check, self.state.champion, self.evidence.arms
        ours = arms.get(self.version, _NO_ARM)
        others = (champion,) if self.version != champion else self.state.release.candidates
        theirs = [counts.of_arm(check, arms.get(version, _NO_ARM), None) for version in others]
        now = ArmCounts(counts.of_arm(check, ours, None), functools.reduce(operator.add, theirs))
        verdict = checks.judge_rate(check, now.candidate, self.alpha)
        verdict = checks.with_inputs(verdict, ours.skew_by_input)
        if self.state.rules < 3:
            return memory, verdict, False
        told = (arms.get(version, _NO_ARM).silent.get(check.metric) for version in others)
        lacking = next(filter(None, told), None)
        if lacking is not None and now.champion.n < check.min_samples and verdict.outcome == "FAIL":
            # whether the online store is stale for all is not known
            return memory, checks.silent(check, f"nothing is known of others: {lacking}"), False
        if not now.champion.n:
            return memory, verdict, False
        if counts.backwards(memory.comparison.seen, now) is not None:
            memory = Memory()
        memory = replace(memory, comparison=checks.compare(check, memory.comparison, now))
        excused = checks.shared_fault(check, verdict, now.champion, memory.comparison)
        return memory, excused, excused is not verdict

    def _relative(self, memory: Memory, now: ArmCounts) -> tuple[Memory, Verdict]:
        check, champion = self.check, self.state.champion
        forgive = METRICS[check.metric].unit == "latency" and self.state.rules > 1
        bandit = isinstance(self.state.release.strategy, Bandit)
        if not bandit or self.version == champion or len(self.state.release.candidates) == 1:
            return memory, checks.judge_comparison(
                check, memory.comparison, now, self.alpha, forgive_a_spell=forgive
            )
        # of two bad candidates each hides the other among "all others": half of alpha for the champion alone
        alpha, theirs = self.alpha / 2, self.evidence.arms.get(champion, _NO_ARM)
        alone = replace(now, champion=counts.of_arm(check, theirs, check.bound))
        memory = replace(memory, alone=checks.compare(check, memory.alone, alone))
        first = checks.judge_comparison(check, memory.comparison, now, alpha, forgive_a_spell=forgive)
        second = checks.judge_comparison(check, memory.alone, alone, alpha, forgive_a_spell=forgive)
        return memory, second if second.outcome == "FAIL" and first.outcome != "FAIL" else first

    def _tail(self, memory: Memory) -> tuple[Memory, Verdict]:
        ours, theirs = self._arms
        if ours.latencies is None or theirs.latencies is None:
            missing = "the candidate" if ours.latencies is None else "the champion"
            return memory, checks.silent(self.check, f"no latencies of {missing}")
        try:
            seen = tail.look(
                memory.tail or tail.Tail(), ours.latencies, theirs.latencies, checks.excess(self.check)
            )
        except ValueError as error:  # other buckets than before
            return memory, checks.unusable(self.check, str(error))
        verdict = checks.judge_tail(self.check, seen, ours.latencies, theirs.latencies, self.alpha)
        return replace(memory, tail=seen), verdict

    def _paired(self, memory: Memory) -> tuple[Memory, Verdict]:
        check = self.check
        if check.metric == "brier":
            return memory, checks.judge_pairs(check, self.evidence.paired.get("brier", ()))
        pairs = self._pairs
        if check.metric == "disagreement":
            return memory, checks.judge_rate(check, Counts(pairs.n, pairs.differing), self.alpha)
        return memory, checks.judge_distance(check, pairs, self.alpha)

    @property
    def _pairs(self) -> Pairs:
        return self.evidence.pairs or Pairs()

    def _reward(self, memory: Memory) -> tuple[Memory, Verdict]:
        ours, theirs = self._arms
        check = self.check
        try:
            effect, verdict = effects.judge(
                check,
                len(self.state.release.candidates),
                memory.effect,
                ours.outcomes.get(check.name, Moments()),
                theirs.outcomes.get(check.name, Moments()),
            )
        except ValueError as error:
            return memory, checks.unusable(check, str(error))
        if isinstance(self.state.release.strategy, Bandit) and check.value_type != "binary":
            # weights that follow the rewards bias plain means; the bets of a binary metric compare within a look
            note = (
                f"{verdict.reason} (means of adaptively collected data are biased: reported, never decisive)"
            )
            verdict = replace(verdict, outcome="INCONCLUSIVE", reason=note)
        return replace(memory, effect=effect), verdict


def _requests(state: ReleaseState, evidence: Evidence) -> tuple[dict[str, Counts], str | None]:
    """What every version answered so far, and why the evidence cannot be used where it went backwards."""
    before = state.requests
    seen: dict[str, Counts] = {}
    for version in (*state.release.candidates, state.champion):
        arm = evidence.arms.get(version)
        if arm is None and evidence.silent:
            seen[version] = before.get(version, Counts())
        else:
            seen[version] = Counts(0 if arm is None else arm.requests, 0 if arm is None else arm.errors)
    if any(seen[version].n < before.get(version, Counts()).n for version in seen):
        gone = f"the evidence went backwards: {shown(before)} requests, now {shown(seen)}"
        return {version: before.get(version, Counts()) for version in seen}, gone
    return seen, None


def _outage(
    state: ReleaseState, seen: Mapping[str, Counts]
) -> tuple[Mapping[str, Counts], Mapping[str, Counts]]:
    """Where the window of the next look begins, and what all versions answered in the last one if all failed.

    A version is judged by `OUTAGE_REQUESTS` of its requests; until it has them, what the window before showed holds,
    so that an outage is neither missed by looks that come often nor forgotten by one that saw nothing new.
    """
    begun = state.requests if state.rules == 1 else state.window
    answered = {
        version: seen[version] - begun.get(version, Counts())
        for version in seen
        if version not in state.dropped
    }
    if state.rules > 1 and any(not 0 <= arm.events <= arm.n for arm in (*seen.values(), *answered.values())):
        return state.window, state.outage  # nonsense is the end of no outage
    judged = [arm for arm in answered.values() if arm.n >= OUTAGE_REQUESTS]
    if any(arm.events < OUTAGE_SHARE * arm.n for arm in judged):
        return dict(seen), {}
    if len(judged) < len(answered):
        return state.window, {} if state.rules == 1 else state.outage
    return dict(seen), answered


def recovered(memory: Memory) -> Memory:
    """What a check remembers when what the versions had in common is over: an outage, or another that fails as well."""
    comparison = replace(memory.comparison, harm=arms.rebalanced(memory.comparison.harm))
    alone = replace(memory.alone, harm=arms.rebalanced(memory.alone.harm))
    after = memory.tail and replace(memory.tail, harm=arms.rebalanced(memory.tail.harm))
    return replace(memory, comparison=comparison, alone=alone, tail=after)


def _with_secondary(all_checks: tuple[Check, ...], verdicts: list[Verdict]) -> list[Verdict]:
    levels = [check.alpha for check in all_checks if check.kind == "secondary"]
    if not levels:
        return verdicts
    judged = [
        v for v in verdicts if v.kind == "secondary" and v.outcome != "ERROR" and v.evidence is not None
    ]
    marked = dict(
        zip(((v.check, v.version) for v in judged), effects.secondary(judged, min(levels)), strict=True)
    )
    return [marked.get((v.check, v.version), v) for v in verdicts]


def _steadiness(state: ReleaseState, evidence: Evidence) -> list[Verdict]:
    """Of an experiment, whether each candidate's effect lasts."""
    decision = state.release.decision
    if (
        not isinstance(state.release.strategy, Experiment)
        or decision is None
        or decision.source in evidence.silent
    ):
        return []
    champion = evidence.arms.get(state.champion, _NO_ARM).periods.get(decision.name, ())
    found = []
    for version in state.candidates:
        ours = evidence.arms.get(version, _NO_ARM).periods.get(decision.name, ())
        try:
            verdict = effects.steadiness(decision, len(state.release.candidates), ours, champion)
        except ValueError as error:
            verdict = replace(checks.unusable(decision, str(error)), check=effects.NOVELTY, kind="integrity")
        found.append(replace(verdict, version=version))
    return found


def _ratio(state: ReleaseState, requests: Mapping[str, Counts], evidence: Evidence) -> tuple[Ratio, Verdict]:
    order = (*state.release.candidates, state.champion)
    units = [evidence.arms.get(version, _NO_ARM).units for version in order]
    # an experiment assigns units, and a unit may ask as often as it likes
    found = tuple(
        requests[version].n if unit is None else unit for version, unit in zip(order, units, strict=True)
    )
    ratio = state.ratio
    known = evidence.arms
    uncounted = any(state.weights.get(v) and (v not in known or known[v].down) for v in order)
    if uncounted and state.rules > 2:
        pass  # requests that nobody counted are not none: a version that is left out may have got its share
    elif not ratio.base and requests == state.requests:
        pass  # nothing new since the weights changed: the same evidence again must change nothing
    elif not ratio.base:
        ratio = replace(ratio, base=found, counts=(0,) * len(found))
    else:
        ratio = replace(ratio, counts=tuple(now - base for now, base in zip(found, ratio.base, strict=True)))
    log_evidence = ratio.settled + step_log_evidence(state, ratio)
    return ratio, checks.judge_ratio(log_evidence, sum(ratio.counts))


def step_log_evidence(state: ReleaseState, ratio: Ratio) -> float:
    """Evidence that this step's requests were not split as decided; none where a header's value decides."""
    if not ratio.counts or state.traffic.segments is not None or min(ratio.counts) < 0:
        return 0.0
    order = (*state.release.candidates, state.champion)
    return checks.ratio_log_evidence(ratio.counts, tuple(state.weights.get(version, 0) for version in order))


def shown(requests: Mapping[str, Counts]) -> str:
    """Requests by version, in words."""
    return " and ".join(str(found.n) for found in requests.values()) or "no"
