"""RetrainPolicies and retrained candidates on a real API server, with the rights that the accounts get and no more.

The kubelet's part is played by the test: it puts the ConfigMap's files where the trigger has them mounted. The trigger
is the real process; Kubeflow Pipelines is a server that speaks its API; what the operator makes of a Release is written
into its status as the operator writes it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kfp_server
import planes
import pytest
import yaml
from kfp_server import KfpServer
from mounted_folder import MountedFolder
from retrain_service import TOKEN, Served, alert, notification

from components import release_request
from monitoring.retrain import journal
from monitoring.retrain.following import Outcome
from pipelines import ended
from serving.release import on_cluster, spec
from serving.release.backend import UnreachableError
from serving.release.cluster.api import KubernetesApi
from serving.release.cluster.kinds import RELEASE, RETRAIN_POLICY
from tests.cluster import operator_stage
from tests.cluster.api_server import OWNERS_ENFORCED, ApiServer, established, rights_in_force
from tests.cluster.tools.build import BUILD_S
from windlass.contract import RetrainPolicy
from windlass.errors import WindlassError
from windlass.journal import read
from windlass.local.retraining.cluster_releases import ClusterReleases, Objects
from windlass.operator import policy_publishing
from windlass.operator.policy_publishing import CONFIG_MAP, NAME, Policies
from workloads.flights.workload import WORKLOAD

pytestmark = pytest.mark.timeout(2 * BUILD_S)

ROOT = Path(__file__).parents[2]
MODEL = planes.MODEL
RELEASE_PLAN = """
strategy: {type: canary, steps: [{weight: 10, minSamples: 500}]}
checks:
- {name: errors, kind: guardrail, metric: errorRate, source: prometheus, bound: 1}
"""
#: What the chart's Roles must hold for this, and all that they must.
OPERATOR_RULES = [
    {"apiGroups": ["windlass.dev"], "resources": ["retrainpolicies"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["windlass.dev"], "resources": ["retrainpolicies/status"], "verbs": ["get", "patch"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
    {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": [NAME],
        "verbs": ["get", "patch", "delete"],
    },
]
TRIGGER_RULES = [{"apiGroups": ["windlass.dev"], "resources": ["releases"], "verbs": ["list", "create"]}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with ApiServer(tmp_path_factory.mktemp("policies"), flags=OWNERS_ENFORCED) as running:
        running.kubectl("apply", "--server-side", "-f", ROOT / "manifests" / "crds")
        established(running)
        yield running


@dataclass
class Namespace:
    """A namespace with an operator's and a trigger's account, and the administrator's hand."""

    server: ApiServer
    name: str
    operator: Path
    trigger: Path
    admin: KubernetesApi

    def apply(self, document: Mapping[str, Any]) -> None:
        self.server.kubectl("apply", "-n", self.name, "-f", "-", given=yaml.safe_dump(document))

    def object(self, plural: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.server.request(
            "GET", f"/apis/windlass.dev/v1alpha1/namespaces/{self.name}/{plural}/{name}"
        )
        return found

    def releases(self) -> list[dict[str, Any]]:
        return list(self.admin.all(RELEASE, self.name).items)

    def published(self) -> dict[str, str]:
        found = self.admin.get(CONFIG_MAP, self.name, NAME)
        return dict((found or {}).get("data") or {})

    def says(self, release: str, **status: Any) -> None:
        """Write a Release's status, as the operator does."""
        self.admin.apply(RELEASE, self.name, release, {"status": status}, subresource="status")


_names = itertools.count(1)


@pytest.fixture
def place(server: ApiServer) -> Namespace:
    name = f"policies-{next(_names)}"
    server.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    files = {}
    for account, rules in (("windlass-operator", OPERATOR_RULES), ("windlass-retrain", TRIGGER_RULES)):
        server.request("POST", f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": account}})
        roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{name}"
        server.request("POST", f"{roles}/roles", {"metadata": {"name": account}, "rules": rules})
        bound = {"kind": "ServiceAccount", "name": account, "namespace": name}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account}
        binding = {"metadata": {"name": account}, "roleRef": role, "subjects": [bound]}
        server.request("POST", f"{roles}/rolebindings", binding)
        files[account] = server.kubeconfig_for_service_account(name, account)
    rights_in_force(server, name)
    admin = KubernetesApi.connect(server.kubeconfig)
    return Namespace(server, name, files["windlass-operator"], files["windlass-retrain"], admin)


def policy(name: str = "tumours", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "windlass.dev/v1alpha1",
        "kind": "RetrainPolicy",
        "metadata": {"name": name},
        "spec": {"workload": MODEL, **spec},
    }


def conditions(body: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in body["status"]["conditions"]}


def eventually(ask: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + planes.WAIT_S
    while not (found := ask()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


# --- the operator's half


def test_policies_are_published_and_told_how_they_stand(place: Namespace) -> None:
    """Verify what the API server makes of our documents: defaults filled in, one field manager, conditions, columns."""
    api = KubernetesApi.connect(place.operator)
    words: list[Any] = [None]
    reconciler = Policies(api, lambda _: words[-1])
    key = (place.name,)
    assert reconciler.turn(key) is None and place.admin.get(CONFIG_MAP, place.name, NAME) is None
    place.apply(policy(cooldown="1h"))
    assert reconciler.turn(key) == policy_publishing.LOOK_S
    (text,) = place.published().values()
    assert yaml.safe_load(text)["spec"]["budget"] == {"perDay": 2}, "the defaults of the definition"
    body = place.object("retrainpolicies", "tumours")
    assert conditions(body) == {"Accepted": ("True", "Valid"), "Ready": ("Unknown", "TriggerSilent")}
    (owner,) = place.admin.get(CONFIG_MAP, place.name, NAME)["metadata"]["ownerReferences"]  # type: ignore[index]
    assert owner["uid"] == body["metadata"]["uid"]
    # a second one of the workload waits for the first to go; nothing changes for the first
    time.sleep(1.0)  # creation times are whole seconds
    place.apply(policy("another", cooldown="2h"))
    words.append({"policies": {MODEL: {"name": "tumours", "generation": 1}}})
    reconciler.turn(key)
    assert set(place.published()) == {"tumours.yaml"}
    assert conditions(place.object("retrainpolicies", "another"))["Accepted"] == ("False", "AnotherPolicy")
    assert conditions(place.object("retrainpolicies", "tumours"))["Ready"] == ("True", "InForce")
    version = place.object("retrainpolicies", "tumours")["metadata"]["resourceVersion"]
    reconciler.turn(key)
    assert place.object("retrainpolicies", "tumours")["metadata"]["resourceVersion"] == version, (
        "nothing new, no write"
    )
    # somebody's hand on the ConfigMap is taken back
    place.server.kubectl(
        "patch",
        "configmap",
        NAME,
        "-n",
        place.name,
        "--type=merge",
        "-p",
        '{"data": {"tumours.yaml": "kind: x"}}',
    )
    reconciler.turn(key)
    assert place.published() == {"tumours.yaml": text}
    place.server.kubectl("delete", "retrainpolicy", "tumours", "-n", place.name)
    reconciler.turn(key)
    assert set(place.published()) == {"another.yaml"}
    place.server.kubectl("delete", "retrainpolicy", "another", "-n", place.name)
    assert reconciler.turn(key) is None and place.published() == {}


def test_the_operators_process_does_so_by_itself_with_the_charts_rights(
    server: ApiServer, tmp_path: Path
) -> None:
    """Verify the real process under the chart's Role: an applied policy is published, a deleted one is gone."""
    name = f"policies-{next(_names)}"
    account = operator_stage.namespace(server, name)
    admin = KubernetesApi.connect(server.kubeconfig)
    made = Namespace(server, name, account, account, admin)
    operator = operator_stage.Operator(account, name, tmp_path / "operator.log").start()
    try:
        made.apply(policy(cooldown="1h"))
        eventually(lambda: set(made.published()) == {"tumours.yaml"}, operator.said())
        eventually(lambda: made.object("retrainpolicies", "tumours").get("status"), operator.said())
        assert conditions(made.object("retrainpolicies", "tumours"))["Accepted"] == ("True", "Valid")
        made.apply(policy(cooldown="2h"))
        eventually(lambda: "cooldown: 2h" in made.published()["tumours.yaml"], operator.said())
        # it is told after it is published; of one that is gone by then, telling would be tried again
        eventually(
            lambda: made.object("retrainpolicies", "tumours")["status"]["observedGeneration"] == 2,
            operator.said(),
        )
        server.kubectl("delete", "retrainpolicy", "tumours", "-n", name)
        eventually(lambda: made.published() == {}, operator.said())
        assert operator.stop() == 0
        assert "tried again" not in operator.said(), operator.said()
    finally:
        operator.kill()


# --- the trigger's half


def document(candidate: str = "2", source: str = "prometheus") -> dict[str, Any]:
    plan = yaml.safe_load(RELEASE_PLAN.replace("prometheus", source))
    spec = {"model": MODEL, "candidate": candidate, "champion": "1", "backend": "local", **plan}
    return {"kind": "Release", "metadata": {"name": f"{MODEL}-{candidate}"}, "spec": spec}


@pytest.fixture
def objects(place: Namespace) -> Objects:
    return Objects(KubernetesApi.connect(place.trigger), place.name, fresh_s=0.0)


def test_a_release_that_is_handed_over_again_is_found(place: Namespace, objects: Objects) -> None:
    releases = ClusterReleases(objects, MODEL)
    assert not releases.live()
    done = releases.hand_over(document(), f"retrain-{MODEL}-0123456789ab")
    assert done == {"release": f"retrain-{MODEL}-0123456789ab", "namespace": place.name, "backend": "gateway"}
    assert releases.live(), "before the operator has said anything about it"
    other = ClusterReleases(Objects(KubernetesApi.connect(place.trigger), place.name), MODEL)
    assert other.hand_over(document(), f"retrain-{MODEL}-0123456789ab") is None
    (made,) = place.releases()
    assert made["metadata"]["labels"] == {
        "windlass.dev/model": MODEL, "windlass.dev/trigger": f"retrain-{MODEL}-0123456789ab",
    }  # fmt: skip
    assert (made["spec"]["candidate"], made["spec"]["champion"], made["spec"]["backend"]) == (
        "2",
        "1",
        "gateway",
    )
    # another model's release is none of ours
    assert not ClusterReleases(objects, "flights").live()


def test_a_release_that_cannot_be_meant_on_a_cluster_is_said_and_not_made(
    place: Namespace, objects: Objects
) -> None:
    wanted = document()
    wanted["spec"]["strategy"]["steps"] = [{"weight": 50}, {"weight": 10}]
    said = ClusterReleases(objects, MODEL).hand_over(wanted, "retrain-x-1")
    assert isinstance(said, str) and "cannot be meant on a cluster" in said
    assert place.releases() == []


def test_a_plan_of_one_machine_becomes_a_release_that_says_what_is_another(
    place: Namespace, objects: Objects
) -> None:
    """Verify what the API server makes of a translated plan: the shipped workload's, and one with another source."""
    assert isinstance(ClusterReleases(objects, MODEL).hand_over(document(source="envoy"), "r1"), dict)
    wanted = release_request.document(WORKLOAD, "13", "12")
    assert isinstance(ClusterReleases(objects, "flights").hand_over(wanted, "r2"), dict)
    made = {one["metadata"]["name"]: one for one in place.releases()}
    assert made["r1"]["spec"]["checks"][0]["source"] == "prometheus"
    said = made["r1"]["metadata"]["annotations"]["windlass.dev/translated"]
    assert said == "check errors has source prometheus in place of envoy, which is a machine's access log"
    strategy = made["r2"]["spec"]["strategy"]
    assert (strategy["type"], strategy["percent"], strategy["minSamples"]) == ("shadow", 100, 600)
    assert "shadow of all requests" in made["r2"]["metadata"]["annotations"]["windlass.dev/translated"]
    # what the API server keeps is what was meant
    kept = spec.parse({**made["r2"], "status": {}})
    assert on_cluster.translated(kept).changes == ()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param({}, (True, None), id="not-seen-yet"),
        pytest.param({"phase": "Queued"}, (True, None), id="queued"),
        pytest.param({"phase": "Paused"}, (True, None), id="paused"),
        pytest.param(
            {"phase": "Promoted", "decision": {"action": "promote", "reason": "all steps passed"}},
            (True, Outcome(True, "release r1: Promoted: all steps passed")),
            id="promoted",
        ),
        pytest.param(
            {"phase": "RolledBack", "decision": {"action": "rollback", "reason": "errors: FAIL"}},
            (True, Outcome(False, "release r1: RolledBack: errors: FAIL")),
            id="rolled-back",
        ),
        pytest.param(
            {"phase": "Refused", "message": "no such version"},
            (True, Outcome(False, "release r1: Refused: no such version")),
            id="refused",
        ),
        pytest.param({"phase": "Aborted"}, (True, Outcome(False, "release r1: Aborted")), id="aborted"),
    ],
)
def test_what_came_of_a_release_is_its_status(
    place: Namespace, objects: Objects, status: dict[str, Any], expected: tuple[bool, Outcome | None]
) -> None:
    releases = ClusterReleases(objects, MODEL)
    assert releases.outcome("2") == (False, None)
    releases.hand_over(document(), "r1")
    if status:
        place.says("r1", **status)
    assert releases.outcome("2") == expected
    assert releases.live() == (expected[1] is None)
    assert releases.outcome("9") == (False, None)


def test_what_users_were_taken_off_is_known_until_it_is_promoted(place: Namespace, objects: Objects) -> None:
    releases = ClusterReleases(objects, MODEL)
    releases.hand_over(document("2"), "r1")
    place.says("r1", phase="RolledBack", champion="1", finishedAt="2026-01-01T00:00:00Z")
    assert releases.withdrawn() == {"2"}
    releases.hand_over(document("3"), "r2")
    place.says("r2", phase="Promoted", champion="1", finishedAt="2026-01-02T00:00:00Z")
    assert releases.withdrawn() == {"2"}
    releases.hand_over(document("2"), "r3")
    place.says("r3", phase="Promoted", champion="3", finishedAt="2026-01-03T00:00:00Z")
    assert releases.withdrawn() == set()


def test_an_api_server_that_is_down_is_no_free_way(place: Namespace, objects: Objects) -> None:
    """Verify that nothing is decided as if no release were live, and that all is as before when it is back."""
    releases = ClusterReleases(objects, MODEL)
    releases.hand_over(document(), "r1")
    place.server.kill()
    try:
        with pytest.raises(UnreachableError):
            releases.live()
        with pytest.raises(WindlassError):
            releases.hand_over(document("3"), "r2")
    finally:
        place.server.start()
    assert releases.live() and releases.hand_over(document(), "r1") is None


def test_what_is_asked_every_second_is_read_from_the_server_less_often(place: Namespace) -> None:
    now = [0.0]
    reading = Objects(KubernetesApi.connect(place.trigger), place.name, fresh_s=2.0, clock=lambda: now[0])
    releases = ClusterReleases(reading, MODEL)
    assert not releases.live()
    place.apply({"apiVersion": "windlass.dev/v1alpha1", **document(), "metadata": {"name": "by-hand"}})
    assert not releases.live()
    now[0] = 2.0
    assert releases.live()
    # our own is never overlooked
    place.server.kubectl("delete", "release", "by-hand", "-n", place.name)
    now[0] = 4.0
    assert not releases.live()
    releases.hand_over(document(), "r1")
    assert releases.live()


# --- both, and the process


@dataclass
class Trigger:
    """The real process of a trigger on a cluster; a context manager."""

    folder: Path
    home: planes.Place
    place: Namespace
    kfp: KfpServer
    policies: Path
    served: Served = field(init=False)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.served = Served(self.folder / "trigger", RetrainPolicy())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.served.port}"

    def __enter__(self) -> Trigger:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(planes.WAIT_S) == 0, self.log

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def start(self) -> None:
        environment = {
            **{k: v for k, v in self.home.environment.items() if not k.startswith("KUBERNETES_")},
            "HOME": str(self.folder),
            "WINDLASS_NAMESPACE": self.place.name,
            "KUBECONFIG": str(self.place.trigger),
            "WINDLASS_KFP_HOST": self.kfp.url,
            "WINDLASS_RETRAIN_POLICIES": str(self.policies),
            "WINDLASS_RETRAIN_TOKEN_FILE": str(self.folder / "trigger" / "token"),
        }
        command = [sys.executable, "-m", "windlass.local.retraining", MODEL, "--port", str(self.served.port)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        eventually(self._ready, "the trigger is ready")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def alert(self, signal: str) -> dict[str, Any]:
        about = {"namespace": self.place.name, "model": MODEL, "version": "1"}
        told = notification(alert(datetime.now(UTC).isoformat(), **about, signal=signal))
        status, answer = self.served.ask(
            "POST", "/alertmanager", json.dumps(told).encode(), {"authorization": f"Bearer {TOKEN}"}
        )
        assert status == 200, answer
        (decided,) = json.loads(answer)["signals"]
        return dict(decided)

    def nudge(self, run: str) -> None:
        """The exit task's word, as a pod sends it: the run is asked for at once."""
        assert ended.tell(MODEL, run, "r1", "SUCCEEDED", "", {ended.URL: self.url, ended.TOKEN: TOKEN})

    def records(self) -> list[dict[str, Any]]:
        return [r for r in read(journal.path(self.home.settings)) if r["event"] != "clock"]

    def _ready(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.log
        with contextlib.suppress(OSError):
            return self.served.ask("GET", "/ready")[0] == 200
        return False


def registered(home: planes.Place, run: str) -> None:
    """Let the registry say that the run made version 3, whose bundle is there."""
    path = home.settings.registry_dir / "snapshot.json"
    snapshot = json.loads(path.read_text())
    (made,) = (each for each in snapshot["models"][MODEL] if each["version"] == "3")
    made |= {"state": "candidate", "aliases": [], "run_id": run, "tags": {"run": run, "compared_with": "1"}}
    path.write_text(json.dumps(snapshot))


def test_from_a_policy_of_the_cluster_to_a_release_of_the_cluster(place: Namespace, tmp_path: Path) -> None:
    """Verify the whole way: policy, alert, run, version, Release, outcome; the trigger killed in between; once each."""
    home, folder = planes.make(tmp_path, ("1", "2", "3")), MountedFolder(tmp_path / "policies")
    api = KubernetesApi.connect(place.operator)
    with contextlib.ExitStack() as stack:
        kfp = stack.enter_context(kfp_server.running())
        trigger = Trigger(tmp_path, home, place, kfp, folder.folder)
        reconciler = Policies(api, lambda _: policy_publishing.ask(trigger.url))
        key = (place.name,)

        def turn() -> dict[str, tuple[str, str]]:
            reconciler.turn(key)
            folder.put(place.published())
            return conditions(place.object("retrainpolicies", "tumours"))

        place.apply(policy(cooldown="1h", release=yaml.safe_load(RELEASE_PLAN)))
        assert turn()["Ready"] == ("Unknown", "TriggerSilent")
        stack.enter_context(trigger)
        assert eventually(lambda: turn()["Ready"][1] == "InForce", trigger.log)

        decided = trigger.alert("featureDrift")
        assert decided["accepted"], decided
        name = decided["trigger"]
        eventually(lambda: kfp.runs, "the run is submitted")
        (run,) = kfp.runs
        assert (run["display_name"], run["runtime_config"]["parameters"]) == (
            name, {"workload": MODEL, "run_id": name},
        )  # fmt: skip
        registered(home, name)
        run |= {"state": "SUCCEEDED", "finished_at": "2026-01-01T00:10:00Z"}
        trigger.nudge(name)
        eventually(place.releases, "the Release is made")
        trigger.kill()
        trigger.start()
        trigger.nudge(name)
        held = trigger.alert("predictionDrift")
        assert (held["rule"], held["held"]) == ("blackout", True)
        (release,) = place.releases()
        assert release["metadata"]["name"] == name
        spec = release["spec"]
        assert (spec["candidate"], spec["champion"], spec["backend"]) == ("3", "1", "gateway")
        assert [step["weight"] for step in spec["strategy"]["steps"]] == [10]

        place.says(name, phase="Promoted", decision={"action": "promote", "reason": "all steps passed"})
        trigger.nudge(name)
        eventually(lambda: any(r["event"] == "resolved" for r in trigger.records()), trigger.log)
        events = [r["event"] for r in trigger.records() if r["id"] == name]
        assert events == ["accepted", "submitted", "finished", "resolved"]
        resolved = trigger.records()[-1]
        assert (resolved["helped"], resolved["reason"]) == (
            True,
            f"release {name}: Promoted: all steps passed",
        )
        assert len(kfp.runs) == 1 and len(place.releases()) == 1

        turn()
        status = place.object("retrainpolicies", "tumours")["status"]
        assert status["lastTrigger"] == name and status["decision"]["rule"]
        place.apply(policy(cooldown="2h"))
        assert turn()["Ready"] == ("False", "NotRead")
        # this workload has no plan of its own: its next retraining would be in vain, and that is said now
        assert eventually(lambda: turn()["Ready"] == ("False", "NoRelease"), trigger.log)
        status = place.object("retrainpolicies", "tumours")["status"]
        (ready,) = (c for c in status["conditions"] if c["type"] == "Ready")
        assert status["observedGeneration"] == 2 and "state spec.release" in ready["message"]
        place.server.kubectl("delete", "retrainpolicy", "tumours", "-n", place.name)
        reconciler.turn(key)
        folder.put(place.published())

        def own() -> bool:
            word = policy_publishing.ask(trigger.url)
            return word is not None and word["policies"][MODEL]["source"] == "workload"

        eventually(own, "the workload's own policy is in force again")


def test_the_accounts_may_do_this_and_no_more(place: Namespace) -> None:
    for account, refused in (
        (
            place.trigger,
            [
                ("delete", "releases.windlass.dev"),
                ("get", "secrets"),
                ("update", "retrainpolicies.windlass.dev"),
            ],
        ),
        (place.operator, [("delete", "configmaps"), ("list", "configmaps"), ("get", "secrets")]),
    ):
        for verb, what in refused:
            done = place.server.kubectl(
                "auth", "can-i", verb, what, "-n", place.name, kubeconfig=account, check=False
            )
            assert done.stdout.strip() == "no", (account.name, verb, what)
    with pytest.raises(WindlassError, match="403"):
        KubernetesApi.connect(place.trigger).all(RETRAIN_POLICY, place.name)
