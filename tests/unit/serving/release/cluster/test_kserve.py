"""The backend `kserve` against an API server on the wire and KServe's controller as its versions behave."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_server import KubernetesServer

from serving.release.backend import RejectedError, UnconfirmedError
from serving.release.cluster.api import KubernetesApi
from serving.release.cluster.http_route import FOREIGN
from serving.release.cluster.kserve import KServeBackend, read_route
from serving.release.cluster.waiting import Patience
from serving.release.traffic import Match, Traffic, all_to
from tests.unit.serving.release.cluster.asking import Asking

TESTDATA = Path(__file__).parent / "testdata"
SERVICE = "/apis/serving.kserve.io/v1beta1/namespaces/prod/inferenceservices/flights"
ROUTE = "/apis/gateway.networking.k8s.io/v1/namespaces/prod/httproutes/flights"


def predictor(model: str, version: str) -> dict[str, Any]:
    """How version 12 is served takes an argument that no other has."""
    served = {"modelFormat": {"name": "windlass"}, "storageUri": f"pvc://models/{model}/{version}"}
    if version == "12":
        served["args"] = ["--old"]
    return {"model": served, "minReplicas": 2, "maxReplicas": 4}


def champion(**annotations: str) -> dict[str, Any]:
    spec = {"predictor": {**predictor("flights", "12"), "name": "v12"}}
    return {"metadata": {"annotations": annotations}, "spec": spec}


def kserve(server: KubernetesServer, version: str) -> Callable[[str, dict[str, Any]], None]:
    """What the controller of a version of KServe makes of an InferenceService, in the recorded shape."""
    shape = yaml.safe_load(
        (TESTDATA / f"kserve-{'0.21' if version == '0.21' else '0.20'}-canary.yaml").read_text()
    )
    if version == "0.19":
        server.dropped.add("canary")

    def control(path: str, live: dict[str, Any]) -> None:
        if path != SERVICE:
            return
        route = copy.deepcopy(shape)
        name = live["spec"]["predictor"].get("name")
        stable = f"flights-{name}-predictor" if name else "flights-predictor"
        canaries = live["spec"].get("canary", []) if version == "0.21" else []
        weights = {f"flights-{c['predictor']['name']}-predictor": c["trafficPercent"] for c in canaries}
        if canaries:
            weights = {stable: 100 - sum(weights.values()), **weights}
        for rule in route["spec"]["rules"]:
            like = rule["backendRefs"][0]
            rule["backendRefs"] = [
                {**like, "name": service, "weight": weight}
                for service, weight in (weights or {stable: 1}).items()
            ]
        server.put(ROUTE, route)

    return control


@pytest.fixture
def backend(api: KubernetesApi, patience: Patience, slept: list[float]) -> Asking:
    return Asking(KServeBackend(api, "prod", predictor, patience=patience), slept)


def test_the_recorded_shapes_read_as_what_they_do() -> None:
    """Verify that 0.21's route is the canary's 10 percent and 0.20's is none."""
    new, old = (yaml.safe_load((TESTDATA / f"kserve-{v}-canary.yaml").read_text()) for v in ("0.21", "0.20"))
    assert read_route(new, "flights", "12") == Traffic({"12": 90, "13": 10})
    assert read_route(old, "flights", "12") == all_to("12")


def test_a_whole_release_and_its_rollback(server: KubernetesServer, backend: Asking) -> None:
    """Verify each step of a release on 0.21, that going back is one percentage, and the next release's changes."""
    server.controllers.append(kserve(server, "0.21"))
    server.put(SERVICE, champion())
    assert backend.traffic("flights") == all_to("12")

    for weights in ({"12": 90, "13": 10}, {"12": 50, "13": 50}, {"13": 100}):
        backend.set_traffic("flights", Traffic(weights))
        assert backend.traffic("flights") == Traffic(weights)
    spec = server.objects[SERVICE]["spec"]
    assert spec["predictor"]["name"] == "v12"  # still there, and warm
    assert [(c["predictor"]["name"], c["trafficPercent"]) for c in spec["canary"]] == [("v13", 100)]

    server.asked.clear()
    backend.set_traffic("flights", all_to("12"))
    (write,) = server.writes()
    assert write.body["spec"] == {"canary": None}
    assert backend.traffic("flights") == all_to("12")

    backend.set_traffic("flights", all_to("13"))
    backend.set_traffic("flights", Traffic({"13": 80, "14": 20}))
    assert backend.traffic("flights") == Traffic({"13": 80, "14": 20})
    spec = server.objects[SERVICE]["spec"]
    assert spec["predictor"] == {
        **predictor("flights", "13"),
        "name": "v13",
    }  # nothing of version 12 is left in it
    assert [c["predictor"]["model"]["storageUri"] for c in spec["canary"]] == ["pvc://models/flights/14"]


def test_a_step_is_one_patch_of_the_canary(server: KubernetesServer, backend: Asking) -> None:
    """Verify what goes over the wire: the canary's entry, with the name that the CRD asks for there and without the
    scaling that KServe refuses."""
    server.controllers.append(kserve(server, "0.21"))
    server.put(SERVICE, champion())
    server.asked.clear()
    backend.set_traffic("flights", Traffic({"12": 90, "13": 10}))
    (write,) = server.writes()
    assert (write.method, write.path, write.content_type) == (
        "PATCH",
        SERVICE,
        "application/merge-patch+json",
    )
    assert write.body["spec"] == {
        "canary": [
            {
                "predictor": {
                    "model": {
                        "name": "kserve-container",
                        "modelFormat": {"name": "windlass"},
                        "storageUri": "pvc://models/flights/13",
                    },
                    "name": "v13",
                },
                "trafficPercent": 10,
            }
        ]
    }
    assert write.body["metadata"]["resourceVersion"].isdigit()


@pytest.mark.parametrize(
    ("version", "words"),
    [
        pytest.param(
            "0.20",
            r"KServe took spec\.canary but the HTTPRoute prod/flights sends no traffic to the canary \(version 13\): "
            r"KServe 0\.20 does that; use 0\.21 or backend gateway",
            id="0.20",
        ),
        pytest.param(
            "0.19", r"dropped spec\.canary of InferenceService prod/flights: KServe 0\.19 or older", id="0.19"
        ),
    ],
)
def test_a_canary_without_traffic_is_caught(
    server: KubernetesServer, backend: Asking, version: str, words: str
) -> None:
    """Verify that older versions of KServe are found out on the wire, and that their canary is taken away again."""
    server.controllers.append(kserve(server, version))
    server.put(SERVICE, champion())
    before = copy.deepcopy(server.objects[SERVICE]["spec"])
    with pytest.raises(RejectedError, match=words):
        backend.set_traffic("flights", Traffic({"12": 90, "13": 10}))
    assert server.objects[SERVICE]["spec"] == before
    assert backend.traffic("flights") == all_to("12")


def test_what_overtakes_an_unconfirmed_step_brings_back_what_was_confirmed(
    server: KubernetesServer, backend: Asking
) -> None:
    """Verify that nobody waits for KServe, and that a step which it does not take ends where KServe last agreed."""
    server.controllers.append(kserve(server, "0.21"))
    server.put(SERVICE, champion())
    backend.set_traffic("flights", Traffic({"12": 90, "13": 10}))
    server.controllers.clear()
    with pytest.raises(UnconfirmedError, match=r"not \{'12': 50, '13': 50\}"):
        backend.backend.set_traffic("flights", Traffic({"12": 50, "13": 50}))
    with pytest.raises(RejectedError, match=r"\(waited 5 s\); what was before is told again"):
        backend.set_traffic("flights", Traffic({"12": 80, "13": 20}))
    assert [c["trafficPercent"] for c in server.objects[SERVICE]["spec"]["canary"]] == [10]


def test_a_way_back_that_is_late_stays_told(server: KubernetesServer, backend: Asking) -> None:
    """Verify that a rollback which KServe does not do in time is not undone."""
    server.controllers.append(kserve(server, "0.21"))
    server.put(SERVICE, champion())
    backend.set_traffic("flights", Traffic({"12": 90, "13": 10}))
    server.controllers.clear()
    with pytest.raises(RejectedError, match=r"\(waited 5 s\); it stays told"):
        backend.set_traffic("flights", all_to("12"))
    assert "canary" not in server.objects[SERVICE]["spec"]


def test_after_a_restart_a_canary_that_gets_nothing_is_not_what_was_before(
    server: KubernetesServer, api: KubernetesApi, backend: Asking, patience: Patience, slept: list[float]
) -> None:
    """Verify that a process which finds a step that KServe does not do does not say that it brought something back,
    and that one which finds a step in force does bring it back."""
    server.controllers.append(kserve(server, "0.20"))
    server.put(SERVICE, champion())
    with pytest.raises(UnconfirmedError):
        backend.backend.set_traffic("flights", Traffic({"12": 90, "13": 10}))
    second = Asking(KServeBackend(api, "prod", predictor, patience=patience), slept)
    with pytest.raises(RejectedError, match="what was before is not known, so this stays told"):
        second.set_traffic("flights", Traffic({"12": 90, "13": 10}))
    server.controllers[:] = [kserve(server, "0.21")]
    second.set_traffic("flights", Traffic({"12": 90, "13": 10}))
    server.controllers.clear()
    third = Asking(KServeBackend(api, "prod", predictor, patience=patience), slept)
    with pytest.raises(RejectedError, match="what was before is told again"):
        third.set_traffic("flights", Traffic({"12": 50, "13": 50}))
    assert [c["trafficPercent"] for c in server.objects[SERVICE]["spec"]["canary"]] == [10]


def test_a_service_without_a_name_says_its_version_in_an_annotation(
    server: KubernetesServer, backend: Asking
) -> None:
    """Verify that an InferenceService which was made before us can be released on, once it says what it serves."""
    server.controllers.append(kserve(server, "0.21"))
    service = champion(**{"windlass.dev/version": "12"})
    del service["spec"]["predictor"]["name"]
    server.put(SERVICE, service)
    backend.set_traffic("flights", Traffic({"12": 75, "13": 25}))
    assert backend.traffic("flights") == Traffic({"12": 75, "13": 25})
    del server.objects[SERVICE]["metadata"]["annotations"]["windlass.dev/version"]
    assert backend.traffic("flights") == FOREIGN


def edit(route: dict[str, Any], rule: int, weights: list[int]) -> dict[str, Any]:
    changed = copy.deepcopy(route)
    for ref, weight in zip(changed["spec"]["rules"][rule]["backendRefs"], weights, strict=True):
        ref["weight"] = weight
    return changed


@pytest.mark.parametrize(
    ("weights", "read"),
    [
        pytest.param([[90, 10], [90, 10]], Traffic({"12": 90, "13": 10}), id="percent"),
        pytest.param([[9, 1], [9, 1]], Traffic({"12": 90, "13": 10}), id="of-ten"),
        pytest.param([[90, 10], [100, 0]], FOREIGN, id="rules-disagree"),
        pytest.param([[100, 0], [100, 0]], all_to("12"), id="zero"),
        pytest.param([[2, 1], [2, 1]], FOREIGN, id="no-percent"),
        pytest.param([[0, 0], [0, 0]], FOREIGN, id="nobody"),
    ],
)
def test_weights_are_shares_of_every_rule(weights: list[list[int]], read: Traffic) -> None:
    """Verify that weights are read as shares, and that a split of one rule alone is no split."""
    route = yaml.safe_load((TESTDATA / "kserve-0.21-canary.yaml").read_text())
    for rule, found in enumerate(weights):
        route = edit(route, rule, found)
    assert read_route(route, "flights", "12") == read


@pytest.mark.parametrize(
    ("traffic", "words"),
    [
        pytest.param(Traffic({"12": 100}, mirror_to="13"), "mirroring", id="shadow"),
        pytest.param(Traffic({"12": 100}, matches=(Match("header", "a", "b", "13"),)), "matches", id="match"),
        pytest.param(Traffic({"12": 40, "13": 30, "14": 30}), "three versions", id="three"),
        pytest.param(Traffic({"12": 90}), "weights", id="sum"),
    ],
)
def test_what_kserve_cannot_do_is_refused(
    server: KubernetesServer, backend: Asking, traffic: Traffic, words: str
) -> None:
    """Verify that nothing is asked of the API server."""
    with pytest.raises(RejectedError, match=f"spec.canary cannot do {words}.*use backend gateway"):
        backend.set_traffic("flights", traffic)
    assert server.asked == []


def test_a_transformer_is_refused(server: KubernetesServer, backend: Asking) -> None:
    """Verify that a split which would not reach the predictor is not told."""
    service = champion()
    service["spec"]["transformer"] = {"containers": [{"name": "t"}]}
    server.put(SERVICE, service)
    with pytest.raises(RejectedError, match="has a transformer"):
        backend.set_traffic("flights", Traffic({"12": 90, "13": 10}))
    assert server.writes() == []


def test_a_model_without_a_service_or_route(server: KubernetesServer, backend: Asking) -> None:
    """Verify that a missing InferenceService is refused, and a missing route is no yes."""
    assert backend.traffic("flights") is None
    with pytest.raises(RejectedError, match="InferenceService prod/flights does not exist"):
        backend.set_traffic("flights", all_to("12"))
    server.put(SERVICE, champion())
    with pytest.raises(RejectedError, match="KServe has made no HTTPRoute prod/flights"):
        backend.set_traffic("flights", Traffic({"12": 90, "13": 10}))
    assert "canary" not in server.objects[SERVICE]["spec"]
