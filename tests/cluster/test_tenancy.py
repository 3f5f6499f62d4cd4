"""What the sample's Roles give to the people of a team, asked of a real API server as those people."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.api_server import ApiServer, rights_in_force
from tests.cluster.tools.build import BUILD_S

pytestmark = pytest.mark.timeout(2 * BUILD_S)

ROLES = Path(__file__).parents[2] / "manifests" / "samples" / "tenancy" / "roles.yaml"
READS = ("get", "list", "watch")
WRITES = ("create", "update", "patch", "delete")
RELEASES, JOURNALS = ("releases", "retrainpolicies"), ("releasejournals",)


@pytest.fixture(scope="module")
def team(api_server: ApiServer) -> ApiServer:
    for name in ("team-a", "team-b"):
        api_server.kubectl("create", "namespace", name)
    api_server.kubectl("apply", "-n", "team-a", "-f", ROLES)
    for role in ("editor", "viewer"):
        words = (f"--role=windlass-{role}", f"--group={role}s")
        api_server.kubectl("create", "rolebinding", role, "-n", "team-a", *words)
    rights_in_force(api_server, "team-a")
    return api_server


def may(
    server: ApiServer, group: str, verb: str, resource: str, *more: str, namespace: str = "team-a"
) -> bool:
    person = server.kubeconfig_for_user("ana", [group])
    question = ("auth", "can-i", verb, f"{resource}.windlass.dev", "-n", namespace, *more)
    said = server.kubectl(*question, kubeconfig=person, check=False).stdout.strip()
    assert said in ("yes", "no")
    return said == "yes"


@pytest.mark.parametrize(
    ("group", "allowed"),
    [
        pytest.param(
            "editors",
            {(v, r) for v in (*READS, *WRITES) for r in RELEASES} | {(v, r) for v in READS for r in JOURNALS},
            id="editor",
        ),
        pytest.param("viewers", {(v, r) for v in READS for r in (*RELEASES, *JOURNALS)}, id="viewer"),
        pytest.param("others", set(), id="stranger"),
    ],
)
def test_a_role_gives_what_it_says(team: ApiServer, group: str, allowed: set[tuple[str, str]]) -> None:
    """Verify every verb on every kind of ours: what is not allowed is refused."""
    questions = [(verb, resource) for verb in (*READS, *WRITES) for resource in (*RELEASES, *JOURNALS)]
    assert {question for question in questions if may(team, group, *question)} == allowed


def test_a_role_gives_nothing_in_another_namespace_and_no_status(team: ApiServer) -> None:
    """Verify that a team's editor reads nothing of another team, and cannot say what the operator says."""
    assert not may(team, "editors", "list", "releases", namespace="team-b")
    assert not may(team, "editors", "patch", "releases", "--subresource=status")
