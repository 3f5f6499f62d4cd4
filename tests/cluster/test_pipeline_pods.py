"""Pod Security at `restricted` takes the pods of a pipeline's steps, as far as their own container goes.

No Kubeflow is here: what it states itself is written down from its compiler (backend/src/v2/compiler/argocompiler,
2.17). Argo's containers and the pods of Kubeflow's drivers are theirs, and not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from pipelines.compile import COMPILED, FILE
from tests.cluster.api_server import ApiServer
from tests.cluster.tools.build import BUILD_S
from windlass.errors import WindlassError

pytestmark = pytest.mark.timeout(2 * BUILD_S)

PIPELINE, PLATFORM = yaml.safe_load_all((COMPILED / FILE).read_text())
STEPS = sorted(PIPELINE["deploymentSpec"]["executors"])
SECCOMP = {"seccompProfile": {"type": "RuntimeDefault"}}
USERS = {**SECCOMP, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
WHERE = "runs"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with ApiServer(tmp_path_factory.mktemp("api-server")) as found:
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        found.request("POST", "/api/v1/namespaces", {"metadata": {"name": WHERE, "labels": labels}})
        account = {"metadata": {"name": "pipeline-runner"}}
        found.request("POST", f"/api/v1/namespaces/{WHERE}/serviceaccounts", account)
        yield found


def pod(step: str, own: dict[str, Any]) -> dict[str, Any]:
    """A step's pod with the security context that its container has of its own."""
    image = PIPELINE["deploymentSpec"]["executors"][step]["container"]["image"]
    numbers = {k: int(v) if isinstance(v, str) else v for k, v in own.items()}
    return {
        "metadata": {"name": step},
        "spec": {
            "serviceAccountName": "pipeline-runner",
            "securityContext": SECCOMP,
            "initContainers": [
                {"name": "kfp-launcher", "image": "x", "securityContext": {**USERS, "runAsNonRoot": True}}
            ],
            "containers": [{"name": "main", "image": image, "securityContext": {**USERS, **numbers}}],
        },
    }


@pytest.mark.parametrize("step", STEPS)
def test_a_step_is_admitted_by_what_it_states_and_not_without(server: ApiServer, step: str) -> None:
    path = f"/api/v1/namespaces/{WHERE}/pods?dryRun=All&fieldValidation=Strict"
    stated = PLATFORM["platforms"]["kubernetes"]["deploymentSpec"]["executors"][step]["securityContext"]
    made = server.request("POST", path, pod(step, stated))
    assert made["spec"]["containers"][0]["securityContext"]["runAsUser"] == 65532
    with pytest.raises(WindlassError, match="runAsNonRoot != true"):
        server.request("POST", path, pod(step, {}))
