"""Traffic as an HTTPRoute, as it stands in a file beside, and back."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.release.cluster import http_route
from serving.release.cluster.http_route import FOREIGN
from serving.release.release import Gateway
from serving.release.traffic import Assignment, Match, Segments, Traffic, Unit

TESTDATA = Path(__file__).parent / "testdata"
GATEWAY = Gateway(
    name="public", namespace="edge", hostnames=("flights.example.com",), extension="envoyGateway"
)
SHARED = Gateway(name="public", namespace="edge")

CANARY = Traffic({"12": 90, "13": 10})
ASSIGNED = Traffic(
    {"12": 50, "13": 50},
    assignment=Assignment(
        Unit("header", "x-user-id"), "flights-13", {"12": ((0, 5_000),), "13": ((5_000, 10_000),)}, "12"
    ),
)
ALL = {
    "canary": CANARY,
    "canary-matches": Traffic(
        {"12": 90, "13": 10},
        matches=(
            Match("header", "x-windlass-preview", "13", "13"),
            Match("cookie", "group", "beta", "13"),
        ),
    ),
    "shadow": Traffic({"12": 100}, mirror_to="13", mirror_percent=20),
    "segments": Traffic(
        {"12": 50, "13": 50},
        segments=Segments("x-device", {"mobile": {"12": 20, "13": 80}, "desktop": {"12": 95, "13": 5}}),
    ),
    "experiment": ASSIGNED,
}


@pytest.mark.parametrize("name", ALL)
def test_traffic_is_this_route(name: str) -> None:
    """Verify the whole spec against the file that a person read."""
    expected = yaml.safe_load((TESTDATA / f"{name}.yaml").read_text())
    assert http_route.spec("flights", "prod", ALL[name], GATEWAY) == expected["spec"]


def live(traffic: Traffic, gateway: Gateway = GATEWAY) -> dict[str, Any]:
    """The route as the API server has it."""
    content = copy.deepcopy(http_route.manifest("flights", "prod", traffic, gateway))
    content["metadata"] |= {"name": "windlass-flights", "namespace": "prod"}
    return content


@pytest.mark.parametrize(
    "gateway", [GATEWAY, replace(GATEWAY, hostnames=())], ids=["own-host", "shared-host"]
)
@pytest.mark.parametrize("name", ALL)
def test_a_route_reads_as_its_traffic(name: str, gateway: Gateway) -> None:
    """Verify that what was written is read back the same, with and without a host of the model's own."""
    assert http_route.read(live(ALL[name], gateway), "flights", gateway) == ALL[name]


@pytest.mark.parametrize("name", ALL)
def test_a_route_from_before_the_route_header_reads_as_its_traffic(name: str) -> None:
    """Verify that an upgraded operator sees no other traffic in a route that its former self wrote."""
    route = live(ALL[name])
    route["spec"] = http_route.spec("flights", "prod", ALL[name], GATEWAY, former=True)
    assert not any("requestHeaderModifier" in f for r in route["spec"]["rules"] for f in r.get("filters", ()))
    assert route["spec"] != live(ALL[name])["spec"]
    assert http_route.read(route, "flights", GATEWAY) == ALL[name]


def places(route: dict[str, Any]) -> set[tuple[int, int]]:
    """What Envoy Gateway names clusters after: the rule's place, and the backend's in it."""
    rules = route["spec"]["rules"]
    return {(rule, ref) for rule, content in enumerate(rules) for ref in range(len(content["backendRefs"]))}


@pytest.mark.parametrize("after", [*ALL, "promoted"])
@pytest.mark.parametrize("before", ALL)
def test_a_route_never_loses_a_place(before: str, after: str) -> None:
    """Verify that what a proxy may still be routing to has a cluster, and that the traffic is what was asked for."""
    wanted = ALL.get(after, Traffic({"13": 100}))
    route, told = live(ALL[before]), live(wanted)
    told |= http_route.manifest("flights", "prod", wanted, GATEWAY, kept=http_route.shape(route)) | {
        "metadata": told["metadata"]
    }
    assert places(route) | places(live(wanted)) == places(told)
    assert http_route.read(told, "flights", GATEWAY) == wanted
    for index, rule in enumerate(told["spec"]["rules"]):
        shares: Counter[str] = Counter()
        for ref in rule["backendRefs"]:
            shares[ref["name"]] += ref["weight"]
        asked = live(wanted)["spec"]["rules"]
        if index < len(asked):
            assert shares == {ref["name"]: ref["weight"] for ref in asked[index]["backendRefs"]}
            assert {k: v for k, v in rule.items() if k != "backendRefs"} == {
                k: v for k, v in asked[index].items() if k != "backendRefs"
            }
        else:
            assert [match["path"]["value"] for match in rule["matches"]] == ["/windlass.dev/nobody"]
            assert sum(shares.values()) == 100 and len(shares) == 1
    again = http_route.spec("flights", "prod", wanted, GATEWAY, kept=http_route.shape(told))
    assert again == told["spec"], "told again, it stays as it is"


def test_every_rule_says_why_a_request_is_its() -> None:
    """Verify that no rule lets through what a caller put into the header, one that is kept for its place neither."""
    widest = (3,) * http_route.MOST_RULES
    for traffic, kept in itertools.product(ALL.values(), ((), widest)):
        rules = http_route.spec("flights", "prod", traffic, GATEWAY, kept=kept)["rules"]
        assert len(rules) >= len(kept)
        for rule in rules:
            (told,) = [f["requestHeaderModifier"] for f in rule["filters"] if "requestHeaderModifier" in f]
            assert [item["name"] for item in told["set"]] == ["x-windlass-route"]


def test_the_defaults_of_the_api_server_are_no_change() -> None:
    """Verify that a route in somebody's shorter spelling, and with its backends in another order, is the same."""
    route = live(CANARY)
    for rule in route["spec"]["rules"]:
        del rule["matches"]
        rule["backendRefs"].reverse()
        for ref in rule["backendRefs"]:
            del ref["group"], ref["kind"], ref["namespace"]
    del route["spec"]["parentRefs"][0]["group"]
    assert http_route.read(route, "flights", GATEWAY) == CANARY


def test_on_a_shared_host_a_model_has_its_paths_only() -> None:
    """Verify that without a host name the paths of this model are matched, V1's verb included, and no other's."""
    (rule,) = http_route.spec("flights", "prod", CANARY, SHARED)["rules"]
    assert [match["path"] for match in rule["matches"]] == [
        {"type": "PathPrefix", "value": "/v2/models/flights"},
        {"type": "PathPrefix", "value": "/v1/models/flights"},
        {"type": "Exact", "value": "/v1/models/flights:predict"},
    ]


def edit(path: str, value: Any) -> Any:
    def change(route: dict[str, Any]) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        target: Any = route
        for part in parents:
            target = target[part]
        target[last] = value

    return change


RULE = "spec.rules.0"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(edit("spec.hostnames", ["other.example.com"]), id="host"),
        pytest.param(edit("spec.parentRefs.0.name", "internal"), id="gateway"),
        pytest.param(edit(f"{RULE}.backendRefs.0.name", "flights-9-predictor"), id="service"),
        pytest.param(edit(f"{RULE}.backendRefs.0.port", 8080), id="port"),
        pytest.param(edit(f"{RULE}.backendRefs.0.weight", 91), id="weight"),
        pytest.param(edit(f"{RULE}.backendRefs.0.filters", []), id="version-header"),
        pytest.param(edit(f"{RULE}.timeouts", {"request": "1s"}), id="timeout"),
        pytest.param(edit(f"{RULE}.matches", [{"path": {"type": "PathPrefix", "value": "/v2"}}]), id="path"),
        pytest.param(
            lambda route: route["spec"]["rules"].insert(0, {"backendRefs": [{"name": "debug", "port": 80}]}),
            id="rule-more",
        ),
        pytest.param(edit(RULE + ".filters", [{"type": "URLRewrite", "urlRewrite": {"hostname": "x"}}]), id="filter"),
        pytest.param(edit("spec.rules", []), id="no-rules"),
    ],
)  # fmt: skip
def test_any_edit_by_hand_is_seen(change: Any) -> None:
    """Verify that a route which no longer does what was decided never reads as if it did."""
    route = live(CANARY)
    change(route)
    assert http_route.read(route, "flights", GATEWAY) != CANARY


def test_edited_weights_are_read_as_they_are() -> None:
    """Verify that the most usual edit by hand is reported with its numbers."""
    route = live(CANARY)
    for ref, weight in zip(route["spec"]["rules"][0]["backendRefs"], (40, 60), strict=True):
        ref["weight"] = weight
    assert http_route.read(route, "flights", GATEWAY) == Traffic({"12": 40, "13": 60})


@pytest.mark.parametrize("said", [None, "{", "[]", '{"weights": 3}', '{"weights": {"12": 100}}'])
def test_an_annotation_is_never_believed_alone(said: str | None) -> None:
    """Verify that with the annotation gone, broken or lying the rules are what is read."""
    route = live(CANARY)
    route["metadata"]["annotations"] = {} if said is None else {"windlass.dev/traffic": said}
    assert http_route.read(route, "flights", GATEWAY) == CANARY


def test_buckets_that_moved_are_not_what_was_told() -> None:
    """Verify that an edited range of buckets is seen although the annotation still tells the old one."""
    route = live(ASSIGNED)
    route["spec"]["rules"][1]["matches"][0]["headers"][0]["value"] = "^([0-5][0-9]{3})$"
    assert http_route.read(route, "flights", GATEWAY) == FOREIGN


@pytest.mark.parametrize(
    ("traffic", "gateway", "words"),
    [
        pytest.param(Traffic({"12": 90, "13": 10}, mirror_to="13"), GATEWAY, "use a shadow release", id="pairs"),
        pytest.param(ASSIGNED, replace(GATEWAY, extension=None), "spec.gateway.extension", id="no-extension"),
        pytest.param(
            replace(ASSIGNED, segments=Segments("x-device", {"m": {"12": 100}})), GATEWAY, "not both", id="both"
        ),
        pytest.param(Traffic({"12": 90}), GATEWAY, "no shares of 100", id="sum"),
        pytest.param(Traffic({"12": 110, "13": -10}), GATEWAY, "no shares of 100", id="negative"),
        pytest.param(
            Traffic({"12": 100}, segments=Segments("x-device", {"m": {"12": 99}})),
            GATEWAY,
            "no shares of 100",
            id="segment-sum",
        ),
        pytest.param(replace(ASSIGNED, weights={"12": 60, "13": 40}), GATEWAY, "not the shares", id="shares"),
        pytest.param(
            Traffic({"12": 100}, segments=Segments("x-city", {str(n): {"12": 100} for n in range(16)})),
            GATEWAY,
            "17 rules are more than the 16",
            id="rules",
        ),
    ],
)  # fmt: skip
def test_what_a_gateway_cannot_do_is_refused(traffic: Traffic, gateway: Gateway, words: str) -> None:
    """Verify that each has its reason, and what to do instead."""
    reason = http_route.refusal(traffic, gateway)
    assert reason is not None and words in reason


@pytest.mark.parametrize("name", ALL)
def test_what_a_gateway_can_do_is_not_refused(name: str) -> None:
    """Verify that the strategies pass."""
    assert http_route.refusal(ALL[name], GATEWAY) is None


def test_the_most_scattered_buckets_fit_into_a_route() -> None:
    """Verify that even buckets of which no two neighbours are of one version stay within the Gateway API's bounds."""
    own, rest = (tuple((n, n + 1) for n in range(first, 10_000, 2)) for first in (0, 1))
    assignment = Assignment(Unit("header", "x-user-id"), "s", {"12": rest, "13": own}, "12")
    traffic = Traffic({"12": 50, "13": 50}, assignment=assignment)
    shared = replace(GATEWAY, hostnames=())
    matches = [len(rule["matches"]) for rule in http_route.spec("flights", "prod", traffic, shared)["rules"]]
    assert matches == [3, 21, 21]
    assert http_route.read(live(traffic, shared), "flights", shared) == traffic
