"""The operator's settings from its environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.release.release import Gateway
from windlass.errors import UsageError
from windlass.operator import settings


def test_a_pods_environment_is_enough() -> None:
    """Verify the defaults of a pod that knows its namespace."""
    found = settings.load({"POD_NAMESPACE": "team-a", "POD_NAME": "operator-0"})
    assert found.namespaces == ("team-a",) and found.lease_namespace == "team-a"
    assert found.look_every_s == 5.0 and found.port == 8080 and found.evidence == "runtime"
    assert found.prometheus_url is None and found.mlflow_url is None and found.gateway == Gateway()


def test_no_two_processes_have_one_name() -> None:
    """Verify that a container that is started again in its pod is somebody else."""
    environ = {"POD_NAMESPACE": "team-a", "POD_NAME": "operator-0"}
    one, other = settings.load(environ).identity, settings.load(environ).identity
    assert one.startswith("operator-0_") and one != other


def test_everything_can_be_stated() -> None:
    """Verify every variable."""
    found = settings.load(
        {
            "POD_NAMESPACE": "system",
            "WINDLASS_NAMESPACES": "a, b,a",
            "WINDLASS_PROMETHEUS_URL": "http://prometheus:9090/",
            "WINDLASS_COLLECTOR_URL": "http://collector.{namespace}:8088/",
            "MLFLOW_TRACKING_URI": "https://mlflow/",
            "WINDLASS_GATEWAY": "gateways/public",
            "WINDLASS_SERVING_OPTIONS": "/etc/windlass/serving.yaml",
            "WINDLASS_LOOK_EVERY": "500ms",
            "WINDLASS_SCRAPE_INTERVAL": "30s",
            "WINDLASS_EVIDENCE": "envoyGateway",
            "WINDLASS_PORT": "0",
            "KUBECONFIG": "/etc/windlass/kubeconfig",
        }
    )
    assert found.namespaces == ("a", "b") and found.lease_namespace == "system"
    assert found.prometheus_url == "http://prometheus:9090" and found.mlflow_url == "https://mlflow"
    assert [found.collector_of(n) for n in found.namespaces] == [
        "http://collector.a:8088",
        "http://collector.b:8088",
    ]
    assert found.gateway == Gateway(name="public", namespace="gateways")
    assert found.serving_options == Path("/etc/windlass/serving.yaml")
    assert (found.look_every_s, found.scrape_interval_s, found.port) == (0.5, 30.0, 0)
    assert found.evidence == "envoyGateway" and found.kubeconfig == Path("/etc/windlass/kubeconfig")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        pytest.param("WINDLASS_NAMESPACES", "Team A", "is no namespace's name", id="namespace"),
        pytest.param("WINDLASS_PROMETHEUS_URL", "prometheus:9090", "is not an address", id="prometheus"),
        pytest.param("WINDLASS_COLLECTOR_URL", "collector:8088", "is not an address", id="collector"),
        pytest.param(
            "WINDLASS_COLLECTOR_URL", "http://c.{team}:80", "{namespace} alone", id="a-strange-place"
        ),
        pytest.param("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db", "is not an address", id="mlflow"),
        pytest.param("WINDLASS_GATEWAY", "a/b/c", "use namespace/name", id="gateway"),
        pytest.param("WINDLASS_LOOK_EVERY", "often", "is no interval", id="interval"),
        pytest.param("WINDLASS_LOOK_EVERY", "0s", "is no interval", id="no-interval-at-all"),
        pytest.param("WINDLASS_EVIDENCE", "guess", "runtime or envoyGateway", id="evidence"),
        pytest.param("WINDLASS_PORT", "http", "is no port", id="port"),
    ],
)
def test_what_is_not_understood_is_said(name: str, value: str, words: str) -> None:
    """Verify that the message names the variable and a value that it takes."""
    with pytest.raises(UsageError, match=words) as found:
        settings.load({"POD_NAMESPACE": "team-a", name: value})
    assert name in str(found.value)


def test_no_two_namespaces_have_one_collector() -> None:
    """Verify that it is refused, for a collector knows models by their names alone, and that nobody must have one."""
    several = {"POD_NAMESPACE": "system", "WINDLASS_NAMESPACES": "a,b"}
    with pytest.raises(UsageError, match=r"namespaces a, b.*windlass-collector\.\{namespace\}:8088"):
        settings.load({**several, "WINDLASS_COLLECTOR_URL": "http://collector:8088"})
    assert settings.load(several).collector_of("a") is None
    one = settings.load({"POD_NAMESPACE": "a", "WINDLASS_COLLECTOR_URL": "http://collector:8088"})
    assert one.collector_of("a") == "http://collector:8088"


@pytest.mark.parametrize("scheme", ["http://", "postgresql://", ""])
@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_URI", "WINDLASS_PROMETHEUS_URL", "WINDLASS_COLLECTOR_URL"])
def test_an_address_holds_no_password(name: str, scheme: str) -> None:
    """Verify that it is refused, and not shown in doing so: messages about an address are logged and in statuses."""
    with pytest.raises(UsageError, match="password") as found:
        settings.load({"POD_NAMESPACE": "team-a", name: f"{scheme}ana:geheim@server:5000/a"})
    assert name in str(found.value) and "geheim" not in str(found.value)


def test_somebody_must_say_which_namespace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Verify that outside of a pod a namespace must be named."""
    monkeypatch.setattr(settings, "_OWN_NAMESPACE", tmp_path / "none")
    with pytest.raises(UsageError, match="WINDLASS_NAMESPACES"):
        settings.load({})
