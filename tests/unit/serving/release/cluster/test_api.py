"""What goes over the wire to the API server, and what is made of every answer."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest
from kubernetes_server import Asked, KubernetesServer, Scripted, status

from serving.release.backend import RejectedError, UnreachableError
from serving.release.cluster.api import (
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    PAUSES,
    Change,
    ConflictError,
    ExpiredError,
    KubernetesApi,
    difference,
)
from tests.support.patience import wait
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
        pytest.param(failure(403, "forbidden"), "the chart's Role windlass-operator", id="rights"),
        pytest.param(failure(401, "Unauthorized"), "renew the token", id="token"),
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
    # the last try's time may be over before the server's thread has looked at it
    wait(lambda: len(server.asked) == len(PAUSES) + 1, "every try")
    assert slept == list(PAUSES)


def test_no_server_is_unreachable(server: KubernetesServer, slept: list[float]) -> None:
    """Verify that a refused connection is told as what it is, with the address."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
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


SERVICES = SERVICE.rpartition("/")[0]


def test_a_list_is_read_page_by_page(server: KubernetesServer, api: KubernetesApi) -> None:
    """Verify that all pages are put together, with the version of the moment at which they were begun."""
    for number in range(7):
        server.put(f"{SERVICES}/m{number}", {"metadata": {"labels": {"team": "a"}}, "spec": {"n": number}})
    server.put(f"{SERVICES}/other", {"metadata": {"labels": {"team": "b"}}, "spec": {}})
    begun = server.version
    server.forbids = lambda asked: (server.put(PATH, {"spec": {}}), None)[1]  # others write meanwhile
    found = api.all(INFERENCE_SERVICE, "prod", labels="team=a", limit=3)
    assert [each["spec"]["n"] for each in found.items] == list(range(7))
    assert found.version == str(begun + 1)
    assert [asked.query.get("limit") for asked in server.asked] == ["3"] * 3
    assert [asked.query.get("labelSelector") for asked in server.asked] == ["team=a"] * 3


def test_a_list_of_metadata_leaves_the_rest_where_it_is(server: KubernetesServer, api: KubernetesApi) -> None:
    """Verify that spec and status are not sent where they are not wanted."""
    server.put(SERVICE, {"spec": {"large": "x" * 1000}})
    (found,) = api.all(INFERENCE_SERVICE, "prod", metadata_only=True).items
    assert found["metadata"]["name"] == "flights" and "spec" not in found
    assert server.asked[0].accept.startswith("application/json;as=PartialObjectMetadataList;")
    found = api.all(INFERENCE_SERVICE, "prod", kept=lambda each: {"name": each["metadata"]["name"]})
    assert list(found.items) == [{"name": "flights"}]


def test_a_list_that_expired_is_begun_again(server: KubernetesServer, api: KubernetesApi) -> None:
    """Verify that pages of two moments are never mixed, and that one which always expires is told as such."""
    for number in range(4):
        server.put(f"{SERVICES}/m{number}", {"spec": {"n": number}})
    late = iter([True])

    def forget(asked: Asked) -> None:
        if "continue" in asked.query and next(late, False):
            server.put(f"{SERVICES}/m0", {"spec": {"n": 10}})
            server.forgotten = server.version

    server.forbids = forget
    assert [each["spec"]["n"] for each in api.all(INFERENCE_SERVICE, "prod", limit=2).items] == [10, 1, 2, 3]

    def always(asked: Asked) -> None:
        server.forgotten = server.version + 1

    server.forbids = always
    with pytest.raises(UnreachableError, match=r"continue parameter is too old.*3 tries"):
        api.all(INFERENCE_SERVICE, "prod", limit=2)


def test_no_kind_is_no_empty_list(server: KubernetesServer, api: KubernetesApi) -> None:
    """Verify that a missing CRD is refused: an empty list would say that there is nothing to do."""
    assert list(api.all(INFERENCE_SERVICE, "prod").items) == []
    server.dropped.add("inferenceservices")
    with pytest.raises(RejectedError, match="install the CRD"):
        api.all(INFERENCE_SERVICE, "prod")
    with pytest.raises(RejectedError, match="install the CRD"):
        list(api.watch(INFERENCE_SERVICE, "prod", "1"))


def test_what_is_created_is_new(server: KubernetesServer, api: KubernetesApi) -> None:
    """Verify that a name which is taken is a conflict, and that a lost answer is not tried again blindly."""
    content = {"metadata": {"name": "flights"}, "spec": {"n": 1}}
    assert api.create(INFERENCE_SERVICE, "prod", content)["metadata"]["uid"]
    assert server.asked[0].path == SERVICES and server.asked[0].body["kind"] == "InferenceService"
    with pytest.raises(ConflictError, match=r"InferenceService prod/flights: .* already exists"):
        api.create(INFERENCE_SERVICE, "prod", content)
    server.scripted.append(failure(503, "apiserver is starting"))
    with pytest.raises(UnreachableError, match=r"apiserver is starting$"):
        api.create(INFERENCE_SERVICE, "prod", content)
    assert len(server.asked) == 3


def test_a_patch_holds_for_its_version(
    server: KubernetesServer, api: KubernetesApi, slept: list[float]
) -> None:
    """Verify that operations are carried out all or none, once, and for the version that they were meant for."""
    server.put(SERVICE, {"spec": {"records": ["a"], "n": 1}})
    version = server.objects[SERVICE]["metadata"]["resourceVersion"]
    add = {"op": "add", "path": "/spec/records/-", "value": "b"}
    found = api.patch(INFERENCE_SERVICE, "prod", "flights", [add], version=version, metadata_only=True)
    assert found is not None and "spec" not in found
    assert server.objects[SERVICE]["spec"]["records"] == ["a", "b"]
    with pytest.raises(ConflictError, match="has been modified"):
        api.patch(INFERENCE_SERVICE, "prod", "flights", [add], version=version)
    with pytest.raises(RejectedError, match="422"):
        api.patch(INFERENCE_SERVICE, "prod", "flights", [add, {"op": "remove", "path": "/spec/none"}])
    server.scripted.append(failure(500, "etcdserver: leader changed"))
    with pytest.raises(UnreachableError, match="leader changed"):
        api.patch(INFERENCE_SERVICE, "prod", "flights", [add])
    assert server.objects[SERVICE]["spec"]["records"] == ["a", "b"] and slept == []
    assert api.patch(INFERENCE_SERVICE, "prod", "none", [add]) is None


def test_a_status_is_applied_to_its_subresource(server: KubernetesServer, api: KubernetesApi) -> None:
    """Verify that the spec stays others', and that the status of an object which is gone makes no new one."""
    server.put(SERVICE, {"spec": {"a": 1}})
    api.apply(INFERENCE_SERVICE, "prod", "flights", {"status": {"phase": "Running"}}, subresource="status")
    (asked,) = server.asked
    assert (asked.path, asked.content_type) == (f"{SERVICE}/status", "application/apply-patch+yaml")
    assert asked.query == {"fieldManager": "windlass-release", "force": "true"}
    assert server.objects[SERVICE]["spec"] == {"a": 1}
    assert server.objects[SERVICE]["status"] == {"phase": "Running"}
    server.remove(SERVICE)
    with pytest.raises(RejectedError, match="prod/flights: it is gone, and its status with it"):
        api.apply(INFERENCE_SERVICE, "prod", "flights", {"status": {}}, subresource="status")


def test_only_the_very_object_is_deleted(server: KubernetesServer, api: KubernetesApi) -> None:
    """Verify that an object of the same name, made meanwhile, stays."""
    uid = server.put(SERVICE, {"spec": {}})["metadata"]["uid"]
    server.remove(SERVICE)
    server.put(SERVICE, {"spec": {}})
    with pytest.raises(ConflictError, match="UID in precondition"):
        api.delete(INFERENCE_SERVICE, "prod", "flights", uid=uid)
    api.delete(INFERENCE_SERVICE, "prod", "flights", uid=server.objects[SERVICE]["metadata"]["uid"])
    assert SERVICE not in server.objects


def test_a_watch_tells_what_happened_since(server: KubernetesServer, api: KubernetesApi) -> None:
    """Verify that every change comes once and in order, and that the last one's version goes on from there."""
    server.put(SERVICE, {"metadata": {"labels": {"team": "a"}}, "spec": {"n": 1}})
    begun = api.all(INFERENCE_SERVICE, "prod").version
    server.put(SERVICE, {"metadata": {"labels": {"team": "a"}}, "spec": {"n": 2}})
    server.put(f"{SERVICES}/taxis", {"spec": {"n": 3}})
    server.remove(SERVICE)
    seen = list(api.watch(INFERENCE_SERVICE, "prod", begun, timeout_s=240))
    assert [(each.kind, each.object.get("spec", {}).get("n")) for each in seen] == [
        ("MODIFIED", 2),
        ("ADDED", 3),
        ("DELETED", 2),
        ("BOOKMARK", None),
    ]
    assert server.asked[-1].query == {
        "watch": "true",
        "resourceVersion": begun,
        "allowWatchBookmarks": "true",
        "timeoutSeconds": "240",
    }
    (rest,) = api.watch(INFERENCE_SERVICE, "prod", seen[-1].version, labels="team=a")
    assert rest == Change("BOOKMARK", {"metadata": {"resourceVersion": str(server.version)}})


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        pytest.param(failure(410, "too old"), ExpiredError, "too old; list again", id="gone-at-once"),
        pytest.param(failure(503, "starting"), UnreachableError, "503: starting", id="starting"),
        pytest.param(failure(403, "no"), RejectedError, "Role windlass-operator", id="rights"),
        pytest.param(
            Scripted(200, b"<html>log in</html>\n"), UnreachableError, "no Kubernetes API", id="page"
        ),
        pytest.param(
            Scripted(200, b'{"type": "ERROR", "object": {"code": 500, "message": "etcd"}}\n'),
            UnreachableError,
            "the watch ended: etcd",
            id="error",
        ),
    ],
)
def test_a_watch_that_fails_says_how(
    server: KubernetesServer, api: KubernetesApi, answer: Scripted, error: type[Exception], words: str
) -> None:
    """Verify that who watches learns whether to list again, to come again, or to ask for rights."""
    server.scripted.append(answer)
    with pytest.raises(error, match=words) as raised:
        list(api.watch(INFERENCE_SERVICE, "prod", "1"))
    assert raised.type is error


def test_a_watch_from_a_version_that_is_forgotten(server: KubernetesServer, api: KubernetesApi) -> None:
    """Verify that an error in the stream is told as the one in its head."""
    server.forgotten = 5
    with pytest.raises(ExpiredError, match="too old resource version: 1"):
        list(api.watch(INFERENCE_SERVICE, "prod", "1"))


@pytest.mark.parametrize(
    "after", ["", '{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "7"}}}\n']
)
def test_a_watch_that_falls_silent_is_noticed(after: str) -> None:
    """Verify that a server which neither speaks nor ends is left by the client's own timeout, at any moment."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            connection.recv(65536)
            head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            chunk = f"{len(after):x}\r\n{after}\r\n" if after else ""
            connection.sendall((head + chunk).encode())
            ended.wait(30)
            connection.close()

        ended = threading.Event()
        serving = threading.Thread(target=answer, daemon=True)
        serving.start()
        client = KubernetesServer(url=f"http://127.0.0.1:{listening.getsockname()[1]}").client()
        # of it, a server on a busy machine needs a part before it falls silent
        watch = KubernetesApi(client, timeout_s=1.0).watch(INFERENCE_SERVICE, "prod", "1", timeout_s=1.0)
        if after:
            assert next(watch).version == "7"
        with pytest.raises(UnreachableError, match="the watch broke"):
            next(watch)
        ended.set()
        serving.join()


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
