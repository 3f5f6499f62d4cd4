"""What is to be released, in which steps, and which checks decide: the Release as values.

Reading and writing its document is in `spec.py`; what the checks mean statistically is in `checks.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

Metric = Literal["errorRate", "latencyP99", "featureSkew", "brier"]

STRATEGIES = ("canary", "blueGreen", "shadow", "experiment", "bandit")
BACKENDS = ("local", "gateway", "kserve", "knative")

#: What each backend carries out today; anything else is refused when the document is read.
SUPPORTED: Mapping[str, tuple[str, ...]] = {"local": ("canary",)}

#: Where a metric may come from.
SOURCES: Mapping[str, tuple[str, ...]] = {
    "errorRate": ("envoy",),
    "latencyP99": ("envoy",),
    "featureSkew": ("predictions",),
    "brier": ("feedback",),
}

#: Kind of check that a metric can be.
KINDS: Mapping[str, str] = {
    "errorRate": "guardrail",
    "latencyP99": "guardrail",
    "featureSkew": "guardrail",
    "brier": "decision",
}


@dataclass(frozen=True)
class Step:
    """One weight of a canary, kept until enough was seen.

    Attributes:
        weight: percent of the traffic that the candidate answers.
        min_samples: requests that the candidate must have answered in this step.
        min_duration: how long the step lasts at least.
    """

    weight: int
    min_samples: int = 100
    min_duration: timedelta = timedelta(0)


@dataclass(frozen=True)
class Canary:
    """Rising weights.

    Attributes:
        mirror: copy each request to the version that did not serve it, so that both score every request.
    """

    steps: tuple[Step, ...]
    mirror: bool = False


@dataclass(frozen=True)
class Check:
    """One question asked at every look.

    Attributes:
        bound: errorRate, featureSkew: a share in [0, 1); latencyP99: milliseconds; None for the decision
            metric, and for a relative errorRate that tolerates no excess.
        relative_to_champion: judge the excess over the champion's concurrent requests, not the level.
        alpha: chance that the check's error happens at any look, ever.
        margin: a decision of non-inferiority: how much worse the candidate may be; None asks for superiority.
        min_samples: observations below which the check lets nothing advance.
        method: decision only; "betting" holds at every sample size, "asymptotic" needs fewer pairs and holds
            from `min_samples` on in the sense of its theorem.
    """

    name: str
    kind: Literal["guardrail", "decision"]
    metric: Metric
    source: str
    bound: float | None = None
    relative_to_champion: bool = False
    alpha: float = 0.01
    margin: float | None = None
    min_samples: int = 20
    method: Literal["betting", "asymptotic"] = "betting"


@dataclass(frozen=True)
class Release:
    """A validated Release document.

    Attributes:
        champion: None means the version that holds the champion alias when the release starts.
        inconclusive_after: time without progress after which `when_inconclusive` applies.
    """

    name: str
    model: str
    candidate: str
    strategy: Canary
    checks: tuple[Check, ...]
    champion: str | None = None
    backend: str = "local"
    on_conflict: Literal["refuse", "queue"] = "refuse"
    inconclusive_after: timedelta = timedelta(hours=24)
    when_inconclusive: Literal["hold", "abort"] = "hold"

    def check(self, name: str) -> Check:
        return next(check for check in self.checks if check.name == name)
