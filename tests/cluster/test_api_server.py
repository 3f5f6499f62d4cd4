"""The API server of the tests is a real one: it validates, authorizes, and keeps its data through its own death."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.api_server import ApiServer, established, rights_in_force
from tests.cluster.operator_stage import eventually
from tests.cluster.tools.build import BUILD_S
from tests.cluster.tools.catalogue import TOOLS
from windlass.errors import WindlassError

#: Whoever comes first on a fresh machine builds the programs; whatever waits here has a limit of its own.
pytestmark = pytest.mark.timeout(2 * BUILD_S)

CRD: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "kettles.test.windlass.io"},
    "spec": {
        "group": "test.windlass.io",
        "names": {"kind": "Kettle", "plural": "kettles", "singular": "kettle"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"full": {"type": "integer"}, "holds": {"type": "integer"}},
                                "x-kubernetes-validations": [
                                    {
                                        "rule": "self.full <= self.holds",
                                        "message": "a kettle holds no more than it holds",
                                    }
                                ],
                            }
                        },
                    }
                },
            }
        ],
    },
}


def kettle(name: str, full: int) -> dict[str, Any]:
    return {
        "apiVersion": "test.windlass.io/v1",
        "kind": "Kettle",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"full": full, "holds": 2},
    }


def apply(server: ApiServer, document: dict[str, Any]) -> str:
    return server.kubectl("apply", "--server-side", "-f", "-", given=json.dumps(document)).stdout


@pytest.fixture
def server(api_server: ApiServer) -> ApiServer:
    return api_server


def test_it_is_the_version_that_is_pinned(server: ApiServer) -> None:
    """Verify that clients, which decide by the version what they may ask, are told the right one."""
    said = server.request("GET", "/version")
    if not os.environ.get("KUBEBUILDER_ASSETS"):
        assert said["gitVersion"] == TOOLS["kube-apiserver"].version()
    assert server.kubectl("get", "--raw", "/readyz").stdout == "ok"


def test_what_a_crd_forbids_is_refused_with_its_own_words(server: ApiServer) -> None:
    """Verify that schemas and CEL rules are enforced by the server itself."""
    apply(server, CRD)
    established(server)
    assert "serverside-applied" in apply(server, kettle("half", 1))
    with pytest.raises(WindlassError, match="a kettle holds no more than it holds"):
        apply(server, kettle("over", 3))
    assert server.kubectl("get", "kettles", "-o", "name").stdout.split() == ["kettle.test.windlass.io/half"]


def test_an_account_may_do_what_its_role_says_and_nothing_else(server: ApiServer) -> None:
    """Verify that RBAC decides for ServiceAccounts and for users with groups; for neither is there a way around."""
    server.kubectl("create", "serviceaccount", "reader")
    server.kubectl("create", "role", "reads", "--verb=get,list", "--resource=configmaps")
    server.kubectl("create", "rolebinding", "reads", "--role=reads", "--serviceaccount=default:reader")
    server.kubectl("create", "rolebinding", "people", "--role=reads", "--group=people")
    rights_in_force(server, "default")
    account = server.kubeconfig_for_service_account("default", "reader")
    member = server.kubeconfig_for_user("kim", ["people"])
    stranger = server.kubeconfig_for_user("kim")
    for kubeconfig in (account, member):
        server.kubectl("get", "configmaps", kubeconfig=kubeconfig)
        with pytest.raises(WindlassError, match='cannot list resource "secrets"'):
            server.kubectl("get", "secrets", kubeconfig=kubeconfig)
    with pytest.raises(WindlassError, match='User "kim" cannot list resource "configmaps"'):
        server.kubectl("get", "configmaps", kubeconfig=stranger)
    with pytest.raises(WindlassError, match="404"):
        server.kubeconfig_for_service_account("default", "nobody")


@pytest.mark.parametrize(
    ("privileged", "refused"),
    [pytest.param(True, True, id="forbidden"), pytest.param(False, False, id="allowed")],
)
def test_pod_security_is_enforced(server: ApiServer, privileged: bool, refused: bool) -> None:
    """Verify that a namespace with a label of Pod Security refuses what the label forbids, and only that."""
    name = f"pods-{privileged}".lower()
    apply(
        server,
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "baseline"}},
        },
    )
    server.kubectl("create", "serviceaccount", "runs", "-n", name)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one", "namespace": name},
        "spec": {
            "serviceAccountName": "runs",
            "containers": [
                {"name": "c", "image": "c:1", "securityContext": {"privileged": privileged}},
            ],
        },
    }
    if refused:
        with pytest.raises(WindlassError, match='violates PodSecurity "baseline:latest"'):
            apply(server, pod)
    else:
        assert "serverside-applied" in apply(server, pod)


def test_a_quota_is_enforced(server: ApiServer) -> None:
    """Verify that ResourceQuota is an admission here, too: the object beyond the limit is refused."""
    server.kubectl("create", "namespace", "small")
    server.kubectl("create", "quota", "few", "--hard=count/configmaps=0", "-n", "small")
    # usage is counted by a controller that is not there: it is stated as it would
    server.kubectl(
        "patch", "quota", "few", "-n", "small", "--subresource=status", "--type=merge",
        "-p", '{"status": {"hard": {"count/configmaps": "0"}, "used": {"count/configmaps": "0"}}}',
    )  # fmt: skip
    numbers = itertools.count(1)

    def refused() -> bool:
        words = ("create", "configmap", f"number-{next(numbers)}", "-n", "small")
        return "exceeded quota: few" in server.kubectl(*words, check=False).stderr

    # the admission hears of what was stated a moment later
    eventually(refused, "the quota is in force")


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_its_data_outlives_it(tmp_path: Path, end: str) -> None:
    """Verify that the server alone can go and come back at the same address, while clients keep their files."""
    with ApiServer(tmp_path) as server:
        kubeconfig, before = server.kubeconfig, server.pid
        server.kubectl("create", "configmap", "kept", "--from-literal=a=b")
        getattr(server, end)()
        gone = server.kubectl("get", "configmap", "kept", check=False)
        assert gone.returncode != 0
        assert "refused" in gone.stderr
        server.start()
        kept = server.kubectl("get", "configmap", "kept", "-o", "json", kubeconfig=kubeconfig)
        assert json.loads(kept.stdout)["data"] == {"a": "b"}
        assert server.pid != before
    assert server.logs.joinpath("kube-apiserver.log").stat().st_size > 0
    assert not (tmp_path / "etcd").exists()


def test_two_know_nothing_of_each_other(server: ApiServer, tmp_path: Path) -> None:
    """Verify that tests side by side have servers of their own, and that one's key opens no door of the other."""
    with ApiServer(tmp_path) as other:
        other.kubectl("create", "namespace", "only-there")
        assert other.url != server.url
        assert server.kubectl("get", "namespace", "only-there", check=False).returncode != 0
        crossed = json.loads(other.kubeconfig.read_text())
        crossed["clusters"][0]["cluster"] = json.loads(server.kubeconfig.read_text())["clusters"][0][
            "cluster"
        ]
        file = tmp_path / "crossed"
        file.write_text(json.dumps(crossed))
        denied = server.kubectl("get", "namespaces", kubeconfig=file, check=False)
        assert "must be logged in" in denied.stderr or "Unauthorized" in denied.stderr
