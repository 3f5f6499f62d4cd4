"""What is read out of a cluster's objects; tests/cluster/test_kserve_objects.py asks a real API server for them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from kubernetes_server import KubernetesServer, Scripted

from serving.release.backend import UnreachableError
from serving.release.cluster import inference_service, readiness, serving_options
from serving.release.cluster.api import KubernetesApi
from serving.release.cluster.servers import Servers, holds, services

UNAVAILABLE = {
    "reason": "MinimumReplicasUnavailable",
    "message": "Deployment does not have minimum availability.",
}


def service(
    ready: str | None = "False", model: dict[str, Any] | None = None, **predictor_ready: str
) -> dict[str, Any]:
    conditions = []
    if ready is not None:
        conditions = [
            {"type": "IngressReady", "status": "True"},
            {"type": "PredictorReady", "status": ready, **predictor_ready},
            {"type": "Ready", "status": ready, **predictor_ready},
        ]
    return {
        "spec": {"predictor": {"annotations": {"windlass.dev/rendered": "abc"}}},
        "status": {"conditions": conditions, "modelStatus": model or {"transitionStatus": "InProgress"}},
    }


def failed(
    reason: str, message: str = "", code: int = 0, state: str = "BlockedByFailedLoad"
) -> dict[str, Any]:
    return {
        "transitionStatus": state,
        "lastFailureInfo": {"reason": reason, "message": message, "exitCode": code},
    }


def revision(latest: str) -> dict[str, Any]:
    """A Knative service whose newest revision is m-00002."""
    return {
        "kind": "Service",
        "metadata": {"generation": 2},
        "spec": {"template": {"metadata": {"annotations": {"windlass.dev/rendered": "abc"}}}},
        "status": {
            "observedGeneration": 2,
            "latestCreatedRevisionName": "m-00002",
            "latestReadyRevisionName": latest,
        },
    }


def deploy(server: KubernetesServer, name: str, service: dict[str, Any], **replicas: int) -> None:
    """Put the Deployment that KServe makes of an InferenceService, as Kubernetes reports it."""
    annotations = service["spec"]["predictor"]["annotations"]
    server.put(
        f"/apis/apps/v1/namespaces/prod/deployments/{name}-predictor",
        {
            "kind": "Deployment",
            "metadata": {"generation": 1},
            "spec": {
                "replicas": replicas["replicas"],
                "template": {"metadata": {"annotations": dict(annotations)}},
            },
            "status": {"observedGeneration": 1, "updatedReplicas": replicas["replicas"], **replicas},
        },
    )


def pod(**status: Any) -> dict[str, Any]:
    return {"status": status}


def waiting(name: str, reason: str, message: str = "") -> dict[str, Any]:
    return {"name": name, "state": {"waiting": {"reason": reason, "message": message}}}


UNSCHEDULABLE = pod(
    conditions=[
        {
            "type": "PodScheduled",
            "status": "False",
            "message": "0/3 nodes are available: 3 Insufficient memory.",
        }
    ]
)


@pytest.mark.parametrize(
    ("live", "workload", "pods", "ready", "words"),
    [
        pytest.param(service(None), None, [], None, "KServe has not looked", id="untouched"),
        pytest.param(service(**UNAVAILABLE), None, [], None, "minimum availability", id="pods-on-their-way"),
        pytest.param(service("Unknown"), None, [], None, "PredictorReady is Unknown", id="without-a-reason"),
        pytest.param(
            service(reason="ProgressDeadlineExceeded", message="timed out"),
            None,
            [],
            False,
            "timed out",
            id="given-up",
        ),
        pytest.param(
            service(reason="FailedCreate", message='violates PodSecurity "restricted"'),
            None,
            [],
            False,
            "violates PodSecurity",
            id="pods-refused",
        ),
        pytest.param(
            service(model=failed("ModelLoadFailed", "error: serving bundle /mnt/models: unsigned", 2)),
            None,
            [],
            False,
            "not loaded; exit code 2; error: serving bundle /mnt/models: unsigned",
            id="the-server-ended",
        ),
        pytest.param(
            service(model=failed("RuntimeNotRecognized", "Waiting for runtime", state="InvalidSpec")),
            None,
            [],
            False,
            "apply manifests/serving",
            id="no-runtime",
        ),
        pytest.param(
            service("True", failed("ModelLoadFailed", "once", 1, state="UpToDate")),
            revision("m-00002"),
            [],
            True,
            "",
            id="a-failure-that-is-over",
        ),
        pytest.param(service("True"), None, [], None, "nothing that runs", id="ready-without-a-workload"),
        pytest.param(
            service("True"), revision("m-00001"), [], None, "m-00002 is not ready", id="older-revision"
        ),
        pytest.param(
            service(**UNAVAILABLE),
            None,
            [UNSCHEDULABLE],
            None,
            "Insufficient memory",
            id="unschedulable-may-heal",
        ),
        pytest.param(
            service(**UNAVAILABLE),
            None,
            [
                pod(containerStatuses=[waiting("kserve-container", "ImagePullBackOff", "Back-off")]),
                UNSCHEDULABLE,
            ],
            False,
            "cannot be pulled (ImagePullBackOff): Back-off; unschedulable",
            id="image",
        ),
        pytest.param(
            service(**UNAVAILABLE),
            None,
            [pod(initContainerStatuses=[waiting("storage-initializer", "CrashLoopBackOff", "back-off 10s")])],
            False,
            "storage, container storage-initializer: it ends again and again",
            id="storage",
        ),
        pytest.param(
            service(**UNAVAILABLE),
            None,
            [pod(containerStatuses=[waiting("kserve-container", "ContainerCreating")])],
            None,
            "minimum availability",
            id="a-container-on-its-way",
        ),
    ],
)
def test_readiness(
    live: dict[str, Any],
    workload: dict[str, Any] | None,
    pods: list[dict[str, Any]],
    ready: bool | None,
    words: str,
) -> None:
    """Verify what each state means and that it is told in words."""
    found = readiness.of(live, workload, pods)
    assert found.ready is ready
    assert words in found.reason
    assert bool(found.reason) == (ready is not True)


@pytest.mark.parametrize(
    ("wanted", "live", "same"),
    [
        pytest.param({"a": 1}, {"a": 1, "b": 2}, True, id="a-field-of-others"),
        pytest.param(
            {"a": {"b": [{"c": 1}]}}, {"a": {"b": [{"c": 1, "d": "default"}]}}, True, id="a-default-in-a-list"
        ),
        pytest.param({"a": [1]}, {"a": [1, 2]}, False, id="an-item-more"),
        pytest.param({"a": 1}, {}, False, id="missing"),
        pytest.param({"a": {"b": 1}}, {"a": None}, False, id="emptied"),
        pytest.param({"a": "1"}, {"a": 1}, False, id="another-type"),
    ],
)
def test_what_is_asked_for_is_there(wanted: Any, live: Any, same: bool) -> None:
    """Verify that others' fields and defaults are no reason to write, and everything else is."""
    assert holds(wanted, live) is same


def test_every_service_that_a_route_names_is_found() -> None:
    """Verify that weights, zeros and mirrors count, of the rule and of a backend, and other namespaces do not."""
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "shadow", "port": 80}}}
    inner = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "inner", "port": 80}}}
    refs = [
        {"name": "champion", "weight": 100, "filters": [inner]},
        {"name": "idle", "weight": 0},
        {"name": "elsewhere", "namespace": "other"},
        {"name": "bucket", "kind": "Backend", "group": "gateway.envoyproxy.io"},
    ]
    route = {"spec": {"rules": [{"backendRefs": refs, "filters": [mirror]}, {}]}}
    assert services(route, "prod") == {"champion", "idle", "shadow", "inner"}


def test_the_service_of_all_versions_is_no_version(server: KubernetesServer, api: KubernetesApi) -> None:
    """Verify that a model that KServe's own backend once released can be released by a gateway: what is known is
    retired by its name, and one without a version has none."""
    options = serving_options.parse({"storage": "s3://models/{model}/{version}"})
    servers = Servers(api, "prod", options)
    (shared, *_) = inference_service.for_all_versions("flights", "11", options, "kserve")
    server.put("/apis/serving.kserve.io/v1beta1/namespaces/prod/inferenceservices/flights", shared)
    assert servers.known("flights") == ()
    servers.ensure("flights", "12")
    assert servers.known("flights") == ("12",)


def test_servers_that_answer_are_gone_back_to_as_they_stand(
    server: KubernetesServer, api: KubernetesApi
) -> None:
    """Verify that other options since then change nothing of what KServe calls ready, and all of what it does not."""
    path = "/apis/serving.kserve.io/v1beta1/namespaces/prod/inferenceservices/flights-12"
    before = serving_options.parse({"storage": "s3://models/{model}/{version}"})
    Servers(api, "prod", before).ensure("flights", "12")
    kept = server.objects[path]["spec"]
    server.objects[path]["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
    deploy(server, "flights-12", server.objects[path], replicas=1, readyReplicas=1)
    moved = serving_options.parse({"storage": "s3://elsewhere/{model}/{version}"})
    servers = Servers(api, "prod", moved)
    assert servers.standing("flights", "12").ready is True
    assert server.objects[path]["spec"] == kept
    server.objects[path]["status"] = {"conditions": [{"type": "Ready", "status": "False"}]}
    assert servers.standing("flights", "12").ready is not True
    assert server.objects[path]["spec"] != kept


@pytest.mark.parametrize(
    ("workload", "ready", "words"),
    [
        pytest.param(
            {"replicas": 0}, False, "kubectl -n prod scale deployment flights-12-predictor", id="zero"
        ),
        pytest.param(
            {"replicas": 2, "unavailableReplicas": 2}, None, "none of 2 replicas is ready", id="stale"
        ),
        pytest.param({"replicas": 2, "readyReplicas": 1}, True, "", id="one-of-two"),
        pytest.param(None, None, "has made nothing that runs", id="no-deployment"),
    ],
)
def test_kserves_ready_alone_is_no_server_that_answers(
    server: KubernetesServer,
    api: KubernetesApi,
    workload: dict[str, int] | None,
    ready: bool | None,
    words: str,
) -> None:
    """Verify that a kept version which somebody scaled to zero, or whose Ready is older than its pods' end, gets no
    traffic before a pod of it is ready, whether it is gone back to or begins."""
    path = "/apis/serving.kserve.io/v1beta1/namespaces/prod/inferenceservices/flights-12"
    servers = Servers(api, "prod", serving_options.parse({"storage": "s3://models/{model}/{version}"}))
    servers.ensure("flights", "12")
    server.objects[path]["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
    if workload is not None:
        deploy(server, "flights-12", server.objects[path], **workload)
    for asked in (servers.standing, servers.ensure, servers.readiness):
        found = asked("flights", "12")
        assert found.ready is ready and words in found.reason


def test_other_options_start_no_server_of_a_live_release_anew(
    server: KubernetesServer, api: KubernetesApi
) -> None:
    """Verify that servers of which one answers stay as they were made, whatever they would be made of today; that a
    hand's edit is put back; and that today's options make what answers no more, or is gone."""
    path = "/apis/serving.kserve.io/v1beta1/namespaces/prod/inferenceservices/flights-12"
    options = {"storage": "s3://models/{model}/{version}"}
    before = Servers(api, "prod", serving_options.parse(options))
    after = Servers(
        api, "prod", serving_options.parse({**options, "storage": "s3://elsewhere/{model}/{version}"})
    )
    before.ensure("flights", "12")
    made = copy.deepcopy(server.objects[path]["spec"])
    server.objects[path]["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
    deploy(server, "flights-12", server.objects[path], replicas=2, readyReplicas=2)
    assert after.keep("flights", "12").ready is True
    assert server.objects[path]["spec"] == made
    server.objects[path]["status"] = {"conditions": [{"type": "Ready", "status": "False"}]}
    deployment = "/apis/apps/v1/namespaces/prod/deployments/flights-12-predictor"
    server.objects[deployment]["status"] = {"observedGeneration": 1, "replicas": 2, "readyReplicas": 1}
    assert after.keep("flights", "12").ready is None
    assert server.objects[path]["spec"] == made, "one of two answers"

    server.objects[path]["spec"]["predictor"]["model"]["storageUri"] = "s3://somebody/else"
    before.keep("flights", "12")
    assert server.objects[path]["spec"] == made

    server.objects[deployment]["status"] = {"observedGeneration": 1, "replicas": 2}
    after.keep("flights", "12")
    assert server.objects[path]["spec"]["predictor"]["model"]["storageUri"].startswith("s3://elsewhere/")
    server.remove(path)
    assert before.keep("flights", "12").ready is None
    assert server.objects[path]["spec"] == made


def test_servers_are_asked_for_once_in_a_turn(server: KubernetesServer, api: KubernetesApi) -> None:
    """Verify that a webhook which does not answer holds one try, and that the next turn makes them."""
    servers = Servers(api, "prod", serving_options.parse({"storage": "s3://models/{model}/{version}"}))
    server.scripted += [
        Scripted(404, b'{"kind": "Status", "code": 404, "message": "not found"}'),
        Scripted(504, b'{"kind": "Status", "code": 504, "message": "webhook"}'),
    ]
    with pytest.raises(UnreachableError, match="webhook"):
        servers.ensure("flights", "12")
    assert [asked.method for asked in server.asked] == ["GET", "PATCH"]
    servers.ensure("flights", "12")
    assert servers.known("flights") == ("12",)


def test_servers_that_are_gone_are_made_to_go_back_to(server: KubernetesServer, api: KubernetesApi) -> None:
    """Verify that a rollback to a version without servers has them started."""
    options = serving_options.parse({"storage": "s3://models/{model}/{version}"})
    servers = Servers(api, "prod", options)
    assert servers.standing("flights", "12").ready is None
    assert servers.known("flights") == ("12",)


@pytest.mark.parametrize(
    ("workload", "answers"),
    [
        pytest.param({"spec": {"replicas": 2}, "status": {"readyReplicas": 1}}, True, id="one-of-two"),
        pytest.param(
            {"spec": {"replicas": 2}, "status": {"unavailableReplicas": 2}}, False, id="none-of-two"
        ),
        pytest.param({"spec": {"replicas": 0}}, None, id="none-is-wanted"),
        pytest.param(None, False, id="no-deployment"),
    ],
)
def test_whether_anything_of_a_version_answers(
    server: KubernetesServer, api: KubernetesApi, workload: dict[str, Any] | None, answers: bool | None
) -> None:
    """Verify that one of two pods is an answer, which KServe calls not ready."""
    servers = Servers(api, "prod", serving_options.parse({"storage": "s3://models/{model}/{version}"}))
    if workload is not None:
        server.put("/apis/apps/v1/namespaces/prod/deployments/flights-13-predictor", workload)
    assert servers.answering("flights", "13") is answers
