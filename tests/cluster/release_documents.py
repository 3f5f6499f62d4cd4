"""Release documents drawn at random: valid ones of every strategy and backend, and the same with a field changed."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from monitoring.retrain.signals import KINDS
from serving.release.metrics import METRICS
from serving.release.rules import SUPPORTED

Document = dict[str, Any]

LOCAL_VERSIONS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,6}[A-Za-z0-9])?", fullmatch=True)
CLUSTER_VERSIONS = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,6}[a-z0-9])?", fullmatch=True)
MODELS = st.from_regex(r"[a-z]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
HEADERS = st.from_regex(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}", fullmatch=True).filter(
    lambda name: not name.lower().startswith("x-windlass-")
)
HEADER_VALUES = st.from_regex(r"[!-~]([ -~]{0,8}[!-~])?", fullmatch=True)
COOKIE_VALUES = st.from_regex(r"[!#-+\--:<-\[\]-~]{1,10}", fullmatch=True)
PERCENTS = st.one_of(
    st.integers(1, 99),
    st.floats(0.01, 99, allow_nan=False).map(lambda share: round(share, 3)),
    st.integers(1, 99).map(lambda share: f"{share}%"),
    st.floats(0.01, 99).map(lambda share: f"{share:.2f}%"),
)


def durations(shortest: int = 0, longest: int = 10_000) -> st.SearchStrategy[str]:
    """Texts of one or two parts; the last part is a number of seconds in the range."""
    written = st.sampled_from(("{}s", "{}.5s", "0m{}s", "0d{}s"))
    return st.tuples(st.integers(shortest, longest), written).map(lambda both: both[1].format(both[0]))


def version(draw: st.DrawFn, name: str) -> Any:
    """A version's name as it may be written: digits as a number, too."""
    if name.isdigit() and str(int(name)) == name and draw(st.booleans()):
        return int(name)
    return name


@st.composite
def releases(draw: st.DrawFn) -> Document:
    """A document that contradicts itself nowhere."""
    backend = draw(st.sampled_from(sorted(SUPPORTED)))
    kind = draw(st.sampled_from(SUPPORTED[backend]))
    names = LOCAL_VERSIONS if backend == "local" else CLUSTER_VERSIONS
    several = kind in ("experiment", "bandit")
    count = draw(st.integers(2, 4)) if several else 2
    champion, *candidates = draw(st.lists(names, min_size=count, max_size=count, unique=True))
    spec: Document = {"model": draw(MODELS)}
    if several and (len(candidates) > 1 or draw(st.booleans())):
        spec["candidates"] = [version(draw, name) for name in candidates]
    else:
        spec["candidate"] = version(draw, candidates[0])
    if kind == "experiment" or draw(st.booleans()):
        spec["champion"] = version(draw, champion)
    if backend != "local" or draw(st.booleans()):
        spec["backend"] = backend
    if backend == "gateway":
        spec["gateway"] = draw(_gateway(kind))
    strategy = draw(_STRATEGIES[kind](backend, champion, candidates))
    spec["strategy"] = {"type": kind, **strategy}
    spec["checks"] = draw(_checks(kind, backend, strategy))
    spec |= draw(
        _some(
            onConflict=st.sampled_from(("refuse", "queue")),
            inconclusiveAfter=durations(),
            whenInconclusive=st.sampled_from(("hold", "abort")),
        )
    )
    return {
        "apiVersion": "windlass.dev/v1alpha1",
        "kind": "Release",
        "metadata": {"name": draw(MODELS)},
        "spec": spec,
    }


def _some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Document]:
    """Each field, or not."""
    return st.fixed_dictionaries({}, optional=fields)


@st.composite
def _gateway(draw: st.DrawFn, kind: str) -> Document:
    found = draw(
        _some(
            name=MODELS,
            namespace=MODELS,
            hostnames=st.lists(MODELS.map(lambda host: f"{host}.example.com"), min_size=1, max_size=3),
        )
    )
    return {**found, "extension": "envoyGateway"} if kind == "experiment" or draw(st.booleans()) else found


@st.composite
def _named(draw: st.DrawFn, with_value: bool) -> Document:
    kind = draw(st.sampled_from(("header", "cookie")))
    found = {kind: draw(HEADERS)}
    return (
        {**found, "value": draw(HEADER_VALUES if kind == "header" else COOKIE_VALUES)}
        if with_value
        else found
    )


@st.composite
def _canary(draw: st.DrawFn, backend: str, champion: str, candidates: list[str]) -> Document:
    weights = sorted(draw(st.sets(st.integers(1, 99), min_size=1, max_size=6)))
    steps = [
        {"weight": weight, **draw(_some(minSamples=st.integers(1, 10**9), minDuration=durations()))}
        for weight in weights
    ]
    found: Document = {"steps": steps}
    if backend == "local":
        found |= draw(_some(mirror=st.booleans()))
    if backend in ("local", "gateway"):
        found |= draw(_some(match=_named(True)))
    return found


@st.composite
def _blue_green(draw: st.DrawFn, backend: str, champion: str, candidates: list[str]) -> Document:
    request = _some(
        # larger numbers come back from an API server as the nearest float
        body=st.dictionaries(
            st.sampled_from(("inputs", "instances")), st.lists(st.integers(-(2**53), 2**53))
        ),
        status=st.integers(100, 599),
        maxLatency=durations(),
    )
    return draw(
        _some(
            keepWarm=durations(),
            smoke=st.lists(request, min_size=1, max_size=3),
            warmUp=st.integers(0, 10_000),
            minSamples=st.integers(1, 10**9),
        )
    )


@st.composite
def _shadow(draw: st.DrawFn, backend: str, champion: str, candidates: list[str]) -> Document:
    return draw(_some(percent=st.integers(1, 100), minSamples=st.integers(1, 10**9), minDuration=durations()))


@st.composite
def _experiment(draw: st.DrawFn, backend: str, champion: str, candidates: list[str]) -> Document:
    cuts = draw(st.sets(st.integers(1, 99), min_size=len(candidates), max_size=len(candidates)))
    edges = [0, *sorted(cuts), 100]
    shares = [high - low for low, high in itertools.pairwise(edges)]
    return {
        "unit": draw(_named(False)),
        "allocation": dict(zip((champion, *candidates), shares, strict=True)),
        **draw(_some(salt=MODELS, outcomeDelay=durations(), period=durations(1))),
        **draw(_ends()),
    }


@st.composite
def _bandit(draw: st.DrawFn, backend: str, champion: str, candidates: list[str]) -> Document:
    context = st.fixed_dictionaries(
        {"header": HEADERS, "values": st.lists(HEADER_VALUES, min_size=2, max_size=4, unique=True)}
    )
    return {
        **draw(
            _some(
                policy=st.sampled_from(("thompson", "epsilonGreedy")),
                floor=st.integers(0, 100 // (len(candidates) + 1)),
                update=durations(1),
                outcomeDelay=durations(),
                epsilon=st.integers(0, 100),
                context=context,
            )
        ),
        **draw(_ends()),
    }


def _ends() -> st.SearchStrategy[Document]:
    return _some(minDuration=durations(0, 10_000), maxDuration=durations(10_001, 20_000))


_STRATEGIES: dict[str, Callable[[str, str, list[str]], st.SearchStrategy[Document]]] = {
    "canary": _canary,
    "blueGreen": _blue_green,
    "shadow": _shadow,
    "experiment": _experiment,
    "bandit": _bandit,
}


@st.composite
def _checks(draw: st.DrawFn, kind: str, backend: str, strategy: Document) -> list[Document]:
    mirrored = kind == "shadow" or bool(strategy.get("mirror"))
    if kind == "shadow":
        source = "predictions"
    elif backend == "local":
        source = draw(st.sampled_from(("envoy", "prometheus", *(("predictions",) if mirrored else ()))))
    else:
        source = "prometheus"
    metrics = ["errorRate", "latencyP50", "latencyP95", "latencyP99", "featureSkew"]
    if mirrored:
        metrics += ["disagreement", "scoreDistance"]
    guardrails = draw(st.lists(st.sampled_from(metrics), min_size=1, max_size=4))
    found = [draw(_guardrail(metric, source, comparing=kind != "blueGreen")) for metric in guardrails]
    if kind in ("experiment", "bandit") or (kind == "canary" and draw(st.booleans())):
        found.append(draw(_reward("decision", kind)))
    elif kind == "shadow" and draw(st.booleans()):
        found.append(draw(_brier()))
    if kind in ("canary", "experiment", "bandit"):
        found += [draw(_reward(other, kind)) for other in ("guardrail", "secondary") if draw(st.booleans())]
    shuffled = draw(st.permutations(found))
    return [{"name": f"check {index}", **check} for index, check in enumerate(shuffled)]


_FIGURES = {"alpha": st.floats(0.001, 0.999), "minSamples": st.integers(1, 10**9)}


@st.composite
def _guardrail(draw: st.DrawFn, metric: str, source: str, *, comparing: bool) -> Document:
    of = METRICS[metric]
    bounds = durations(1) if of.unit == "latency" else PERCENTS
    found = {
        "kind": "guardrail",
        "metric": metric,
        "source": source if source in of.sources else of.sources[0],
        **draw(_some(**_FIGURES)),
    }
    if comparing and "relativeToChampion" in of.fields and draw(st.booleans()):
        return {**found, "relativeToChampion": True, **draw(_some(bound=bounds))}
    if "relativeToChampion" in of.fields and draw(st.booleans()):
        found["relativeToChampion"] = False
    return {**found, "bound": draw(bounds)}


@st.composite
def _reward(draw: st.DrawFn, kind: str, strategy: str) -> Document:
    types = ("binary", "continuous") if strategy == "bandit" else ("binary", "continuous", "ratio")
    fields = {
        "margin": st.floats(0.001, 0.999),
        "direction": st.sampled_from(("increase", "decrease")),
        "minimumDetectableEffect": PERCENTS,
        "valueType": st.sampled_from(types),
        **_FIGURES,
    }
    if strategy == "experiment":
        fields["covariate"] = st.booleans()
    return {"kind": kind, "metric": "reward", "source": "feedback", **draw(_some(**fields))}


@st.composite
def _brier(draw: st.DrawFn) -> Document:
    fields = {
        "margin": st.floats(0.001, 0.999),
        "method": st.sampled_from(("betting", "asymptotic")),
        "direction": st.just("decrease"),
        **_FIGURES,
    }
    return {"kind": "decision", "metric": "brier", "source": "feedback", **draw(_some(**fields))}


# --- the same with a field changed


#: What a field may be by mistake.
VALUES: tuple[Any, ...] = (
    None, 0, 1, 3, 12, 50, 100, 101, -1, 0.5, True, False, "", "2%", "100%", "0%", "50ms", "0s", "1d", "40000d", "abc",
    "a b", "x-windlass-version", [], {}, [1], {"header": "x"}, "canary", "blueGreen", "shadow", "experiment", "bandit",
    "local", "gateway", "kserve", "knative", "envoy", "prometheus", "predictions", "feedback", "guardrail", "decision",
    "secondary", "schedule", "manual", ["manual"], *METRICS,
)  # fmt: skip

#: Fields that may be stated where they do not belong.
NAMES = (
    "candidate", "candidates", "champion", "gateway", "backend", "steps", "mirror", "match", "keepWarm", "smoke",
    "percent", "minSamples", "minDuration", "maxDuration", "unit", "allocation", "salt", "period", "outcomeDelay",
    "policy", "floor", "update", "epsilon", "context", "bound", "relativeToChampion", "margin", "method", "direction",
    "minimumDetectableEffect", "valueType", "covariate", "weight", "header", "cookie", "value", "onConflict", "signals",
    "schedule", "cooldown", "budget", "newRows", "release",
)  # fmt: skip


@st.composite
def mistaken(draw: st.DrawFn, documents: st.SearchStrategy[Document]) -> Document:
    """One of the documents, in which one or two fields were changed, removed or taken from elsewhere."""
    document = copy.deepcopy(draw(documents))
    for _ in range(draw(st.integers(1, 2))):
        places = list(_places(document["spec"])) or [(document, "spec")]
        holder, key = draw(st.sampled_from(places))
        how = draw(st.sampled_from(("change", "remove", "add")))
        if how == "add" and isinstance(holder, dict):
            holder[draw(st.sampled_from(NAMES))] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        elif how == "remove":
            del holder[key]
        else:
            holder[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    return document


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


@st.composite
def policies(draw: st.DrawFn) -> Document:
    """A RetrainPolicy."""
    spec = draw(
        _some(
            signals=st.lists(st.sampled_from(KINDS), min_size=1, max_size=7, unique=True),
            cooldown=durations(),
            budget=_some(perDay=st.integers(1, 100)),
            concurrency=st.integers(1, 100),
            escalateAfter=st.integers(1, 100),
            newRows=st.one_of(
                st.integers(1, 10**9), st.integers(1, 99).map(lambda share: f"{share}%"), st.just("0.5%")
            ),
            release=_templates(),
        )
    )
    if "schedule" in spec.get("signals", KINDS) and draw(st.booleans()):
        spec["schedule"] = draw(durations(1))
    return {
        "apiVersion": "windlass.dev/v1alpha1",
        "kind": "RetrainPolicy",
        "metadata": {"name": draw(MODELS)},
        "spec": {"workload": draw(MODELS), **spec},
    }


@st.composite
def _templates(draw: st.DrawFn) -> Document:
    """A Release without whom it releases."""
    kind = draw(st.sampled_from(("canary", "blueGreen", "shadow", "bandit")))
    strategy = draw(_STRATEGIES[kind]("local", "1", ["2"]))
    return {"strategy": {"type": kind, **strategy}, "checks": draw(_checks(kind, "local", strategy))}
