"""The Release document, read from YAML and written back; the same document is a custom resource elsewhere.

Everything that can be known to be wrong before the first request is refused here, with path, value and remedy.
The values it becomes are in `release.py`; reading a plain mapping is in `reading.py` and `fields.py`; what fields
mean for each other is in `rules.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from serving.release import durations, fields, rules, yaml_text
from serving.release.fields import document_name
from serving.release.metrics import METRICS, OPTIONAL_FIELDS, SOURCES
from serving.release.reading import Problem, Reader, SpecError, shown
from serving.release.release import (
    BACKENDS,
    STRATEGIES,
    STRATEGY_CLASSES,
    BlueGreen,
    Canary,
    Check,
    Experiment,
    Gateway,
    Release,
    Step,
    Strategy,
    strategy_name,
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

API_VERSION = "windlass.dev/v1alpha1"

_ONE_CANDIDATE = "a {} has one candidate; state it as candidate"
_SEVERAL = ("experiment", "bandit")


def parse(document: Any, *, strict: bool = True) -> Release:
    """Read a Release from the mapping that YAML gives.

    Args:
        strict: refuse what contradicts itself or cannot be done. A journal is read without: what was once taken is
            history, whatever is refused today.

    Raises:
        SpecError: with every problem that was found.
    """
    problems: list[Problem] = []
    root = Reader("", document, problems)
    root.choice("apiVersion", (API_VERSION,), default=API_VERSION)
    root.choice("kind", ("Release",))
    metadata = root.child("metadata")
    name = metadata.text("name", remedy="name the release, for example flights-13")
    namespace = metadata.text("namespace", "default")
    metadata.finish(
        known=("labels", "annotations", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields",
               "finalizers")
    )  # fmt: skip
    spec = root.child("spec")
    root.finish(known=("status",))
    release = _spec(name, namespace, spec)
    if strict and release is not None and not problems:
        problems += rules.contradictions(release)
    if problems:
        raise SpecError(f"release {shown(name) if isinstance(name, str) else 'without a name'}", problems)
    assert release is not None  # noqa: S101 - whatever keeps it from being read is a problem
    return release


def loads(text: str) -> Release:
    """Read a Release from YAML (JSON is YAML).

    Raises:
        SpecError: the text is no YAML, or no Release.
    """
    import yaml

    try:
        found = [node for node in yaml_text.nodes(text) if node is not None]
        document = yaml_text.value(found[0]) if found else None
    except yaml.YAMLError as error:
        problem = Problem("document", repr(text[:40]), f"is not YAML: {' '.join(str(error).split())[:400]}")
        raise SpecError("release", [problem]) from error
    if len(found) > 1:
        remedy = "holds several documents; give each a file of its own"
        raise SpecError("release", [Problem("document", f"{len(found)} documents", remedy)])
    odd = [
        Problem(path, number, yaml_text.ODD_NUMBER)
        for node in found
        for path, number in yaml_text.odd_numbers(node)
    ]
    if odd:
        raise SpecError("release", odd)
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
    kind = strategy_name(release.strategy)
    spec: dict[str, Any] = {"model": release.model}
    if kind in _SEVERAL:
        spec["candidates"] = list(release.candidates)
    else:
        spec["candidate"] = release.candidate
    if release.champion is not None:
        spec["champion"] = release.champion
    spec["backend"] = release.backend
    if release.gateway is not None:
        spec["gateway"] = fields.write(release.gateway)
    spec["strategy"] = {"type": kind, **fields.write(release.strategy)}
    spec["checks"] = [_check_document(check) for check in release.checks]
    spec["onConflict"] = release.on_conflict
    spec["inconclusiveAfter"] = durations.format(release.inconclusive_after)
    spec["whenInconclusive"] = release.when_inconclusive
    metadata = {"name": release.name}
    if release.namespace != "default":
        metadata["namespace"] = release.namespace
    return {"apiVersion": API_VERSION, "kind": "Release", "metadata": metadata, "spec": spec}


def _spec(name: str, namespace: str, spec: Reader) -> Release | None:
    before = spec.problems
    model = spec.text("model", remedy="name the registered model")
    champion = spec.text("champion", None, remedy="give a version, or leave it out for the champion alias")
    backend = spec.choice("backend", BACKENDS, default="local")
    gateway = fields.read(Gateway, spec.child("gateway")) if spec.has("gateway") else None
    kind, strategy = _strategy(spec.child("strategy"))
    candidates = _candidates(spec, kind)
    remedy = "state at least one guardrail, for example errorRate"
    checks = [_check(reader) for reader in spec.children("checks", remedy)]
    on_conflict: Any = spec.choice("onConflict", ("refuse", "queue"), default="refuse")
    inconclusive_after = spec.duration("inconclusiveAfter", timedelta(hours=24))
    when_inconclusive: Any = spec.choice("whenInconclusive", ("hold", "abort"), default="hold")
    spec.finish(known=("gateway", "candidate", "candidates"))
    if spec.problems != before or strategy is None:
        return None
    if isinstance(strategy, Experiment) and champion is None:
        # the allocation names every version: who is no candidate is the champion
        others = [version for version in strategy.allocation if version not in candidates]
        champion = others[0] if len(others) == 1 else None
    return Release(
        name=name,
        model=model,
        candidates=candidates,
        strategy=strategy,
        checks=tuple(check for check in checks if check is not None),
        champion=champion,
        backend=backend,
        gateway=gateway,
        on_conflict=on_conflict,
        inconclusive_after=inconclusive_after,
        when_inconclusive=when_inconclusive,
        namespace=namespace,
    )


def _candidates(spec: Reader, kind: str | None) -> tuple[str, ...]:
    if spec.has("candidates") and kind in _SEVERAL:
        if spec.has("candidate"):
            spec.report(
                "candidate", spec.raw("candidate"), "candidates are stated as well; keep one of the two"
            )
        return spec.texts("candidates", remedy='give the versions, for example ["13", "14"]')
    if spec.has("candidates"):
        spec.report("candidates", spec.raw("candidates"), _ONE_CANDIDATE.format(kind or "release"))
    return (spec.text("candidate", remedy='give the version to release, for example "13"'),)


def _strategy(reader: Reader) -> tuple[str | None, Strategy | None]:
    kind = reader.choice("type", STRATEGIES)
    if kind not in STRATEGY_CLASSES:
        return None, None
    strategy: Any = fields.read(STRATEGY_CLASSES[kind], reader)
    if isinstance(strategy, Experiment):
        allocation = _allocation(reader, strategy.allocation)
        strategy = replace(strategy, allocation=allocation)
    if isinstance(strategy, BlueGreen):
        for index, request in enumerate(strategy.smoke):
            if request.body is not None and not isinstance(request.body, Mapping):
                reader.report(f"smoke[{index}].body", request.body, "give the request's JSON object")
    return kind, strategy


def _allocation(reader: Reader, value: Any) -> Mapping[str, int]:
    remedy = 'give each version its percent, for example {"12": 50, "13": 50}'
    if not isinstance(value, Mapping) or not value:
        reader.report("allocation", value or None, remedy)
        return {}
    for version, weight in value.items():
        if isinstance(weight, bool) or not isinstance(weight, int) or not 0 <= weight <= 100:
            reader.report(f"allocation.{version}", weight, "give a whole number in 0..100")
            return {}
    return {str(version): weight for version, weight in value.items()}


def _check(reader: Reader) -> Check | None:
    before = reader.problems
    metric = METRICS.get(reader.raw("metric")) if isinstance(reader.raw("metric"), str) else None
    kind = reader.raw("kind")
    without = set() if metric is None else set(OPTIONAL_FIELDS - metric.fields)
    if metric is not None and kind == "decision":
        reader.assume("alpha", 0.05)
        reader.assume("minSamples", 100)
        if reader.raw("metric") == "reward":
            reader.assume("direction", "increase")
    elif metric is not None and metric.unit == "value":
        reader.assume("direction", "increase")
        reader.assume("minSamples", 100)
    check = fields.read(Check, reader, without=without)
    if metric is None:
        return None
    if kind in ("guardrail", "decision", "secondary") and kind not in metric.kinds:
        reader.report("kind", kind, f"{reader.raw('metric')} is a {' or '.join(metric.kinds)}")
    if reader.raw("source") in SOURCES and reader.raw("source") not in metric.sources:
        reader.report("source", reader.raw("source"), "use one of " + ", ".join(metric.sources))
    bound = _bound(reader, metric.unit, relative=bool(reader.raw("relativeToChampion")))
    if reader.raw("metric") == "brier" and reader.has("direction") and reader.raw("direction") != "decrease":
        # brier is a loss: lower is better, and a document may say so
        reader.report("direction", reader.raw("direction"), "use one of decrease")
    return replace(check, bound=bound) if check is not None and reader.problems == before else None


def _bound(reader: Reader, unit: str, *, relative: bool) -> float | None:
    if unit == "value":
        return None
    if unit == "latency":
        if relative and not reader.has("bound"):
            return None
        limit = reader.duration("bound")
        return limit / timedelta(milliseconds=1) if isinstance(limit, timedelta) else None
    if relative and not reader.has("bound"):
        return None
    remedy = "give a percentage, for example 2"
    if reader.raw("metric") == "errorRate":
        remedy += ", or set relativeToChampion: true"
    share = reader.percent("bound", remedy=remedy)
    if share == 0 and not relative:
        reader.report("bound", 0, "a bound of 0 cannot be judged from a sample; give for example 0.1")
    return share if isinstance(share, float) else None


def _check_document(check: Check) -> dict[str, Any]:
    metric = METRICS[check.metric]
    found = fields.write(check, without=OPTIONAL_FIELDS - metric.fields)
    if check.bound is not None:
        shown = round(check.bound * 100, 10)
        found["bound"] = f"{check.bound:g}ms" if metric.unit == "latency" else shown
    if check.kind == "guardrail" and metric.unit == "value" and check.method == "betting":
        found.pop(document_name("method"), None)
    return found
