"""What is to be released, how, and which checks decide: the Release as values, with their place in a document.

Reading and writing the document is in `spec.py`; what contradicts itself or cannot be done is refused in `rules.py`;
what the checks mean statistically is in `checks.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeAlias

from serving.release.fields import (
    anything,
    choice,
    duration,
    flag,
    integer,
    many,
    nested,
    number,
    percent,
    text,
    texts,
)
from serving.release.metrics import KINDS, METRICS, SOURCES

STRATEGIES = ("canary", "blueGreen", "shadow", "experiment", "bandit")
BACKENDS = ("local", "gateway", "kserve", "knative")

NONE = timedelta(0)


@dataclass(frozen=True)
class Step:
    """One weight of a canary, kept until enough was seen.

    Attributes:
        weight: percent of the traffic that the candidate answers.
        min_samples: requests that the candidate must have answered in this step.
        min_duration: how long the step lasts at least.
    """

    weight: int = integer(1, 100, "percent of the traffic that the candidate answers")
    min_samples: int = integer(
        1, None, "requests that the candidate must have answered in this step", default=100
    )
    min_duration: timedelta = duration("how long the step lasts at least", default=NONE)


@dataclass(frozen=True)
class Named:
    """A header or a cookie; exactly one of the two.

    Attributes:
        value: what it must be; None where any value is meant.
    """

    header: str | None = text("name of a request header", default=None)
    cookie: str | None = text("name of a cookie", default=None)
    value: str | None = text("the value that is meant", default=None)

    @property
    def kind(self) -> Literal["header", "cookie"]:
        return "header" if self.header is not None else "cookie"

    @property
    def name(self) -> str:
        return self.header or self.cookie or ""


@dataclass(frozen=True)
class Canary:
    """Rising weights.

    Attributes:
        mirror: copy each request to the version that did not serve it, so that both score every request.
        match: requests with this header or cookie always go to the candidate, outside all evidence.
    """

    steps: tuple[Step, ...] = many(
        Step, "weights, rising", remedy="give at least one step, for example [{weight: 10, minSamples: 500}]"
    )
    mirror: bool = flag("copy each request to the version that did not serve it")
    match: Named | None = nested(
        Named, "requests with this header or cookie always go to the candidate", default=None
    )


@dataclass(frozen=True)
class SmokeRequest:
    """One request to a version that gets no traffic yet, and what its answer must be.

    Attributes:
        body: the prediction request, V1 or V2; None sends what was last seen on the wire of the model's example.
        max_latency: longest that the answer may take.
    """

    body: Any = anything("the prediction request, as V1 or V2 takes it")
    status: int = integer(100, 599, "HTTP status that is right", default=200)
    max_latency: timedelta | None = duration("longest that the answer may take", default=None)


@dataclass(frozen=True)
class BlueGreen:
    """One atomic switch after warm-up and smoke requests; the old version stays warm for a while.

    Attributes:
        keep_warm: how long the old version is kept, and may come back, after the switch.
        smoke: requests that the new version must answer rightly before the switch.
        warm_up: requests sent before the smoke requests count.
        min_samples: requests that the new version must have answered before the release is over.
    """

    keep_warm: timedelta = duration(
        "how long the old version stays warm after the switch", default=timedelta(hours=1)
    )
    smoke: tuple[SmokeRequest, ...] = many(
        SmokeRequest,
        "requests that must be answered rightly before the switch",
        default=(),
        remedy="give requests, for example [{body: {instances: [...]}}], or leave it out",
    )
    warm_up: int = integer(0, 10_000, "requests sent before the smoke requests", default=10)
    min_samples: int = integer(
        1, None, "requests that the new version must have answered after the switch", default=100
    )


@dataclass(frozen=True)
class Shadow:
    """Mirrored traffic; users get the champion's answers only.

    Attributes:
        percent: share of the requests that are copied.
        min_samples: requests that both versions must have answered.
    """

    percent: int = integer(1, 100, "share of the requests that are copied", default=100)
    min_samples: int = integer(1, None, "requests that both versions must have answered", default=1000)
    min_duration: timedelta = duration("how long the shadow lasts at least", default=NONE)


@dataclass(frozen=True)
class Experiment:
    """A/B/n: units keep their version; a decision metric with a hypothesis decides.

    Attributes:
        unit: what is assigned.
        allocation: version -> percent, the champion's included.
        salt: makes this experiment's assignment independent of others'; None takes the release's name.
        outcome_delay: a unit's outcome is what was seen of it within this time of its first exposure; it counts
            once that time is over.
        period: length of the periods that the novelty check compares.
    """

    unit: Named = nested(Named, "what is assigned: {header: NAME} or {cookie: NAME}")
    allocation: Mapping[str, int] = anything("version -> percent, the champion's included", default={})
    salt: str | None = text("text hashed with the unit", default=None)
    min_duration: timedelta = duration("no decision for the better before this", default=NONE)
    max_duration: timedelta = duration("no unit is enrolled after this", default=timedelta(days=14))
    outcome_delay: timedelta = duration("time until a unit's outcome is complete", default=NONE)
    period: timedelta = duration("length of a period of the novelty check", default=timedelta(days=1))


@dataclass(frozen=True)
class Context:
    """A header with the values that a contextual bandit tells apart."""

    header: str = text("name of the request header")
    values: tuple[str, ...] = texts(
        "its values", remedy="give the header's values, for example [mobile, desktop]"
    )


@dataclass(frozen=True)
class Bandit:
    """Weights follow the rewards.

    Attributes:
        floor: percent that every living version keeps.
        update: time between two updates of the weights.
        outcome_delay: a request's reward counts once it is this old; without one by then it is 0 for a binary
            reward, and unknown for any other.
        epsilon: epsilonGreedy only: percent that is shared equally.
    """

    policy: Literal["thompson", "epsilonGreedy"] = choice(
        ("thompson", "epsilonGreedy"), "how weights follow rewards", default="thompson"
    )
    floor: int = integer(0, 50, "percent that every living version keeps", default=5)
    update: timedelta = duration("time between two updates of the weights", default=timedelta(minutes=1))
    outcome_delay: timedelta = duration("time until a request's reward is complete", default=NONE)
    epsilon: int = integer(0, 100, "epsilonGreedy: percent that is shared equally", default=10)
    context: Context | None = nested(Context, "contextual bandit: weights by a header's value", default=None)
    min_duration: timedelta = duration("no decision before this", default=NONE)
    max_duration: timedelta = duration("the bandit ends after this", default=timedelta(days=14))


Strategy: TypeAlias = Canary | BlueGreen | Shadow | Experiment | Bandit

STRATEGY_CLASSES: Mapping[str, type[Strategy]] = {
    "canary": Canary,
    "blueGreen": BlueGreen,
    "shadow": Shadow,
    "experiment": Experiment,
    "bandit": Bandit,
}


def strategy_name(strategy: Strategy) -> str:
    """Its `type` in a document."""
    return next(name for name, known in STRATEGY_CLASSES.items() if isinstance(strategy, known))


@dataclass(frozen=True)
class Check:
    """One question asked at every look.

    Attributes:
        source: where the metric comes from, see `metrics.py`.
        bound: of a share (errorRate, featureSkew, disagreement, scoreDistance) in [0, 1); of a latency in
            milliseconds; None where the champion is the bound.
        relative_to_champion: judge the excess over the champion's concurrent requests, not the level.
        alpha: chance that the check's error happens at any look, ever.
        margin: how much worse the candidate may be, as an absolute difference of the metric; None asks a decision
            for superiority.
        minimum_detectable_effect: relative effect (0.05 is 5 %) that the test is planned for.
        min_samples: observations below which the check lets nothing advance.
        method: brier only; "betting" holds at every sample size, "asymptotic" needs fewer pairs and holds
            from `min_samples` on in the sense of its theorem.
        value_type: what one reward is: 0 or 1, a number, or a numerator and a denominator.
        covariate: outcomes carry a pre-period covariate, and their variance is reduced by it.
    """

    name: str = text("the check's name", remedy="name the check")
    kind: Literal["guardrail", "decision", "secondary"] = choice(
        KINDS, "guardrails may stop at any look, the decision promotes, secondary metrics are reported"
    )
    metric: str = choice(tuple(METRICS), "what is measured")
    source: str = choice(SOURCES, "where the metric comes from")
    bound: float | None = anything("a percentage, or a duration for a latency", default=None)
    relative_to_champion: bool = flag("judge the excess over the champion's concurrent requests")
    alpha: float = number(
        0, 1, "chance of this check's error over all looks", remedy="give a level between 0 and 1, for example 0.01",
        default=0.01,
    )  # fmt: skip
    margin: float | None = number(
        0, 1, "how much worse the candidate may be", remedy="give what is tolerated, for example 0.01", default=None
    )  # fmt: skip
    min_samples: int = integer(1, None, "observations below which nothing advances", default=20)
    method: Literal["betting", "asymptotic"] = choice(
        ("betting", "asymptotic"), "how pairs are judged", default="betting"
    )
    direction: Literal["increase", "decrease"] = choice(
        ("increase", "decrease"), "which way is better", default="decrease"
    )
    minimum_detectable_effect: float | None = percent(
        "relative effect that the test is planned for",
        remedy="give a percentage above 0, for example 5",
        default=None,
        below=1000,
    )
    value_type: Literal["binary", "continuous", "ratio"] = choice(
        ("binary", "continuous", "ratio"), "what one reward is", default="binary"
    )
    covariate: bool = flag("outcomes carry a pre-period covariate")


@dataclass(frozen=True)
class Gateway:
    """The Gateway whose routes a release on Kubernetes changes.

    Attributes:
        hostnames: hosts of the model's route; none stands for every host of the Gateway.
        extension: what the Gateway can do beyond the Gateway API; experiments need it.
    """

    name: str = text("name of the Gateway", default="windlass")
    namespace: str | None = text("its namespace, where it is not the release's", default=None)
    hostnames: tuple[str, ...] = texts(
        "hosts of the model's route", default=(), remedy="give host names, or leave it out"
    )
    extension: Literal["envoyGateway"] | None = choice(
        ("envoyGateway",), "extension that assigns units; experiments need it", default=None
    )


@dataclass(frozen=True)
class Release:
    """A validated Release document.

    Attributes:
        candidates: versions to release; only experiments and bandits take several.
        champion: None means the version that holds the champion alias when the release starts.
        inconclusive_after: time without progress after which `when_inconclusive` applies.
        namespace: of the resource on Kubernetes.
    """

    name: str
    model: str
    candidates: tuple[str, ...]
    strategy: Strategy
    checks: tuple[Check, ...]
    champion: str | None = None
    backend: str = "local"
    gateway: Gateway | None = None
    on_conflict: Literal["refuse", "queue"] = "refuse"
    inconclusive_after: timedelta = timedelta(hours=24)
    when_inconclusive: Literal["hold", "abort"] = "hold"
    namespace: str = "default"

    @property
    def candidate(self) -> str:
        """The only candidate, or the first of several."""
        return self.candidates[0]

    def check(self, name: str) -> Check:
        return next(check for check in self.checks if check.name == name)

    @property
    def decision(self) -> Check | None:
        """The check that decides, where there is one."""
        return next((check for check in self.checks if check.kind == "decision"), None)
