"""`windlass release … --namespace`: a person's commands on a real API server, with a person's rights, to their end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import operator_stage as stage
from tests.cluster.api_server import ApiServer, rights_in_force
from tests.cluster.operator_stage import ROOT, Traffic, eventually
from tests.cluster.operator_team import Team, of_a_test
from tests.cluster.tools.build import BUILD_S

pytestmark = [pytest.mark.timeout(2 * BUILD_S), pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with ApiServer(tmp_path_factory.mktemp("people") / "api") as running:
        stage.install(running)
        yield running


@pytest.fixture
def team(
    server: ApiServer, tmp_path: Path, traffic: Traffic, prometheus: str, request: pytest.FixtureRequest
) -> Iterator[Team]:
    with of_a_test(request.node.name, server, tmp_path, traffic, prometheus) as made:
        yield made


class Person:
    """Somebody with the sample's role in a namespace, at a machine of their own."""

    def __init__(self, team: Team, home: Path, role: str = "windlass-editor") -> None:
        self._team = team
        self._home = home
        roles = (ROOT / "manifests" / "samples" / "tenancy" / "roles.yaml").read_text()
        team.server.kubectl("apply", "-n", team.name, "-f", "-", given=roles)
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
            "subjects": [{"kind": "User", "name": f"ana-{role}"}],
        }
        team.server.kubectl("apply", "-n", team.name, "-f", "-", given=yaml.safe_dump(binding))
        rights_in_force(team.server, team.name)
        self.kubeconfig = team.server.kubeconfig_for_user(f"ana-{role}")

    def says(self, *words: str, code: int = 0, place: tuple[str, ...] | None = None) -> dict[str, Any]:
        """What `windlass release WORDS --json` answers."""
        where = ("--namespace", self._team.name) if place is None else place
        done = subprocess.run(
            [sys.executable, "-m", "windlass", "release", *words, *where, "--json"],
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig), "WINDLASS_HOME": str(self._home)},
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == code, (done.stdout, done.stderr)
        found: dict[str, Any] = json.loads(done.stdout or "{}")
        return found


@pytest.fixture
def ana(team: Team, tmp_path: Path) -> Person:
    return Person(team, tmp_path / "home")


def pinned(name: str, model: str) -> dict[str, Any]:
    """A release that goes no further than its second step by itself."""
    document = stage.release(name, model, "2", "1")
    document["spec"]["strategy"]["steps"][1]["minSamples"] = 1_000_000
    return document


def test_a_release_is_steered_and_taken_back(team: Team, ana: Person) -> None:
    """Verify that each command is in force when it returns, and is said to be a person's."""
    team.operator()
    team.apply(pinned("planes-2", "planes"))
    team.until("planes-2", "Progressing", step=1)
    paused = ana.says("pause", "planes")
    assert (paused["release"], paused["phase"], paused["command"]) == ("planes-2", "Paused", "pause")
    assert ana.says("pause", "planes")["ignored"], "it is paused already"
    assert ana.says("resume", "planes")["phase"] == "Progressing"
    assert (
        ana.says("promote", "planes", "--version", "9", code=2)["error"]["message"].count("is refused") == 1
    )
    promoted = ana.says("promote", "planes")
    assert (promoted["phase"], promoted["weights"], promoted["in_force"]) == ("Promoted", {"2": 100}, True)
    assert team.weights("planes") == {"2": 100}
    back = ana.says("rollback", "planes", place=("-n", team.name, "--context", "test"))
    assert (back["phase"], back["weights"], back["in_force"]) == ("RolledBack", {"1": 100}, True)
    assert team.weights("planes") == {"1": 100}
    # to a version whose servers have to be made again
    again = ana.says("rollback", "planes", "--to", "2", "--timeout", "2m")
    assert again["weights"] == {"2": 100}
    acts = [r for r in team.journal("planes-2") if r["kind"] == "decision" and r["acts"]]
    assert "windlass.dev/command" not in team.release("planes-2")["metadata"].get("annotations", {})
    assert any("by " in record["reason"] for record in acts)


def test_what_stands_in_a_namespace_is_told(team: Team, ana: Person) -> None:
    team.operator()
    assert ana.says("status")["releases"] == []
    team.apply(pinned("ships-2", "ships"))
    team.until("ships-2", "Progressing", step=1)
    waiting = stage.release("ships-3", "ships", "3", "1", onConflict="queue")
    team.apply(waiting)
    eventually(lambda: team.status("ships-3").get("phase") == "Queued", "it waits")
    told = {release["release"]: release for release in ana.says("status", "ships")["releases"]}
    assert set(told) == {"ships-2", "ships-3"}
    assert (told["ships-2"]["step"], told["ships-2"]["weights"]) == (1, {"1": 80, "2": 20}) or told[
        "ships-2"
    ]["step"] == 2
    # a command is for the one that has begun
    assert ana.says("abort", "ships")["release"] == "ships-2"
    assert ana.says("status", "trams")["releases"] == []


def test_what_cannot_be_is_said_with_its_remedy(team: Team, ana: Person, tmp_path: Path) -> None:
    """Verify that nothing is reported as done where nobody carries it out, and no command stands without a release."""
    said = ana.says("rollback", "bikes", code=2)["error"]["message"]
    assert "no release of model 'bikes' has begun in namespace" in said and "get releases" in said
    assert (
        "needs --namespace"
        in ana.says("abort", "bikes", code=2, place=("--context", "test"))["error"]["message"]
    )
    operator = team.operator()
    team.apply(pinned("bikes-2", "bikes"))
    team.until("bikes-2", "Progressing", step=1)
    operator.kill()
    said = ana.says("rollback", "bikes", "--timeout", "2s", code=1)["error"]["message"]
    assert "rollback is on it and not carried out after 2 s (Progressing" in said
    assert team.weights("bikes")["2"] > 0
    # it was left, so whoever comes next does it
    operator.start()
    eventually(lambda: team.weights("bikes") == {"1": 100}, "it is carried out by the next leader")
    viewer = Person(team, tmp_path / "home", "windlass-viewer")
    # the router does it before it is told
    eventually(
        lambda: viewer.says("status", "bikes")["releases"][0]["phase"] == "RolledBack", "and it is told"
    )
    assert "403" in viewer.says("rollback", "bikes", code=1)["error"]["message"]
    # on a machine that has no platform, it is said where the release may be
    here = ana.says("rollback", "bikes", code=1, place=())["error"]["message"]
    assert "add --namespace NS" in here and "windlass.dev/command=rollback" in here
