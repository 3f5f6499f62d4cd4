"""What contradicts itself in a Release, or cannot be done where it asks for it: refused before the first request.

Each rule is a function of the release that yields problems with path, value and remedy; a document's single fields
have been read by then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta

from serving.release import admission
from serving.release.metrics import METRICS
from serving.release.reading import Problem, shown
from serving.release.release import (
    Bandit,
    BlueGreen,
    Canary,
    Check,
    Experiment,
    Named,
    Release,
    Shadow,
    strategy_name,
)

#: What each backend carries out, the usual one first; anything else is refused, never silently ignored.
SUPPORTED: Mapping[str, tuple[str, ...]] = {
    "local": ("canary", "blueGreen", "shadow", "experiment", "bandit"),
    "gateway": ("canary", "blueGreen", "shadow", "experiment", "bandit"),
    "kserve": ("canary",),
    "knative": ("canary",),
}

_WHY_NOT: Mapping[str, str] = {
    "kserve": "KServe's canary is two weights without mirroring, matches or assignment, and its candidate cannot be "
    "asked before users do",
    "knative": "canaryTrafficPercent is two weights without mirroring, matches or assignment, and its candidate cannot "
    "be asked before users do",
}

Found = Iterator[Problem]


def contradictions(release: Release) -> list[Problem]:
    """Every rule that `release` breaks."""
    return [problem for rule in _RULES for problem in rule(release)]


def _problem(path: str, value: object, remedy: str) -> Problem:
    return Problem(path, shown(value), remedy)


# --- versions


#: What Kubernetes takes for a name, and what is safe as a file's, a host's and a cluster's.
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")

#: Names of checks that the engine adds itself, and a key of its own.
RESERVED = ("requests", "sampleRatio", "novelty", "smoke", "servers", "backend")


def _names(release: Release) -> Found:
    remedy = "use up to 63 letters, digits, dots, dashes and underscores, a letter or digit at both ends"
    named = [("metadata.name", release.name), ("spec.model", release.model)]
    field = "spec.candidate" if len(release.candidates) == 1 else "spec.candidates"
    named += [(field, version) for version in release.candidates]
    if release.champion is not None:
        named.append(("spec.champion", release.champion))
    for path, value in named:
        if not _NAME.fullmatch(value):
            yield _problem(path, value, remedy)
    for index, check in enumerate(release.checks):
        if check.name in RESERVED or "@" in check.name:
            yield _problem(
                f"spec.checks[{index}].name", check.name, "is a name of the engine's own; choose another"
            )


def _versions(release: Release) -> Found:
    if release.champion is not None and release.champion in release.candidates:
        path = "spec.candidate" if len(release.candidates) == 1 else "spec.candidates"
        yield _problem(path, release.champion, "is the champion itself; name another version")
    for version in dict.fromkeys(release.candidates):
        if release.candidates.count(version) > 1:
            yield _problem("spec.candidates", version, "is listed twice; name each version once")


# --- backends


def _backend(release: Release) -> Found:
    kind, backend = strategy_name(release.strategy), release.backend
    if kind not in SUPPORTED[backend]:
        able = ", ".join(SUPPORTED[backend])
        why = _WHY_NOT.get(backend, "")
        yield _problem(
            "spec.strategy.type",
            kind,
            f"backend {backend} cannot do it ({why}); it can do: {able}; or use gateway",
        )
    if release.gateway is not None and backend != "gateway":
        yield _problem(
            "spec.gateway", release.gateway.name, f"backend {backend} has no Gateway; leave it out"
        )
    strategy = release.strategy
    if isinstance(strategy, Experiment) and backend == "gateway":
        extension = None if release.gateway is None else release.gateway.extension
        if extension is None:
            yield _problem(
                "spec.gateway.extension",
                extension,
                "assigning units needs an extension of the Gateway; state extension: envoyGateway where it is one",
            )
    if isinstance(strategy, Canary) and strategy.mirror and backend != "local":
        yield _problem(
            "spec.strategy.mirror",
            True,
            f"backend {backend} cannot copy each version's requests to the other; use strategy shadow first, "
            "or backend local",
        )
    if isinstance(strategy, Canary) and strategy.match is not None and backend in ("kserve", "knative"):
        yield _problem(
            "spec.strategy.match", strategy.match.name, f"backend {backend} routes by weight alone"
        )
    if backend != "local":
        for index, check in enumerate(release.checks):
            if check.source == "envoy":
                yield _problem(
                    f"spec.checks[{index}].source",
                    "envoy",
                    f"the access log is the local backend's; on {backend} use prometheus",
                )


# --- strategies


def _canary(release: Release) -> Found:
    if not isinstance(release.strategy, Canary):
        return
    steps = release.strategy.steps
    for index in range(1, len(steps)):
        weight, before = steps[index].weight, steps[index - 1].weight
        if weight <= before:
            yield _problem(
                f"spec.strategy.steps[{index}].weight",
                weight,
                f"weights must rise; the step before has {before}",
            )
    needs_champion = [c.name for c in release.checks if c.relative_to_champion or c.kind != "guardrail"]
    if needs_champion and any(step.weight == 100 for step in steps):
        yield _problem(
            "spec.strategy.steps",
            [step.weight for step in steps],
            f"a step of 100 leaves no champion traffic for {', '.join(needs_champion)} to compare with; "
            "end below 100, promotion gives the candidate the rest",
        )
    if release.strategy.match is not None:
        yield from _named(release.strategy.match, "spec.strategy.match", with_value=True)


def _blue_green(release: Release) -> Found:
    if not isinstance(release.strategy, BlueGreen):
        return
    for index, check in enumerate(release.checks):
        if check.relative_to_champion or check.kind != "guardrail" or METRICS[check.metric].unit == "value":
            yield _problem(
                f"spec.checks[{index}]",
                check.name,
                "compares with the champion's concurrent requests, and blueGreen leaves it none; give the check a "
                "bound without relativeToChampion, or use canary",
            )


def _shadow(release: Release) -> Found:
    if not isinstance(release.strategy, Shadow):
        return
    for index, check in enumerate(release.checks):
        if METRICS[check.metric].unit == "value" and not METRICS[check.metric].paired:
            yield _problem(
                f"spec.checks[{index}].metric",
                check.metric,
                "nobody acts on a shadow's answers, so they earn nothing; use disagreement, scoreDistance or brier",
            )
        elif check.source in ("envoy", "prometheus"):
            yield _problem(
                f"spec.checks[{index}].source",
                check.source,
                "nobody waits for a copy, so no access log knows it; use predictions, which joins both versions' "
                "answers by request id",
            )


def _experiment(release: Release) -> Found:
    strategy = release.strategy
    if not isinstance(strategy, Experiment):
        return
    yield from _named(strategy.unit, "spec.strategy.unit", with_value=False)
    allocation = dict(strategy.allocation)
    total = sum(allocation.values())
    if total != 100:
        yield _problem("spec.strategy.allocation", allocation, f"sums to {total}; make it 100")
    for version in release.candidates:
        if not allocation.get(version):
            yield _problem("spec.strategy.allocation", allocation, f"gives candidate {version} nothing")
    others = [version for version in allocation if version not in release.candidates]
    if release.champion is None or others != [release.champion]:
        yield _problem(
            "spec.strategy.allocation",
            allocation,
            f"must name the candidates and the champion and no other (champion: {release.champion or 'not stated'}); "
            "state spec.champion and give it a share",
        )
    elif allocation[release.champion] == 0:
        yield _problem("spec.strategy.allocation", allocation, "gives the champion nothing to compare with")
    if strategy.min_duration >= strategy.max_duration:
        yield _problem(
            "spec.strategy.minDuration", str(strategy.min_duration), "must be shorter than maxDuration"
        )
    if strategy.period <= timedelta(0):
        yield _problem(
            "spec.strategy.period", str(strategy.period), "must be longer than nothing, for example 1d"
        )


def _bandit(release: Release) -> Found:
    strategy = release.strategy
    if not isinstance(strategy, Bandit):
        return
    arms = len(release.candidates) + 1
    if strategy.floor * arms > 100:
        yield _problem(
            "spec.strategy.floor",
            strategy.floor,
            f"{arms} versions cannot keep it; give at most {100 // arms}",
        )
    if strategy.update <= timedelta(0):
        yield _problem(
            "spec.strategy.update", str(strategy.update), "must be longer than nothing, for example 1m"
        )
    if strategy.min_duration >= strategy.max_duration:
        yield _problem(
            "spec.strategy.minDuration", str(strategy.min_duration), "must be shorter than maxDuration"
        )
    if strategy.context is not None:
        fault = admission.fault_of_name("header", strategy.context.header)
        if fault is not None:
            yield _problem("spec.strategy.context.header", strategy.context.header, fault)
        for value in strategy.context.values:
            fault = admission.fault_of_value("header", value)
            if fault is not None:
                yield _problem("spec.strategy.context.values", value, fault)
    if strategy.context is not None and len(set(strategy.context.values)) < 2:
        yield _problem(
            "spec.strategy.context.values",
            list(strategy.context.values),
            "give at least two different values",
        )
    decision = release.decision
    if decision is not None and decision.metric == "reward" and decision.value_type == "ratio":
        yield _problem(
            "spec.checks",
            decision.name,
            "a bandit learns from one number a request; use binary or continuous",
        )


def _named(named: Named, path: str, *, with_value: bool) -> Found:
    if (named.header is None) == (named.cookie is None):
        yield _problem(path, named.name, "name either a header or a cookie: {header: x-user-id}")
    elif (fault := admission.fault_of_name(named.kind, named.name)) is not None:
        yield _problem(f"{path}.{named.kind}", named.name, fault)
    if with_value and not named.value:
        yield _problem(f"{path}.value", named.value, "give the value that is meant")
    elif with_value and (fault := admission.fault_of_value(named.kind, named.value or "")) is not None:
        yield _problem(f"{path}.value", named.value, fault)
    if not with_value and named.value is not None:
        yield _problem(f"{path}.value", named.value, "every value is a unit; leave it out")


# --- checks


def _checks(release: Release) -> Found:
    names = [check.name for check in release.checks]
    for index, check in enumerate(release.checks):
        if names.count(check.name) > 1:
            yield _problem(
                f"spec.checks[{index}].name", check.name, "two checks have this name; give each its own"
            )
        yield from _check(release, index, check)
    if not any(check.kind == "guardrail" for check in release.checks):
        yield _problem(
            "spec.checks",
            names,
            "no guardrail: nothing could stop a bad candidate; add errorRate, latencyP99 or featureSkew",
        )
    answers = {
        check.source: check.name for check in release.checks if check.metric in ("errorRate", *_LATENCIES)
    }
    if len(answers) > 1:
        yield _problem(
            "spec.checks",
            list(answers.values()),
            f"count the same answers by {' and '.join(answers)}, which never agree to the request; use one source",
        )
    decisions = [check.name for check in release.checks if check.kind == "decision"]
    if len(decisions) > 1:
        yield _problem(
            "spec.checks", decisions, "more than one decision; keep one, the rest as guardrails or secondary"
        )
    if not decisions and isinstance(release.strategy, Experiment | Bandit):
        yield _problem(
            "spec.checks",
            names,
            f"an {strategy_name(release.strategy)} needs a decision metric; add one, for example "
            "{name: reward, kind: decision, metric: reward, source: feedback}",
        )


def _check(release: Release, index: int, check: Check) -> Found:
    metric, strategy = METRICS[check.metric], release.strategy
    mirrored = isinstance(strategy, Shadow) or (isinstance(strategy, Canary) and strategy.mirror)
    if metric.paired and not mirrored:
        yield _problem(
            f"spec.checks[{index}].metric",
            check.metric,
            "pairs both versions' scores of one request; set strategy.mirror to true, or use shadow",
        )
    if check.covariate and not isinstance(strategy, Experiment):
        yield _problem(
            f"spec.checks[{index}].covariate",
            True,
            "a pre-period covariate belongs to a unit; use experiment",
        )
    if check.source == "predictions" and not mirrored and check.metric in ("errorRate", *_LATENCIES):
        yield _problem(
            f"spec.checks[{index}].source",
            "predictions",
            "a failed request leaves no prediction; use envoy (prometheus on a cluster)",
        )
    if check.minimum_detectable_effect == 0:
        yield _problem(
            f"spec.checks[{index}].minimumDetectableEffect", 0, "give a percentage above 0, for example 5"
        )


_LATENCIES = ("latencyP50", "latencyP95", "latencyP99")

_RULES: tuple[Callable[[Release], Found], ...] = (
    _names,
    _versions,
    _backend,
    _canary,
    _blue_green,
    _shadow,
    _experiment,
    _bandit,
    _checks,
)
