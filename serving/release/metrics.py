"""The metrics that a check may name: what each is, where it may come from, and which fields a check of it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

KINDS = ("guardrail", "decision", "secondary")

#: Where metrics come from: the proxy's access log, Prometheus, the servers' prediction logs, labels and rewards.
SOURCES = ("envoy", "prometheus", "predictions", "feedback")


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        doc: what is counted, in words.
        kinds: which kinds of check it can be.
        sources: where it may come from, the usual one first.
        unit: what a bound is: a share of observations, or a latency.
        fields: fields of a check, by their names in the document, that mean something for it.
        paired: it needs both versions' answers to the same request.
        slow_share: of a latency quantile, the share of answers that may be slower.
    """

    doc: str
    kinds: tuple[str, ...]
    sources: tuple[str, ...]
    unit: Literal["share", "latency", "value"]
    fields: frozenset[str]
    paired: bool = False
    slow_share: float | None = None


#: Fields that belong to some metrics only; every check has the others.
OPTIONAL_FIELDS = frozenset(
    {
        "bound",
        "relativeToChampion",
        "margin",
        "method",
        "direction",
        "minimumDetectableEffect",
        "valueType",
        "covariate",
    }
)

_ANSWERS = ("envoy", "prometheus", "predictions")


def _latency(quantile: int) -> Metric:
    return Metric(
        f"answers slower than the bound, of which {100 - quantile} % are allowed",
        ("guardrail",),
        _ANSWERS,
        "latency",
        frozenset({"bound", "relativeToChampion"}),
        slow_share=(100 - quantile) / 100,
    )


METRICS: Mapping[str, Metric] = {
    "errorRate": Metric(
        "failed requests", ("guardrail",), _ANSWERS, "share", frozenset({"bound", "relativeToChampion"})
    ),
    "latencyP50": _latency(50),
    "latencyP95": _latency(95),
    "latencyP99": _latency(99),
    "featureSkew": Metric(
        "rows that differ from the point-in-time features",
        ("guardrail",),
        ("predictions",),
        "share",
        frozenset({"bound"}),
    ),
    "disagreement": Metric(
        "requests on which the two versions decide differently",
        ("guardrail",),
        ("predictions",),
        "share",
        frozenset({"bound"}),
        paired=True,
    ),
    "scoreDistance": Metric(
        "distance of the two versions' scores",
        ("guardrail",),
        ("predictions",),
        "share",
        frozenset({"bound"}),
        paired=True,
    ),
    "brier": Metric(
        "squared error of the score",
        ("decision",),
        ("feedback",),
        "value",
        frozenset({"margin", "method", "direction"}),
        paired=True,
    ),
    "reward": Metric(
        "reward of a request or unit",
        ("decision", "secondary", "guardrail"),
        ("feedback",),
        "value",
        frozenset({"margin", "direction", "minimumDetectableEffect", "valueType", "covariate"}),
    ),
}
