"""Documents of every strategy: read, written back, or refused with path, value and remedy."""

from __future__ import annotations

import copy
from datetime import timedelta

import pytest
import yaml

from serving.release import spec
from serving.release.release import Bandit, BlueGreen, Experiment, Gateway, Shadow

ERRORS = {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "envoy", "bound": 2}
REWARD = {
    "name": "late-cost",
    "kind": "decision",
    "metric": "reward",
    "source": "feedback",
    "direction": "increase",
    "minimumDetectableEffect": 5,
    "alpha": 0.05,
}
SAME = {"name": "same", "kind": "guardrail", "metric": "disagreement", "source": "predictions", "bound": 5}

STRATEGIES = {
    "blueGreen": ({"keepWarm": "1h", "smoke": [{"body": {"instances": [{"a": 1}]}}]}, [ERRORS], False),
    "shadow": ({"percent": 100, "minSamples": 2000}, [SAME], False),
    "experiment": (
        {
            "unit": {"header": "x-user-id"},
            "allocation": {"12": 50, "13": 50},
            "maxDuration": "14d",
            "outcomeDelay": "24h",
        },
        [ERRORS, REWARD],
        True,
    ),
    "bandit": (
        {"policy": "thompson", "floor": 5, "update": "1m", "outcomeDelay": "1h"},
        [ERRORS, REWARD],
        True,
    ),
    "canary": ({"steps": [{"weight": 10, "minSamples": 500, "minDuration": "10m"}]}, [ERRORS], False),
}


def document(kind, **changes):
    strategy, checks, several = STRATEGIES[kind]
    found = {
        "apiVersion": "windlass.dev/v1alpha1",
        "kind": "Release",
        "metadata": {"name": "flights-13"},
        "spec": {
            "model": "flights",
            **({"candidates": ["13"]} if several else {"candidate": "13"}),
            "champion": "12",
            "backend": "local",
            "strategy": {"type": kind, **copy.deepcopy(strategy)},
            "checks": copy.deepcopy(checks),
        },
    }
    for path, value in changes.items():
        place = found["spec"]
        *parents, last = [int(part) if part.isdigit() else part for part in path.split("__")]
        for parent in parents:
            place = place[parent]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return found


@pytest.mark.parametrize("kind", STRATEGIES)
def test_every_strategy_is_read_and_written_back(kind):
    release = spec.parse(document(kind))
    assert spec.parse(spec.document(release)) == release
    assert spec.loads(yaml.safe_dump(spec.document(release))) == release


def test_fields_become_values():
    assert spec.parse(document("blueGreen")).strategy.keep_warm == timedelta(hours=1)
    assert isinstance(spec.parse(document("blueGreen")).strategy, BlueGreen)
    assert spec.parse(document("shadow")).strategy == Shadow(100, 2000)
    experiment = spec.parse(document("experiment")).strategy
    assert isinstance(experiment, Experiment)
    assert (experiment.allocation, experiment.unit.name) == ({"12": 50, "13": 50}, "x-user-id")
    assert (experiment.max_duration, experiment.outcome_delay) == (timedelta(days=14), timedelta(days=1))
    bandit = spec.parse(document("bandit")).strategy
    assert isinstance(bandit, Bandit)
    assert (bandit.policy, bandit.floor, bandit.update) == ("thompson", 5, timedelta(minutes=1))
    reward = spec.parse(document("experiment")).decision
    assert (reward.minimum_detectable_effect, reward.direction, reward.min_samples) == (0.05, "increase", 100)


def test_an_experiment_of_one_candidate_may_say_candidate():
    told = document("experiment", candidates=...)
    told["spec"]["candidate"] = "13"
    assert spec.parse(told).candidates == ("13",)


def test_an_experiment_knows_its_champion_from_its_allocation():
    assert spec.parse(document("experiment", champion=...)).champion == "12"


def test_a_gateway_is_read():
    found = spec.parse(
        document(
            "experiment",
            backend="gateway",
            gateway={"name": "eg", "hostnames": ["a.example"], "extension": "envoyGateway"},
            checks__0__source="prometheus",
        )
    )
    assert found.gateway == Gateway("eg", None, ("a.example",), "envoyGateway")


BAD = [
    ("experiment", {"candidates": ["13", "13"]}, "spec.candidates = '13'", "listed twice"),
    ("experiment", {"candidates": ["13", "12"]}, "spec.candidates = '12'", "champion itself"),
    ("experiment", {"candidates": []}, "spec.candidates = []", "give the versions"),
    ("experiment", {"candidate": "13"}, "spec.candidate = '13'", "keep one of the two"),
    ("canary", {"candidates": ["13", "14"]}, "spec.candidates", "one candidate"),
    ("shadow", {"candidates": ["13"]}, "spec.candidates", "one candidate"),
    ("experiment", {"strategy__unit": ...}, "spec.strategy.unit = missing", "state it"),
    ("experiment", {"strategy__unit": {}}, "spec.strategy.unit", "either a header or a cookie"),
    (
        "experiment",
        {"strategy__unit": {"header": "a", "cookie": "b"}},
        "spec.strategy.unit",
        "either a header or a cookie",
    ),
    (
        "experiment",
        {"strategy__unit": {"header": "x-windlass-bucket"}},
        "spec.strategy.unit.header = 'x-windlass-bucket'",
        "choose another",
    ),
    (
        "experiment",
        {"strategy__unit": {"header": "x-user-id", "value": "7"}},
        "spec.strategy.unit.value = '7'",
        "leave it out",
    ),
    ("experiment", {"strategy__allocation": ...}, "spec.strategy.allocation", "each version its percent"),
    ("experiment", {"strategy__allocation": {"12": 50, "13": 49}}, "spec.strategy.allocation", "sums to 99"),
    ("experiment", {"strategy__allocation": {"12": 120, "13": -20}}, "allocation.12 = 120", "0..100"),
    ("experiment", {"strategy__allocation": {"12": 100, "13": 0}}, "spec.strategy.allocation", "13 nothing"),
    (
        "experiment",
        {"strategy__allocation": {"12": 0, "13": 100}},
        "spec.strategy.allocation",
        "nothing to compare",
    ),
    ("experiment", {"strategy__allocation": {"11": 50, "13": 50}}, "spec.strategy.allocation", "no other"),
    ("experiment", {"strategy__minDuration": "15d"}, "spec.strategy.minDuration", "shorter than maxDuration"),
    ("experiment", {"strategy__period": "0s"}, "spec.strategy.period", "longer than nothing"),
    ("experiment", {"strategy__steps": []}, "spec.strategy.steps", "unknown field"),
    ("experiment", {"checks": [ERRORS]}, "spec.checks", "needs a decision metric"),
    ("experiment", {"checks__1__minimumDetectableEffect": 0}, "minimumDetectableEffect = 0", "above 0"),
    (
        "experiment",
        {"checks__1__minimumDetectableEffect": "lots"},
        "minimumDetectableEffect = 'lots'",
        "percentage",
    ),
    ("experiment", {"checks__1__valueType": "money"}, "valueType = 'money'", "binary, continuous, ratio"),
    ("experiment", {"checks__1__direction": "up"}, "direction = 'up'", "increase, decrease"),
    ("experiment", {"checks__1__source": "envoy"}, "spec.checks[1].source = 'envoy'", "use one of feedback"),
    ("experiment", {"checks__1__bound": 5}, "spec.checks[1].bound", "unknown field"),
    (
        "experiment",
        {"backend": "gateway", "checks__0__source": "prometheus"},
        "spec.gateway.extension",
        "envoyGateway",
    ),
    ("experiment", {"backend": "kserve"}, "spec.strategy.type = 'experiment'", "backend kserve cannot do it"),
    (
        "experiment",
        {"backend": "knative"},
        "spec.strategy.type = 'experiment'",
        "backend knative cannot do it",
    ),
    ("bandit", {"backend": "knative"}, "spec.strategy.type = 'bandit'", "canaryTrafficPercent"),
    ("shadow", {"backend": "kserve"}, "spec.strategy.type = 'shadow'", "without mirroring"),
    ("bandit", {"strategy__floor": 60}, "spec.strategy.floor = 60", "0..50"),
    ("bandit", {"candidates": ["13", "14"], "strategy__floor": 40}, "spec.strategy.floor = 40", "at most 33"),
    ("bandit", {"strategy__policy": "ucb"}, "spec.strategy.policy = 'ucb'", "thompson, epsilonGreedy"),
    ("bandit", {"strategy__update": "0s"}, "spec.strategy.update", "longer than nothing"),
    ("bandit", {"strategy__update": 60}, "spec.strategy.update = 60", "duration"),
    ("bandit", {"strategy__epsilon": 101}, "spec.strategy.epsilon = 101", "0..100"),
    (
        "bandit",
        {"strategy__context": {"header": "x-device", "values": ["mobile"]}},
        "spec.strategy.context.values",
        "at least two",
    ),
    ("bandit", {"checks": [ERRORS]}, "spec.checks", "needs a decision metric"),
    ("bandit", {"checks": [REWARD]}, "spec.checks", "no guardrail"),
    ("bandit", {"checks__1__valueType": "ratio"}, "spec.checks = 'late-cost'", "binary or continuous"),
    ("bandit", {"checks__1__covariate": True}, "covariate = true", "use experiment"),
    ("shadow", {"strategy__percent": 0}, "spec.strategy.percent = 0", "1..100"),
    ("shadow", {"checks__0__source": "envoy"}, "spec.checks[0].source = 'envoy'", "use one of predictions"),
    ("shadow", {"checks": [ERRORS]}, "spec.checks[0].source = 'envoy'", "nobody waits for a copy"),
    ("shadow", {"checks": [SAME, REWARD]}, "spec.checks[1].metric = 'reward'", "earn nothing"),
    ("canary", {"checks": [SAME]}, "spec.checks[0].metric = 'disagreement'", "pairs both versions"),
    ("canary", {"strategy__match": {"header": "x-tester"}}, "spec.strategy.match.value", "give the value"),
    (
        "canary",
        {"checks": [{**ERRORS, "source": "predictions"}]},
        "spec.checks[0].source = 'predictions'",
        "leaves no prediction",
    ),
    ("blueGreen", {"strategy__keepWarm": "soon"}, "spec.strategy.keepWarm = 'soon'", "duration"),
    ("blueGreen", {"strategy__smoke": [{"body": 3}]}, "spec.strategy.smoke[0].body = 3", "JSON object"),
    ("blueGreen", {"strategy__smoke": [{"status": 700}]}, "spec.strategy.smoke[0].status = 700", "100..599"),
    ("blueGreen", {"strategy__smoke": [{"expect": 1}]}, "spec.strategy.smoke[0].expect", "unknown field"),
    (
        "blueGreen",
        {"checks": [{**ERRORS, "relativeToChampion": True}]},
        "spec.checks[0] = 'errors'",
        "blueGreen leaves it none",
    ),
    ("blueGreen", {"checks": [ERRORS, REWARD]}, "spec.checks[1] = 'late-cost'", "blueGreen leaves it none"),
    ("canary", {"gateway": {"name": "g"}}, "spec.gateway = 'g'", "has no Gateway"),
    ("canary", {"gateway": {"extension": "istio"}}, "spec.gateway.extension = 'istio'", "envoyGateway"),
]


@pytest.mark.parametrize(
    ("kind", "changes", "place", "remedy"),
    [
        pytest.param(*row, id=f"{row[0]}-{'-'.join(map(str, row[1]))}-{number}")
        for number, row in enumerate(BAD)
    ],
)
def test_what_cannot_be_meant_is_refused(kind, changes, place, remedy):
    with pytest.raises(spec.SpecError) as caught:
        spec.parse(document(kind, **changes))
    assert any(place in str(p) and remedy in str(p) for p in caught.value.problems), str(caught.value)
    assert caught.value.exit_code == 2


def test_the_document_of_the_architecture_is_a_release():
    told = {
        "kind": "Release",
        "metadata": {"name": "flights-13"},
        "spec": {
            "model": "flights",
            "candidate": "13",
            "champion": "12",
            "backend": "local",
            "strategy": {
                "type": "canary",
                "steps": [
                    {"weight": 10, "minSamples": 500, "minDuration": "10m"},
                    {"weight": 50, "minSamples": 2000},
                ],
            },
            "checks": [
                {
                    "name": "errors",
                    "kind": "guardrail",
                    "metric": "errorRate",
                    "source": "envoy",
                    "relativeToChampion": True,
                    "alpha": 0.01,
                },
                {
                    "name": "p99",
                    "kind": "guardrail",
                    "metric": "latencyP99",
                    "source": "envoy",
                    "bound": "50ms",
                    "alpha": 0.01,
                },
                REWARD,
            ],
            "onConflict": "refuse",
            "inconclusiveAfter": "24h",
            "whenInconclusive": "hold",
        },
    }
    release = spec.parse(told)
    assert release.check("p99").relative_to_champion is False
    assert release.decision.name == "late-cost"
