"""The Release document, read from YAML and written back; the same document is a custom resource elsewhere.

Everything that can be known to be wrong before the first request is refused here, with path, value and remedy.
The values it becomes are in `release.py`; reading a plain mapping is in `reading.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from serving.release import durations
from serving.release.reading import Problem, Reader, SpecError
from serving.release.release import (
    BACKENDS,
    KINDS,
    SOURCES,
    STRATEGIES,
    SUPPORTED,
    Canary,
    Check,
    Release,
    Step,
)

__all__ = [
    "Canary",
    "Check",
    "Problem",
    "Release",
    "SpecError",
    "Step",
    "document",
    "for_candidate",
    "loads",
    "parse",
]


def parse(document: Any) -> Release:
    """Read a Release from the mapping that YAML gives.

    Raises:
        SpecError: with every problem that was found.
    """
    problems: list[Problem] = []
    root = Reader("", document, problems)
    root.choice("apiVersion", ("windlass.dev/v1alpha1",), default="windlass.dev/v1alpha1")
    root.choice("kind", ("Release",))
    metadata = root.child("metadata")
    name = metadata.text("name", remedy="name the release, for example flights-13")
    metadata.finish(known=("labels", "annotations", "namespace"))
    spec = root.child("spec")
    root.finish(known=("status",))
    release = _spec(name, spec, problems)
    if problems:
        shown = name if isinstance(name, str) else "without a name"
        raise SpecError(f"release {shown!r}", problems)
    return release


def loads(text: str) -> Release:
    """Read a Release from YAML (JSON is YAML).

    Raises:
        SpecError: the text is no YAML, or no Release.
    """
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        problem = Problem("document", repr(text[:40]), f"is not YAML: {' '.join(str(error).split())}")
        raise SpecError("release", [problem]) from error
    return parse(document)


def for_candidate(
    template: Mapping[str, Any],
    *,
    name: str,
    model: str,
    candidate: str,
    champion: str | None,
    backend: str = "local",
) -> Release:
    """Complete a workload's or a RetrainPolicy's `release` block (strategy, checks) into a Release."""
    spec: dict[str, Any] = {**template, "model": model, "candidate": candidate, "backend": backend}
    if champion is not None:
        spec["champion"] = champion
    return parse({"kind": "Release", "metadata": {"name": name}, "spec": spec})


def document(release: Release) -> dict[str, Any]:
    """The document that `parse` reads back as the same Release."""
    spec: dict[str, Any] = {"model": release.model, "candidate": release.candidate}
    if release.champion is not None:
        spec["champion"] = release.champion
    spec["backend"] = release.backend
    spec["strategy"] = {
        "type": "canary",
        "steps": [
            {"weight": s.weight, "minSamples": s.min_samples, "minDuration": durations.format(s.min_duration)}
            for s in release.strategy.steps
        ],
        "mirror": release.strategy.mirror,
    }
    spec["checks"] = [_check_document(check) for check in release.checks]
    spec["onConflict"] = release.on_conflict
    spec["inconclusiveAfter"] = durations.format(release.inconclusive_after)
    spec["whenInconclusive"] = release.when_inconclusive
    return {
        "apiVersion": "windlass.dev/v1alpha1",
        "kind": "Release",
        "metadata": {"name": release.name},
        "spec": spec,
    }


def _check_document(check: Check) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": check.name,
        "kind": check.kind,
        "metric": check.metric,
        "source": check.source,
        "alpha": check.alpha,
        "minSamples": check.min_samples,
    }
    if check.kind == "decision":
        found["method"] = check.method
        if check.margin is not None:
            found["margin"] = check.margin
    elif check.metric != "featureSkew":
        found["relativeToChampion"] = check.relative_to_champion
    if check.bound is not None:
        # ten digits are far below any bound's meaning, and make percent -> share -> percent the identity
        shown = round(check.bound * 100, 10)
        found["bound"] = f"{check.bound:g}ms" if check.metric == "latencyP99" else shown
    return found


def _spec(name: str, spec: Reader, problems: list[Problem]) -> Release:
    model = spec.text("model", remedy="name the registered model")
    candidate = spec.text("candidate", remedy='give the version to release, for example "13"')
    if spec.raw("candidates") is not None:
        spec.report("candidates", spec.raw("candidates"), "a canary has one candidate; state it as candidate")
    champion = spec.text("champion", None, remedy="give a version, or leave it out for the champion alias")
    if champion is not None and champion == candidate:
        spec.report("candidate", candidate, "is the champion itself; name another version")
    backend = spec.choice("backend", BACKENDS, default="local")
    if backend not in SUPPORTED:
        spec.report("backend", backend, "not available yet; use " + ", ".join(SUPPORTED))
    canary = _strategy(spec.child("strategy"), backend)
    checks = _checks(spec, canary)
    release = Release(
        name=name,
        model=model,
        candidate=candidate,
        strategy=canary,
        checks=checks,
        champion=champion,
        backend=backend,
        on_conflict=spec.choice("onConflict", ("refuse", "queue"), default="refuse"),  # type: ignore[arg-type]
        inconclusive_after=spec.duration("inconclusiveAfter", timedelta(hours=24)),
        when_inconclusive=spec.choice("whenInconclusive", ("hold", "abort"), default="hold"),  # type: ignore[arg-type]
    )
    spec.finish()
    return release


def _strategy(strategy: Reader, backend: str) -> Canary:
    kind = strategy.choice("type", STRATEGIES)
    if kind in STRATEGIES and kind not in SUPPORTED.get(backend, ("canary",)):
        able = ", ".join(SUPPORTED[backend])
        strategy.report("type", kind, f"not available yet on backend {backend}; it can do: {able}")
        return Canary(())
    steps: list[Step] = []
    remedy = "give at least one step, for example [{weight: 10, minSamples: 500}]"
    for reader in strategy.children("steps", remedy):
        weight = reader.integer("weight", 1, 100)
        if isinstance(weight, int) and steps and weight <= steps[-1].weight:
            reader.report("weight", weight, f"weights must rise; the step before has {steps[-1].weight}")
        min_samples = reader.integer("minSamples", 1, None, default=100)
        min_duration = reader.duration("minDuration", timedelta(0))
        reader.finish()
        if isinstance(weight, int):
            steps.append(Step(weight, min_samples, min_duration))
    mirror = strategy.flag("mirror")
    strategy.finish()
    return Canary(tuple(steps), mirror)


def _checks(spec: Reader, canary: Canary) -> tuple[Check, ...]:
    readers = spec.children("checks", "state at least one guardrail, for example errorRate")
    checks = [_check(reader) for reader in readers]
    names = [check.name for check in checks]
    for reader, check in zip(readers, checks, strict=True):
        if names.count(check.name) > 1:
            reader.report("name", check.name, "two checks have this name; give each its own")
        if check.metric == "brier" and not canary.mirror:
            reader.report(
                "metric", "brier", "pairs both versions' scores of one request; set strategy.mirror to true"
            )
    if checks and not any(check.kind == "guardrail" for check in checks):
        spec.report(
            "checks",
            names,
            "no guardrail: nothing could stop a bad candidate; add errorRate, latencyP99 or featureSkew",
        )
    if sum(check.kind == "decision" for check in checks) > 1:
        spec.report("checks", names, "more than one decision; keep one, the rest as guardrails")
    needs_champion = [c.name for c in checks if c.relative_to_champion or c.kind == "decision"]
    if needs_champion and any(step.weight == 100 for step in canary.steps):
        spec.report(
            "strategy.steps",
            [step.weight for step in canary.steps],
            f"a step of 100 leaves no champion traffic for {', '.join(needs_champion)} to compare with; "
            "end below 100, promotion gives the candidate the rest",
        )
    return tuple(checks)


def _check(reader: Reader) -> Check:
    name = reader.text("name", remedy="name the check")
    metric: Any = reader.choice("metric", tuple(KINDS))
    kind: Any = reader.choice("kind", ("guardrail", "decision"))
    known = metric in KINDS
    if known and kind in ("guardrail", "decision") and kind != KINDS[metric]:
        reader.report("kind", kind, f"{metric} is a {KINDS[metric]}")
    source = reader.choice("source", SOURCES[metric] if known else ("envoy", "predictions", "feedback"))
    usual = 0.05 if kind == "decision" else 0.01
    alpha = reader.number("alpha", 0, 1, usual, remedy="give a level between 0 and 1, for example 0.01")
    relative = False
    bound: float | None = None
    margin: float | None = None
    method: Any = "betting"
    if metric in ("errorRate", "latencyP99"):
        relative = reader.flag("relativeToChampion")
    if metric == "latencyP99":
        limit = reader.duration("bound")
        bound = limit / timedelta(milliseconds=1) if isinstance(limit, timedelta) else None
    elif metric == "featureSkew":
        bound = reader.percent("bound", remedy="give the percentage of rows that may differ, for example 2")
    elif metric == "errorRate" and (not relative or reader.has("bound")):
        remedy = "give a percentage, for example 2, or set relativeToChampion: true"
        bound = reader.percent("bound", remedy=remedy)
    if metric in ("errorRate", "featureSkew") and bound == 0 and not relative:
        reader.report("bound", 0, "a bound of 0 cannot be judged from a sample; give for example 0.1")
    if kind == "decision":
        method = reader.choice("method", ("betting", "asymptotic"), default="betting")
        # brier is a loss: lower is better, and a document may say so
        reader.choice("direction", ("decrease",), default="decrease")
        if reader.has("margin"):
            margin = reader.number("margin", 0, 1, remedy="give the loss that is tolerated, for example 0.01")
    min_samples = reader.integer("minSamples", 1, None, default=100 if kind == "decision" else 20)
    reader.finish()
    return Check(name, kind, metric, source, bound, relative, alpha, margin, min_samples, method)
