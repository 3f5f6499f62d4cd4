"""The CronJob, as the chart renders it: it may do as little as it needs, and starts a command that there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import base_manifests
import pytest

from monitoring.analysis.__main__ import _parser
from windlass import settings

PROJECT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def manifest() -> dict[str, dict[str, Any]]:
    return base_manifests.of(PROJECT, "windlass-analysis")


def pod(manifest: dict[str, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


def test_two_never_run_at_once_and_none_runs_for_ever(manifest: dict[str, dict[str, Any]]) -> None:
    spec = manifest["CronJob"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    job = spec["jobTemplate"]["spec"]
    assert job["activeDeadlineSeconds"] < 3600  # the next hour's must find it ended
    assert job["template"]["spec"]["restartPolicy"] == "Never"


def test_the_pod_may_not_do_what_it_does_not_need(manifest: dict[str, dict[str, Any]]) -> None:
    assert manifest["ServiceAccount"]["automountServiceAccountToken"] is False
    found = pod(manifest)
    assert found["automountServiceAccountToken"] is False
    assert found["serviceAccountName"] == manifest["ServiceAccount"]["metadata"]["name"]
    assert found["securityContext"]["runAsNonRoot"] is True
    assert found["securityContext"]["runAsUser"] > 0
    (container,) = found["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} == set(container["resources"]["requests"])
    assert "memory" in container["resources"]["limits"]
    name, _, version = container["image"].partition(":")
    assert (name, bool(re.fullmatch(r"\d+\.\d+\.\d+", version))) == ("windlass/training", True)


def test_the_command_and_the_settings_are_understood(manifest: dict[str, dict[str, Any]]) -> None:
    (container,) = pod(manifest)["containers"]
    assert container["command"] == ["python3", "-m", "monitoring.analysis"]
    assert _parser().parse_args(container["args"]).workload == "flights"
    found = settings.load({e["name"]: e["value"] for e in container["env"] if "value" in e})
    given = {e["name"]: e["valueFrom"] for e in container["env"] if "value" not in e}
    assert given == {"WINDLASS_NAMESPACE": {"fieldRef": {"fieldPath": "metadata.namespace"}}}
    mounts = {Path(m["mountPath"]): m for m in container["volumeMounts"]}
    assert found.home in mounts and mounts[found.bundles_dir]["readOnly"] is True
    assert found.prometheus_url == "http://prometheus-operated.monitoring:9090"
    policy = manifest["NetworkPolicy"]["spec"]
    labels = manifest["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert 9090 in {p["port"] for rule in policy["egress"] for p in rule["ports"]}
