"""The trigger's manifest, as the chart renders it: what it may do is as little as it needs, what it names exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import base_manifests
import pytest

from pipelines.training import IMAGE
from windlass.local.retraining.__main__ import address


@pytest.fixture
def manifest(project: Path) -> dict[str, dict[str, Any]]:
    return base_manifests.of(project, "windlass-retrain")


def pod(manifest: dict[str, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["Deployment"]["spec"]["template"]["spec"]
    return found


def test_there_is_never_a_second_one(manifest: dict[str, dict[str, Any]]) -> None:
    spec = manifest["Deployment"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_it_may_do_nothing_that_it_does_not_need(manifest: dict[str, dict[str, Any]]) -> None:
    (container,) = pod(manifest)["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    outer = pod(manifest)["securityContext"]
    assert outer["runAsNonRoot"] is True and outer["runAsUser"] > 0
    assert outer["seccompProfile"] == {"type": "RuntimeDefault"}
    # the account's token is for this pod alone, which hands Releases over and may do nothing else
    assert manifest["ServiceAccount"]["automountServiceAccountToken"] is False
    assert manifest["Role"]["rules"] == [
        {"apiGroups": ["windlass.dev"], "resources": ["releases"], "verbs": ["get", "list", "create"]}
    ]


def test_the_token_is_a_file_of_a_secret_that_is_not_here(manifest: dict[str, dict[str, Any]]) -> None:
    assert "Secret" not in manifest
    (container,) = pod(manifest)["containers"]
    volumes = {v["name"]: v for v in pod(manifest)["volumes"]}
    mounts = {m["name"]: m for m in container["volumeMounts"]}
    given = Path(container["args"][container["args"].index("--token-file") + 1])
    assert given.parent == Path(mounts["token"]["mountPath"]) and mounts["token"]["readOnly"] is True
    assert volumes["token"]["secret"]["secretName"] == "windlass-retrain-token"
    home = next(e["value"] for e in container["env"] if e["name"] == "WINDLASS_HOME")
    assert mounts["home"]["mountPath"] == home
    claim = volumes["home"]["persistentVolumeClaim"]["claimName"]
    assert claim == manifest["PersistentVolumeClaim"]["metadata"]["name"]


def test_the_image_is_this_version_and_its_settings_are_understood(
    manifest: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    (container,) = pod(manifest)["containers"]
    assert container["image"] == IMAGE and not container["image"].endswith(":latest")
    found = address({e["name"]: e.get("value", "") for e in container["env"]}, tmp_path)
    assert found is not None and found.host == "http://ml-pipeline.kubeflow:8888"
    # a run's steps are the same image, wherever it was pulled from
    assert found.package is not None and f"image: {container['image']}" in found.package.read_text()


def test_the_ports_and_the_selectors_are_of_one_mind(manifest: dict[str, dict[str, Any]]) -> None:
    (container,) = pod(manifest)["containers"]
    (port,) = container["ports"]
    assert container["args"][container["args"].index("--port") + 1] == str(port["containerPort"])
    assert manifest["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    labels = manifest["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        manifest["Service"]["spec"]["selector"],
        manifest["Deployment"]["spec"]["selector"]["matchLabels"],
        manifest["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    policy = manifest["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert {p["port"] for rule in policy["ingress"] for p in rule["ports"]} == {port["containerPort"]}
    allowed = {p["port"] for rule in policy["egress"] for p in rule["ports"]}
    addresses = [value for e in container["env"] if (value := e.get("value", "")).startswith("http")]
    own = f"http://127.0.0.1:{port['containerPort']}"  # a person's command in the pod asks the trigger itself
    addresses.remove(own)
    assert {int(re.findall(r":(\d+)$", a)[0]) for a in addresses} <= allowed
