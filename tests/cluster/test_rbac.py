"""What each service account of the chart may do and must not: the real API server is asked, for every one of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from manifests.generate import documents, render
from tests.cluster.api_server import ApiServer, rights_in_force
from tests.cluster.charts import EVERYTHING
from tests.cluster.tools.build import BUILD_S

pytestmark = pytest.mark.timeout(2 * BUILD_S)

NAMESPACE = "rbac"
OTHER = "somebody-else"
READ = ("get", "list", "watch")
WRITE = ("create", "update", "patch", "delete")

OPERATOR: dict[str, tuple[str, ...]] = {
    "releases.windlass.dev": (*READ, "update", "patch"),
    "releases.windlass.dev/status": ("get", "update", "patch"),
    "retrainpolicies.windlass.dev": READ,
    "retrainpolicies.windlass.dev/status": ("get", "patch"),
    "releasejournals.windlass.dev": (*READ, *WRITE),
    "leases.coordination.k8s.io": ("create",),
    "leases.coordination.k8s.io:windlass-operator": ("get", "update", "patch"),
    "events": ("create", "patch"),
    "events.events.k8s.io": ("create", "patch"),
    "inferenceservices.serving.kserve.io": (*READ, *WRITE),
    "httproutes.gateway.networking.k8s.io": (*READ, *WRITE),
    "envoyextensionpolicies.gateway.envoyproxy.io": (*READ, *WRITE),
    "poddisruptionbudgets.policy": (*READ, *WRITE),
    "configmaps:windlass-retrain-policies": ("get", "create", "patch", "delete"),
    "deployments.apps": ("get",),
    "pods": ("get", "list"),
    "revisions.serving.knative.dev": ("get",),
    "services.serving.knative.dev": ("get",),
}
TRIGGER = {"releases.windlass.dev": ("get", "list", "create")}
TEST = {"releases.windlass.dev": ("create",)}
NOTHING: dict[str, tuple[str, ...]] = {}

MAY = {
    "windlass-operator": OPERATOR,
    "windlass-retrain": TRIGGER,
    "windlass-test": TEST,
    "windlass-collector": NOTHING,
    "windlass-analysis": NOTHING,
    "windlass-materialize": NOTHING,
    "windlass-analysis-metrics": NOTHING,
    "windlass-mlflow": NOTHING,
    "windlass-redis": NOTHING,
    "windlass-features": NOTHING,
    "windlass-models": NOTHING,
    "windlass-ray": NOTHING,
}

#: Asked for every account beside what it may: none of these is ever granted.
MUST_NOT = [
    ("get", "secrets"),
    ("list", "secrets"),
    ("watch", "secrets"),
    ("create", "secrets"),
    ("create", "pods"),
    ("delete", "pods"),
    ("create", "pods/exec"),
    ("get", "pods/log"),
    ("create", "pods/attach"),
    ("create", "pods/portforward"),
    ("get", "configmaps"),
    ("update", "configmaps"),
    ("create", "serviceaccounts/token"),
    ("impersonate", "serviceaccounts"),
    ("create", "deployments.apps"),
    ("patch", "deployments.apps"),
    ("create", "jobs.batch"),
    ("delete", "persistentvolumeclaims"),
    ("delete", "releases.windlass.dev"),
    ("create", "roles.rbac.authorization.k8s.io"),
    ("create", "rolebindings.rbac.authorization.k8s.io"),
    ("bind", "roles.rbac.authorization.k8s.io"),
    ("escalate", "roles.rbac.authorization.k8s.io"),
    ("delete", "leases.coordination.k8s.io:windlass-operator"),
    ("update", "leases.coordination.k8s.io:another"),
    ("delete", "networkpolicies.networking.k8s.io"),
    ("patch", "gateways.gateway.networking.k8s.io"),
]
#: In no namespace.
CLUSTER = [
    ("list", "namespaces"),
    ("get", "nodes"),
    ("list", "customresourcedefinitions.apiextensions.k8s.io"),
    ("patch", "customresourcedefinitions.apiextensions.k8s.io"),
    ("create", "clusterroles.rbac.authorization.k8s.io"),
    ("create", "clusterrolebindings.rbac.authorization.k8s.io"),
    ("get", "clusterservingruntimes.serving.kserve.io"),
    ("create", "priorityclasses.scheduling.k8s.io"),
    ("create", "gatewayclasses.gateway.networking.k8s.io"),
    ("get", "persistentvolumes"),
]


@dataclass(frozen=True)
class Question:
    """A verb on a resource; its name after a colon, its subresource after a slash."""

    verb: str
    resource: str
    namespace: str = NAMESPACE

    def attributes(self) -> dict[str, str]:
        resource, _, name = self.resource.partition(":")
        resource, _, part = resource.partition("/")
        plural, _, group = resource.partition(".")
        found = {"verb": self.verb, "group": group, "resource": plural, "subresource": part, "name": name}
        return {**found, "namespace": self.namespace}


@pytest.fixture(scope="module")
def installed(api_server: ApiServer) -> ApiServer:
    """An API server with every account, role and binding of the chart, all parts switched on."""
    text = render(EVERYTHING, hooks=True, namespace=NAMESPACE)
    kept = [
        found
        for key, found in documents(text).items()
        if key.kind == "ServiceAccount" or key.api_version.startswith("rbac.authorization.k8s.io/")
    ]
    assert {found["metadata"]["name"] for found in kept if found["kind"] == "ServiceAccount"} == set(MAY)
    for name in (NAMESPACE, OTHER):
        api_server.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    api_server.kubectl("apply", "-f", "-", given=yaml.safe_dump_all(kept))
    rights_in_force(api_server, NAMESPACE)
    return api_server


def allowed(server: ApiServer, account: str, question: Question) -> bool:
    """What the authorizer says of an account; asked by the administrator in its name."""
    spec: dict[str, Any] = {
        "user": f"system:serviceaccount:{NAMESPACE}:{account}",
        "groups": ["system:serviceaccounts", f"system:serviceaccounts:{NAMESPACE}", "system:authenticated"],
        "resourceAttributes": question.attributes(),
    }
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    answer = server.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
    found: bool = answer["status"]["allowed"]
    return found


@pytest.mark.parametrize("account", MAY)
def test_an_account_may_what_it_needs_and_nothing_else(installed: ApiServer, account: str) -> None:
    """Verify every verb on every resource that any account of ours has to do with, and the dangerous ones."""
    mine = MAY[account]
    asked = {resource for granted in MAY.values() for resource in granted}
    may = [Question(verb, resource) for resource, verbs in mine.items() for verb in verbs]
    must_not = [
        Question(verb, resource)
        for resource in asked
        for verb in (*READ, *WRITE, "deletecollection")
        if verb not in mine.get(resource, ()) and verb not in mine.get(resource.partition(":")[0], ())
    ]
    must_not += [Question(verb, resource) for verb, resource in MUST_NOT]
    must_not += [Question(verb, resource, namespace="") for verb, resource in CLUSTER]
    # what it may here it may nowhere else, and not in all namespaces at once
    must_not += [Question(q.verb, q.resource, where) for q in may for where in (OTHER, "")]
    assert [q for q in may if not allowed(installed, account, q)] == []
    assert [q for q in must_not if allowed(installed, account, q)] == []


@pytest.mark.parametrize("account", MAY)
def test_an_account_sees_the_same_of_itself(installed: ApiServer, account: str) -> None:
    """Verify by the account's own token that its rules are those of the list, as `kubectl auth can-i --list` shows."""
    config = installed.kubeconfig_for_service_account(NAMESPACE, account)
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": NAMESPACE},
    }
    done = installed.kubectl(
        "create", "--validate=false", "-o", "json", "-f", "-", kubeconfig=config, given=json.dumps(body)
    )
    rules = json.loads(done.stdout)["status"]["resourceRules"]
    found = {
        (verb, f"{resource}.{group}" if group else resource)
        for rule in rules
        for verb in rule["verbs"]
        for resource in rule["resources"]
        for group in rule["apiGroups"]
        # everybody may ask what he may
        if group not in ("authorization.k8s.io", "authentication.k8s.io")
    }
    wanted = set()
    for resource, verbs in MAY[account].items():
        plain, _, part = resource.partition(":")[0].partition("/")
        plural, _, group = plain.partition(".")
        called = f"{plural}/{part}" if part else plural
        wanted |= {(verb, f"{called}.{group}" if group else called) for verb in verbs}
    assert found == wanted


def test_a_token_is_refused_what_its_account_may_not(installed: ApiServer) -> None:
    """Verify that the answers are not only words: the operator's token reads no Secret and sees no other namespace."""
    config = installed.kubeconfig_for_service_account(NAMESPACE, "windlass-operator")
    for words in (
        ("get", "secrets", "-n", NAMESPACE),
        ("get", "pods", "-n", OTHER),
        ("get", "namespaces"),
        ("get", "clusterroles"),
    ):
        done = installed.kubectl(*words, kubeconfig=config, check=False)
        assert done.returncode != 0 and "is forbidden" in done.stderr, words
    assert installed.kubectl("get", "pods", "-n", NAMESPACE, kubeconfig=config).returncode == 0


def test_there_is_no_role_for_the_whole_cluster() -> None:
    """Verify that the chart makes none, whatever is switched on."""
    text = render(settings=["gateway.create=true", "redis.enabled=true", "ray.enabled=true"], hooks=True)
    kinds = {key.kind for key in documents(text)}
    assert "Role" in kinds and not kinds & {"ClusterRole", "ClusterRoleBinding"}
