"""The CronJob: what it may do on a cluster is as little as it needs, and what it starts is a command that there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.analysis.__main__ import _parser
from windlass import settings

PROJECT = Path(__file__).resolve().parents[4]
FILE = PROJECT / "manifests" / "monitoring" / "analysis-cronjob.yaml"


@pytest.fixture(scope="module")
def manifest() -> dict[str, dict[str, Any]]:
    return {found["kind"]: found for found in yaml.safe_load_all(FILE.read_text())}


def pods(manifest: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    job = manifest["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]
    return [job["spec"], manifest["Deployment"]["spec"]["template"]["spec"]]


def test_two_never_run_at_once_and_none_runs_for_ever(manifest: dict[str, dict[str, Any]]) -> None:
    spec = manifest["CronJob"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    job = spec["jobTemplate"]["spec"]
    assert job["activeDeadlineSeconds"] < 3600  # the next hour's must find it ended
    assert job["template"]["spec"]["restartPolicy"] == "Never"


def test_neither_pod_may_do_what_it_does_not_need(manifest: dict[str, dict[str, Any]]) -> None:
    assert manifest["ServiceAccount"]["automountServiceAccountToken"] is False
    for pod in pods(manifest):
        assert pod["automountServiceAccountToken"] is False
        assert pod["serviceAccountName"] == manifest["ServiceAccount"]["metadata"]["name"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} == set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]
        name, _, version = container["image"].partition(":")
        assert (name, bool(re.fullmatch(r"\d+\.\d+\.\d+", version))) == ("windlass/training", True)
    served = pods(manifest)[1]
    assert served["volumes"][0]["persistentVolumeClaim"]["readOnly"] is True


def test_the_commands_and_settings_are_understood(manifest: dict[str, dict[str, Any]]) -> None:
    job, served = (pod["containers"][0] for pod in pods(manifest))
    for container in (job, served):
        assert container["command"] == ["python3", "-m", "monitoring.analysis"]
        home = next(e["value"] for e in container["env"] if e["name"] == "WINDLASS_HOME")
        assert home in {m["mountPath"] for m in container["volumeMounts"]}
    assert _parser().parse_args(job["args"]).workload == "flights"
    arguments = _parser().parse_args(served["args"])
    assert (arguments.serve, arguments.address) == (served["ports"][0]["containerPort"], "0.0.0.0")  # noqa: S104
    found = settings.load({e["name"]: e["value"] for e in job["env"]})
    assert found.prometheus_url == "http://prometheus.monitoring:9090"
    policy = manifest["NetworkPolicy"]["spec"]
    names = policy["podSelector"]["matchExpressions"][0]["values"]
    labels = [
        manifest["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"],
        manifest["Deployment"]["spec"]["template"]["metadata"]["labels"],
    ]
    assert sorted(names) == sorted(each["app.kubernetes.io/name"] for each in labels)
    assert 9090 in {p["port"] for rule in policy["egress"] for p in rule["ports"]}
