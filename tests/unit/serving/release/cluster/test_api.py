"""What goes over the wire to the API server, and what is made of every answer."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from kubernetes_server import KubernetesServer, Scripted, status

from serving.release.backend import RejectedError, UnreachableError
from serving.release.cluster.api import (
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    PAUSES,
    ConflictError,
    KubernetesApi,
    difference,
)
from windlass.errors import UsageError

PATH = "/apis/gateway.networking.k8s.io/v1/namespaces/prod/httproutes/windlass-flights"
SERVICE = "/apis/serving.kserve.io/v1beta1/namespaces/prod/inferenceservices/flights"


def failure(code: int, message: str) -> Scripted:
    return Scripted(code, json.dumps(status(code, message)).encode())


def test_an_apply_is_one_server_side_apply(server: KubernetesServer, api: KubernetesApi) -> None:
    """Verify that the whole object goes in one PATCH, under our name, with force, and as an apply."""
    content = {"metadata": {"labels": {"a": "b"}, "resourceVersion": "7"}, "spec": {"hostnames": ["m"]}}
    server.scripted.append(Scripted(200, b'{"kind": "HTTPRoute"}'))
    assert api.apply(HTTP_ROUTE, "prod", "windlass-flights", content) == {"kind": "HTTPRoute"}
    (asked,) = server.asked
    assert (asked.method, asked.path, asked.content_type) == ("PATCH", PATH, "application/apply-patch+yaml")
    assert asked.query == {"fieldManager": "windlass-release", "force": "true"}
    assert asked.body == {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {
            "name": "windlass-flights",
            "namespace": "prod",
            "labels": {"a": "b"},
            "resourceVersion": "7",
        },
        "spec": {"hostnames": ["m"]},
    }


def test_an_update_sends_the_difference_onto_what_was_read(
    server: KubernetesServer, api: KubernetesApi
) -> None:
    """Verify that an update is a merge patch of what changed, with the resourceVersion that was read."""
    server.put(
        SERVICE, {"spec": {"predictor": {"model": {"args": ["x"], "storageUri": "a"}, "minReplicas": 1}}}
    )
    read = server.objects[SERVICE]["metadata"]["resourceVersion"]
    api.update(
        INFERENCE_SERVICE,
        "prod",
        "flights",
        lambda live: {**live, "spec": {"predictor": {"model": {"storageUri": "b"}}}},
    )
    asked = server.writes()[0]
    assert (asked.method, asked.path, asked.content_type) == (
        "PATCH",
        SERVICE,
        "application/merge-patch+json",
    )
    assert asked.query == {"fieldManager": "windlass-release"}
    assert asked.body == {
        "metadata": {"resourceVersion": read},
        "spec": {"predictor": {"model": {"args": None, "storageUri": "b"}, "minReplicas": None}},
    }
    assert server.objects[SERVICE]["spec"] == {"predictor": {"model": {"storageUri": "b"}}}


def test_an_update_that_changes_nothing_writes_nothing(server: KubernetesServer, api: KubernetesApi) -> None:
    """Verify that an object which is as it should be is left alone."""
    server.put(SERVICE, {"spec": {"a": 1}})
    assert api.update(INFERENCE_SERVICE, "prod", "flights", dict) is not None
    assert server.writes() == []


def test_an_update_reads_again_after_a_conflict(
    server: KubernetesServer, api: KubernetesApi, slept: list[float]
) -> None:
    """Verify that who wrote in between is not overwritten: the change is made anew to what they wrote."""
    server.put(SERVICE, {"spec": {"theirs": 1}})
    seen: list[int] = []

    def change(live: dict) -> dict:
        seen.append(live["spec"]["theirs"])
        if len(seen) == 1:
            server.put(SERVICE, {"spec": {"theirs": 2}})
        return {**live, "spec": {**live["spec"], "ours": True}}

    api.update(INFERENCE_SERVICE, "prod", "flights", change)
    assert seen == [1, 2]
    assert server.objects[SERVICE]["spec"] == {"theirs": 2, "ours": True}
    assert slept == [PAUSES[0]]


def test_an_update_that_always_conflicts_says_so(server: KubernetesServer, api: KubernetesApi) -> None:
    """Verify that the tries are counted, and that the last conflict is raised."""
    server.put(SERVICE, {"spec": {"n": 0}})

    def change(live: dict) -> dict:
        server.put(SERVICE, {"spec": {"n": live["spec"]["n"] + 1}})
        return {**live, "spec": {"ours": True}}

    with pytest.raises(ConflictError, match="InferenceService prod/flights: the object has been modified"):
        api.update(INFERENCE_SERVICE, "prod", "flights", change)
    assert len(server.writes()) == len(PAUSES) + 1
    assert server.objects[SERVICE]["spec"] == {"n": len(PAUSES) + 1}


def test_an_apply_onto_another_version_conflicts(server: KubernetesServer, api: KubernetesApi) -> None:
    """Verify that an apply with a resourceVersion is not tried again with the same one."""
    server.put(PATH, {"spec": {}})
    with pytest.raises(ConflictError):
        api.apply(HTTP_ROUTE, "prod", "windlass-flights", {"metadata": {"resourceVersion": "1"}, "spec": {}})
    assert len(server.asked) == 1


def test_what_is_not_there_is_none(server: KubernetesServer, api: KubernetesApi) -> None:
    """Verify that a missing object is a value, and that deleting it is no error."""
    assert api.get(HTTP_ROUTE, "prod", "windlass-flights") is None
    assert api.update(INFERENCE_SERVICE, "prod", "flights", dict) is None
    api.delete(HTTP_ROUTE, "prod", "windlass-flights")
    assert [asked.method for asked in server.asked] == ["GET", "GET", "DELETE"]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(failure(429, "too many requests"), id="overload"),
        pytest.param(failure(410, "too old resource version"), id="gone"),
        pytest.param(failure(500, "etcdserver: leader changed"), id="leader"),
        pytest.param(failure(503, "apiserver is starting"), id="starting"),
        pytest.param(Scripted(504, b"<html>gateway timeout</html>", "text/html"), id="proxy"),
    ],
)
def test_what_passes_is_tried_again(
    server: KubernetesServer, api: KubernetesApi, slept: list[float], answer: Scripted
) -> None:
    """Verify that the request is repeated after stated pauses, and that the answer then counts."""
    server.put(PATH, {"spec": {"hostnames": ["m"]}})
    server.scripted += [answer, answer]
    found = api.get(HTTP_ROUTE, "prod", "windlass-flights")
    assert found is not None and found["spec"] == {"hostnames": ["m"]}
    assert slept == list(PAUSES[:2])


def test_what_does_not_pass_is_unreachable(
    server: KubernetesServer, api: KubernetesApi, slept: list[float]
) -> None:
    """Verify that nothing is concluded from an API server that only fails, and that its words are handed on."""
    server.scripted += [failure(500, "etcdserver: no leader")] * (len(PAUSES) + 1)
    with pytest.raises(
        UnreachableError, match=r"HTTPRoute prod/windlass-flights: .* 500: etcdserver: no leader .*5 tries"
    ):
        api.get(HTTP_ROUTE, "prod", "windlass-flights")
    assert slept == list(PAUSES)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(failure(422, "spec.rules: Too many: 17"), "spec.rules: Too many: 17", id="invalid"),
        pytest.param(failure(400, "admission webhook denied"), "admission webhook denied", id="webhook"),
        pytest.param(failure(403, "forbidden"), "rights of the role windlass-release", id="rights"),
        pytest.param(failure(401, "Unauthorized"), "rights of the role windlass-release", id="token"),
    ],
)
def test_a_refusal_is_not_tried_again(
    server: KubernetesServer, api: KubernetesApi, slept: list[float], answer: Scripted, words: str
) -> None:
    """Verify that what the API server will never take is refused at once, with its reason."""
    server.scripted.append(answer)
    with pytest.raises(RejectedError, match=words):
        api.apply(HTTP_ROUTE, "prod", "windlass-flights", {"spec": {}})
    assert slept == [] and len(server.asked) == 1


def test_a_kind_that_is_not_installed_is_refused(server: KubernetesServer, api: KubernetesApi) -> None:
    """Verify that an apply to an API server without the CRD names the CRD, and a read finds nothing."""
    server.dropped.add("httproutes")
    with pytest.raises(
        RejectedError, match=r"knows no gateway\.networking\.k8s\.io/v1 HTTPRoute.*install the CRD"
    ):
        api.apply(HTTP_ROUTE, "prod", "windlass-flights", {"spec": {}})
    assert api.get(HTTP_ROUTE, "prod", "windlass-flights") is None


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html>Please log in</html>", id="html"),
        pytest.param(b"", id="nothing"),
        pytest.param(b'["a", "list"]', id="list"),
        pytest.param(b'{"spec": {"trunc', id="truncated"),
        pytest.param(b"\xff\xfe", id="bytes"),
    ],
)
def test_a_page_is_no_api_server(server: KubernetesServer, api: KubernetesApi, body: bytes) -> None:
    """Verify that 200 with anything but an object is nobody's answer."""
    server.scripted.append(Scripted(200, body, "text/html"))
    with pytest.raises(UnreachableError, match="is no Kubernetes API"):
        api.get(HTTP_ROUTE, "prod", "windlass-flights")


def test_a_server_that_hangs_is_unreachable(server: KubernetesServer, slept: list[float]) -> None:
    """Verify that a timeout below a second is kept, at every try."""
    server.scripted += [Scripted(hang=True)] * (len(PAUSES) + 1)
    api = KubernetesApi(server.client(), timeout_s=0.05, sleep=slept.append)
    with pytest.raises(UnreachableError, match="does not answer"):
        api.get(HTTP_ROUTE, "prod", "windlass-flights")
    assert len(server.asked) == len(PAUSES) + 1 and slept == list(PAUSES)


def test_no_server_is_unreachable(server: KubernetesServer, slept: list[float]) -> None:
    """Verify that a refused connection is told as what it is, with the address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    client = server.client()
    client.configuration.host = f"http://127.0.0.1:{port}"
    with pytest.raises(UnreachableError, match=rf"http://127\.0\.0\.1:{port} does not answer"):
        KubernetesApi(client, sleep=slept.append).get(HTTP_ROUTE, "prod", "windlass-flights")


def test_a_kubeconfig_names_the_server(server: KubernetesServer, tmp_path: Path, slept: list[float]) -> None:
    """Verify that address and token come from the kubeconfig, and that its absence is the caller's error."""
    with pytest.raises(UsageError, match="absent"):
        KubernetesApi.connect(tmp_path / "absent")
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server.url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }  # fmt: skip
    (tmp_path / "config").write_text(json.dumps(config))
    server.put(PATH, {"spec": {"hostnames": ["m"]}})
    api = KubernetesApi.connect(tmp_path / "config", sleep=slept.append)
    found = api.get(HTTP_ROUTE, "prod", "windlass-flights")
    assert found is not None and found["metadata"]["name"] == "windlass-flights"
    assert server.asked[-1].authorization == "Bearer t"


@pytest.mark.parametrize(
    ("old", "new", "patch"),
    [
        pytest.param({"a": 1}, {"a": 1}, {}, id="same"),
        pytest.param({"a": 1, "b": 2}, {"a": 1}, {"b": None}, id="gone"),
        pytest.param({}, {"a": {"b": 1}}, {"a": {"b": 1}}, id="new"),
        pytest.param({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"a": {"b": 3, "c": None}}, id="nested"),
        pytest.param({"a": [1, 2]}, {"a": [1]}, {"a": [1]}, id="lists-whole"),
        pytest.param({"a": {"b": 1}}, {"a": 5}, {"a": 5}, id="other-type"),
    ],
)
def test_a_difference_is_a_merge_patch(old: dict, new: dict, patch: dict) -> None:
    """Verify that only what differs is sent."""
    assert difference(old, new) == patch
