"""The champion: MLflow's alias over REST, and the mark on the cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import kubernetes_server
import local_http
import pytest
from kubernetes_server import KubernetesServer

from serving.release.traffic import Traffic
from windlass.errors import UsageError, WindlassError
from windlass.operator import champions
from windlass.operator.champions import Alias, Champions
from windlass.operator.fenced_api import DeposedError, FencedApi

ROUTE = "/apis/gateway.networking.k8s.io/v1/namespaces/team/httproutes/windlass-flights"


class Wire:
    """A backend with a given traffic."""

    def __init__(self, traffic: Traffic | None = None) -> None:
        self._traffic = traffic

    def set_traffic(self, model: str, traffic: Traffic) -> None:
        raise AssertionError("nobody sets it here")

    def traffic(self, model: str) -> Traffic | None:
        return self._traffic


class Registry:
    """What an MLflow server knows, and what it was asked."""

    def __init__(self) -> None:
        self.champion: str | None = None
        self.versions = {"12", "13"}
        self.headers: list[str | None] = []
        self.code: int | None = None
        #: What stands before it answers instead: the code, and a text that is not MLflow's.
        self.before_it: tuple[int, str] | None = None


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def mlflow(registry: Registry) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self, code: int, body: Any) -> None:
            registry.headers.append(self.headers["Authorization"])
            content = json.dumps(body).encode()
            if registry.before_it is not None:
                code, text = registry.before_it
                content = text.encode()
            self.send_response(registry.code or code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            asked, _, query = self.path.partition("?")
            if asked == "/api/2.0/mlflow/model-versions/get":
                known = query in {f"name=flights&version={version}" for version in registry.versions}
                self.answer(200 if known else 404, {} if known else {"error_code": "RESOURCE_DOES_NOT_EXIST"})
                return
            assert self.path == "/api/2.0/mlflow/registered-models/alias?name=flights&alias=champion"
            if registry.champion is None:
                # as MLflow 3.17 says it
                said = "Registered model alias champion not found."
                self.answer(400, {"error_code": "INVALID_PARAMETER_VALUE", "message": said})
            else:
                self.answer(200, {"model_version": {"name": "flights", "version": registry.champion}})

        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if told["version"] not in registry.versions:
                self.answer(404, {"error_code": "RESOURCE_DOES_NOT_EXIST"})
                return
            assert (told["name"], told["alias"]) == ("flights", "champion")
            registry.champion = told["version"]
            self.answer(200, {})

        def log_message(self, *_: Any) -> None:
            pass

    with local_http.serving(Handler) as url:
        yield url


@pytest.fixture
def server() -> Iterator[KubernetesServer]:
    with kubernetes_server.running() as found:
        yield found


def of(server: KubernetesServer, alias: Alias | None = None) -> Champions:
    return Champions(FencedApi(server.client(), sleep=lambda s: None), "team", alias)


def test_the_alias_is_read_and_moved(mlflow: str, registry: Registry) -> None:
    """Verify MLflow's wire: no alias, one that is set, one that moves, and a version that there is not."""
    alias = Alias(mlflow)
    assert alias.get("flights") is None
    alias.set("flights", "12")
    alias.set("flights", "12")
    alias.set("flights", "13")
    assert alias.get("flights") == "13"
    with pytest.raises(UsageError, match="no version 99"):
        alias.set("flights", "99")


def test_a_registry_that_fails_is_no_registry_without_champion(mlflow: str, registry: Registry) -> None:
    """Verify that a failure raises: a release must not begin against the wrong champion."""
    registry.code = 503
    with pytest.raises(WindlassError, match="answered 503"):
        Alias(mlflow).get("flights")
    with pytest.raises(WindlassError, match="does not answer"):
        Alias("http://127.0.0.1:9", timeout_s=0.5).get("flights")


@pytest.mark.parametrize("said", ["default backend - 404", "<html>404 page not found</html>", ""])
def test_a_404_of_what_stands_before_mlflow_is_none_of_mlflow(
    mlflow: str, registry: Registry, said: str
) -> None:
    """Verify that an ingress without a backend has neither a candidate refused for ever nor a champion unset: it is
    tried again."""
    registry.champion, registry.before_it = "12", (404, said)
    alias = Alias(mlflow)
    for asked in (
        lambda: alias.require("flights", "13"),
        lambda: alias.get("flights"),
        lambda: alias.set("flights", "13"),
    ):
        with pytest.raises(WindlassError, match=f"answered 404: {said}") as found:
            asked()
        assert not isinstance(found.value, UsageError)
    registry.before_it = None
    alias.require("flights", "13")


def test_credentials_are_mlflows_own(mlflow: str, registry: Registry) -> None:
    """Verify that MLflow's variables become its headers."""
    registry.champion = "12"
    for environ, header in (
        ({}, None),
        ({"MLFLOW_TRACKING_TOKEN": "t"}, "Bearer t"),
        ({"MLFLOW_TRACKING_USERNAME": "ana", "MLFLOW_TRACKING_PASSWORD": "x"}, "Basic YW5hOng="),
    ):
        Alias(mlflow, headers=champions.authorization(environ)).get("flights")
        assert registry.headers[-1] == header


def test_without_mlflow_the_cluster_knows(server: KubernetesServer) -> None:
    """Verify the order of who is believed: the mark on the route, then the only version with traffic."""
    found = of(server)
    assert found.of("flights", Wire()) is None
    assert found.of("flights", Wire(Traffic({"12": 100}))) == "12"
    assert found.of("flights", Wire(Traffic({"12": 90, "13": 10}))) is None
    server.put(ROUTE, {"metadata": {"annotations": {"mine": "kept"}}, "spec": {}})
    found.set("flights", "13")
    assert server.objects[ROUTE]["metadata"]["annotations"] == {"mine": "kept", "windlass.dev/champion": "13"}
    assert found.of("flights", Wire(Traffic({"12": 100}))) == "13"


def test_the_registry_comes_first(server: KubernetesServer, mlflow: str, registry: Registry) -> None:
    """Verify that both are told and the registry is believed."""
    server.put(ROUTE, {"metadata": {}, "spec": {}})
    found = of(server, Alias(mlflow))
    found.set("flights", "12")
    assert registry.champion == "12"
    assert server.objects[ROUTE]["metadata"]["annotations"]["windlass.dev/champion"] == "12"
    registry.champion = "13"
    assert found.of("flights", Wire()) == "13"


def test_who_is_deposed_between_the_two_moves_no_alias(
    server: KubernetesServer, mlflow: str, registry: Registry
) -> None:
    """Verify that the registry is fenced as well: another leader may have rolled back since the mark was moved."""
    server.put(ROUTE, {"metadata": {}, "spec": {}})
    registry.champion = "12"
    api = FencedApi(server.client(), sleep=lambda s: None)
    api.fence(lambda: not server.writes(), lambda verb, code: None)
    with pytest.raises(DeposedError):
        Champions(api, "team", Alias(mlflow)).set("flights", "13")
    assert server.writes() and registry.champion == "12"


def test_a_version_that_could_never_hold_the_alias_is_refused_beforehand(
    server: KubernetesServer, mlflow: str
) -> None:
    """Verify that one which MLflow does not know is named with the remedy, and that without MLflow all may begin."""
    api = FencedApi(server.client())
    known = Champions(api, "team", Alias(mlflow))
    known.require("flights", ["12", "13"])
    with pytest.raises(UsageError, match=r"knows no version 14 of model flights.*register it"):
        known.require("flights", ["13", "14"])
    Champions(api, "team", None).require("flights", ["14"])
