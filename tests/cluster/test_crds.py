"""A real API server takes our definitions, defaults documents as their readers do, and refuses what they refuse."""

from __future__ import annotations

import copy
import json
import re
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from serving.release import spec
from tests.cluster.api_server import ApiServer
from tests.cluster.release_documents import mistaken, policies, releases
from tests.cluster.tools.build import BUILD_S
from windlass import retrain_policy
from windlass.crds import files
from windlass.errors import UsageError, WindlassError

pytestmark = pytest.mark.timeout(2 * BUILD_S)

ROOT = Path(__file__).parents[2]
SAMPLES = sorted((ROOT / "manifests" / "samples").glob("*.yaml"))
INVALID = sorted((Path(__file__).parent / "invalid").glob("*.yaml"))
NAMESPACE = "crds"
PLURALS = {
    "Release": "releases",
    "RetrainPolicy": "retrainpolicies",
    "ReleaseJournal": "releasejournals",
}
READERS = {"Release": spec.parse, "RetrainPolicy": retrain_policy.parse}


def drawn(count: int) -> settings:
    """So many documents, the same in every run; how fast a machine answers is no property of them."""
    return settings(
        max_examples=count,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=True,
    )


@dataclass(frozen=True)
class Answer:
    """What became of a document: its object where it was taken, the causes of the refusal where not."""

    code: int
    body: dict[str, Any]

    @property
    def taken(self) -> bool:
        return self.code in (200, 201)

    @property
    def causes(self) -> list[str]:
        """`field: message` of each."""
        causes = self.body.get("details", {}).get("causes") or [{"message": self.body.get("message")}]
        return [f"{cause.get('field')}: {cause.get('message')}" for cause in causes]


class Objects:
    """Our resources in a namespace of a running API server."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server

    def create(self, document: dict[str, Any], *, dry_run: bool = True) -> Answer:
        """Hand a document over as `kubectl create` does, unknown fields refused; forgotten again where it is tried."""
        query = "?fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")
        return self.ask("POST", self.path(document) + query, document)

    def replace(self, document: dict[str, Any], part: str = "") -> Answer:
        name = document["metadata"]["name"]
        return self.ask("PUT", f"{self.path(document)}/{name}{part}?fieldValidation=Strict", document)

    def path(self, document: dict[str, Any]) -> str:
        return f"/apis/windlass.dev/v1alpha1/namespaces/{NAMESPACE}/{PLURALS[document['kind']]}"

    def ask(self, method: str, path: str, body: Any) -> Answer:
        try:
            return Answer(200, self.server.request(method, path, body))
        except WindlassError as error:
            cause = error.__cause__
            if not isinstance(cause, urllib.error.HTTPError):
                raise
            said = str(error).partition(f"was answered {cause.code}: ")[2]
            return Answer(cause.code, json.loads(said))


@pytest.fixture(scope="module")
def server(api_server: ApiServer) -> ApiServer:
    api_server.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    return api_server


@pytest.fixture(scope="module")
def objects(server: ApiServer) -> Objects:
    return Objects(server)


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def within(document: dict[str, Any]) -> dict[str, Any]:
    """The document in our namespace, as a reader of what comes back sees it."""
    return {**document, "metadata": {**document["metadata"], "namespace": NAMESPACE}}


def release(name: str = "flights-13", **changes: Any) -> dict[str, Any]:
    """The first canary of the samples."""
    found = read(ROOT / "manifests" / "samples" / "release-canary-gateway.yaml")
    found["metadata"]["name"] = name
    found["spec"] |= changes
    return found


# --- the definitions


def test_an_older_server_finds_the_rules_cheap_enough(server):
    """Verify that Kubernetes 1.32 and 1.33 take them, where no limit is known of what is a number or a text."""

    def unlimited(node: Any) -> Any:
        if isinstance(node, list):
            return [unlimited(item) for item in node]
        if not isinstance(node, dict):
            return node
        without = "maxLength" if node.get("x-kubernetes-int-or-string") else None
        return {key: unlimited(value) for key, value in node.items() if key != without}

    for text in files.rendered().values():
        crd = unlimited(yaml.safe_load(text))
        crd["spec"]["group"] = "older.windlass.dev"
        crd["metadata"]["name"] = f"{crd['spec']['names']['plural']}.older.windlass.dev"
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?dryRun=All&fieldValidation=Strict"
        assert server.request("POST", path, crd)["spec"]["group"] == "older.windlass.dev"


def test_they_are_what_they_say_they_are(server):
    """Verify that the API server finds the schemas structural and the names free."""
    found = server.request("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions")["items"]
    ours = {crd["metadata"]["name"]: crd for crd in found if crd["spec"]["group"] == "windlass.dev"}
    assert set(ours) == {f"{plural}.windlass.dev" for plural in PLURALS.values()}
    for crd in ours.values():
        held = {condition["type"]: condition["status"] for condition in crd["status"]["conditions"]}
        assert held == {"NamesAccepted": "True", "Established": "True"}


def test_a_person_sees_how_a_release_stands(server, objects):
    """Verify the columns, the short names and the category that people type."""
    created = objects.create(release("seen"), dry_run=False)
    assert created.taken, created.causes
    status = {
        "phase": "Progressing",
        "step": 2,
        "champion": "12",
        "candidates": ["13"],
        "weights": {"12": 75, "13": 25},
        "decision": {"action": "advance", "reason": "step 1 is done", "at": "2026-01-31T12:00:00Z"},
    }
    assert objects.replace({**created.body, "status": status}, "/status").taken
    plain = server.kubectl("get", "rel", "seen", "-n", NAMESPACE).stdout
    columns = ["NAME", "MODEL", "PHASE", "STEP", "WEIGHTS", "CHAMPION", "AGE"]
    assert plain.splitlines()[0].split() == columns
    assert re.search(r'seen\s+flights\s+Progressing\s+2\s+{"12":75,"13":25}\s+12\s', plain)
    wide = server.kubectl("get", "rel", "seen", "-n", NAMESPACE, "-o", "wide").stdout
    assert re.search(r'canary\s+gateway\s+\["13"\]\s+step 1 is done', wide)
    policy = read(ROOT / "manifests" / "samples" / "retrainpolicy-minimal.yaml")
    policy["metadata"]["name"] = "seen-as-well"
    assert objects.create(policy, dry_run=False).taken
    together = server.kubectl("get", "windlass", "-n", NAMESPACE, "-o", "name").stdout.split()
    assert {"release.windlass.dev/seen", "retrainpolicy.windlass.dev/seen-as-well"} <= set(together)
    assert "30d" in server.kubectl("get", "rp", "seen-as-well", "-n", NAMESPACE).stdout


def test_a_status_is_kept_as_it_is_written(objects):
    """Verify that nothing that the operator writes is pruned, and that it is no way to change the spec."""
    created = objects.create(release("told"), dry_run=False).body
    time = "2026-01-31T12:00:00Z"
    condition = {"status": "True", "reason": "InForce", "message": "", "lastTransitionTime": time}
    status = {
        "observedGeneration": 1,
        "phase": "Promoted",
        "step": 3,
        "steps": 3,
        "champion": "12",
        "candidate": "13",
        "candidates": ["13"],
        "weights": {"13": 100},
        "checks": [
            {
                "name": "errors",
                "kind": "guardrail",
                "verdict": "PASS",
                "reason": "few",
                "candidate": "13",
                "observations": 100,
            }
        ],
        "decision": {"action": "promote", "reason": "every step is done", "at": time},
        "conditions": [
            {"type": kind, **condition, "observedGeneration": 1}
            for kind in ("Progressing", "Available", "Degraded")
        ],
        "handledCommand": "promote",
        "startedAt": time,
        "finishedAt": time,
        "message": "done",
    }
    changed = {**created, "spec": {**created["spec"], "candidate": "14"}, "status": status}
    answer = objects.replace(changed, "/status")
    assert answer.taken, answer.causes
    assert answer.body["status"] == status
    assert answer.body["spec"] == created["spec"]
    twice = {**status, "conditions": [status["conditions"][0], status["conditions"][0]]}
    refused = objects.replace({**answer.body, "status": twice}, "/status")
    assert refused.code == 422
    assert any(cause.startswith("status.conditions[1]: Duplicate value") for cause in refused.causes)


def test_a_journal_is_kept_as_it_is_written(objects):
    """Verify that the store's objects lose nothing, whatever a record holds."""
    content = {
        "model": "flights",
        "release": "flights-13",
        "number": 7,
        "part": 0,
        "writer": "operator-1",
        "full": False,
        "records": [json.dumps({"kind": "release", "text": 'ä "quoted" \\'}), "z" + "A" * 70_000],
        "queue": {"at": "2026-01-31T12:00:00.000000+00:00", "document": "{}"},
    }
    document = {
        "apiVersion": "windlass.dev/v1alpha1",
        "kind": "ReleaseJournal",
        "metadata": {"name": "flights.000001"},
        "spec": content,
    }
    assert objects.create(document).body["spec"] == content


# --- documents that can be meant


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_is_taken_and_applied_again(server, objects, path):
    """Verify `kubectl apply` of each sample, tried first, then done, then done again, by either side's apply: no write
    but the first one changes anything, so an operator sees nothing new.
    """
    document, where = read(path), ("-n", NAMESPACE, "-f", path)
    assert "server dry run" in server.kubectl("apply", "--dry-run=server", *where).stdout
    assert "created" in server.kubectl("apply", *where).stdout
    created = server.request("GET", f"{objects.path(document)}/{document['metadata']['name']}")
    server.kubectl("apply", *where)
    server.kubectl("apply", "--server-side", "--force-conflicts", *where)
    applied = server.request("GET", f"{objects.path(document)}/{document['metadata']['name']}")
    assert applied["metadata"]["generation"] == created["metadata"]["generation"] == 1
    assert applied["spec"] == created["spec"]


def test_what_is_valid_is_taken_and_means_the_same(objects):
    """Verify of hundreds of documents of every strategy and backend: lint and API server take them, and what the API
    server has written into them changes nothing of what they mean.
    """
    seen: Counter[tuple[str, str]] = Counter()

    @drawn(220)
    @given(releases())
    def check(document: dict[str, Any]) -> None:
        meant = spec.parse(within(document))
        answer = objects.create(document)
        assert answer.taken, answer.causes
        assert spec.parse(answer.body) == meant
        seen[document["spec"].get("backend", "local"), document["spec"]["strategy"]["type"]] += 1

    check()
    assert sum(seen.values()) >= 200
    assert {kind for _, kind in seen} == {"canary", "blueGreen", "shadow", "experiment", "bandit"}
    assert {backend for backend, _ in seen} == {"local", "gateway", "kserve", "knative"}


def test_what_is_valid_of_policies_is_taken_and_means_the_same(objects):
    """Verify the same of RetrainPolicies, their defaults and the releases in them included."""

    @drawn(60)
    @given(policies())
    def check(document: dict[str, Any]) -> None:
        meant = retrain_policy.parse(document)
        answer = objects.create(document)
        assert answer.taken, answer.causes
        assert retrain_policy.parse(answer.body) == meant

    check()


# --- documents that cannot be meant


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_the_api_server_refuses_it_with_path_and_reason(objects, path):
    """Verify that the API server itself says no, where and why: the file's first line says what a person must read."""
    expected = re.match(r"# refused at (\S+): (.+)\n", path.read_text())
    assert expected is not None, "the first line is `# refused at PATH: FRAGMENT`"
    answer = objects.create(read(path))
    assert answer.code == 422, answer.causes
    at, fragment = expected.groups()
    assert any(cause.startswith(f"{at}: ") and fragment in cause for cause in answer.causes), answer.causes


def test_kubectl_shows_the_reason(server):
    """Verify what a person at a terminal reads."""
    document = read(Path(__file__).parent / "invalid" / "weights-that-fall.yaml")
    document["metadata"]["name"] = "falling"
    done = server.kubectl("apply", "-n", NAMESPACE, "-f", "-", given=json.dumps(document), check=False)
    assert done.returncode == 1
    assert (
        'The Release "falling" is invalid: spec.strategy.steps: Invalid value: '
        "weights must rise from step to step, for example 10, 25, 50"
    ) in done.stderr


def test_a_slip_of_the_keyboard_is_refused(server):
    """Verify that a field that nobody knows is not pruned in silence where kubectl is used as it comes."""
    document = release("slipped")
    document["spec"]["strategy"]["steps"][0]["minSample"] = 5
    done = server.kubectl("apply", "-n", NAMESPACE, "-f", "-", given=json.dumps(document), check=False)
    assert done.returncode == 1
    assert 'unknown field "spec.strategy.steps[0].minSample"' in done.stderr


#: Of what lint takes an API server refuses these, and nothing else: a number where a text is typed, and names that no
#: Service on a cluster can have.
STRICTER = re.compile(
    r"must be of type string: \"integer\"|names a Service on a cluster|some validation rules were not"
)


@pytest.mark.parametrize(
    ("documents", "count"),
    [pytest.param(releases(), 200, id="releases"), pytest.param(policies(), 80, id="policies")],
)
def test_of_mistaken_documents_both_refuse_the_same(objects, documents, count):
    """Verify of documents with a field changed, removed or misplaced that lint and the API server agree."""
    agreed: Counter[bool] = Counter()

    @drawn(count)
    @given(mistaken(documents))
    def check(document: dict[str, Any]) -> None:
        linted = reads(without_nulls(document))
        answer = objects.create(document)
        if linted and not answer.taken:
            # what is null is absent to both where they know the field; one that they do not know is refused by both
            unknown = not reads(document) and all("unknown field" in cause for cause in answer.causes)
            assert unknown or all(STRICTER.search(cause) for cause in answer.causes), answer.causes
            return
        assert answer.taken == linted
        agreed[linted] += 1

    check()
    assert agreed[True] >= count // 40
    assert agreed[False] >= count // 2


def reads(document: dict[str, Any]) -> bool:
    """Whether lint takes a document."""
    try:
        READERS[document["kind"]](document)
    except UsageError:
        return False
    return True


def without_nulls(value: Any) -> Any:
    """As an API server takes it: what is null is absent."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"model": "Flights"}, "spec.model", id="capital-letter"),
        pytest.param({"model": "m" * 45}, "spec.model", id="model-too-long-for-its-route"),
        pytest.param({"candidate": "v" * 45}, "spec.candidate", id="version-too-long-with-the-model"),
        pytest.param({"candidate": "1.3"}, "spec.candidate", id="dot"),
        pytest.param({"champion": "v_12"}, "spec.champion", id="underscore"),
        pytest.param({"candidate": 10**9}, "spec.candidate", id="number-too-long"),
    ],
)
def test_a_name_that_no_service_can_have_is_refused_on_a_cluster(objects, changes, field):
    """Verify that what would fail only once a Service is made is refused before the first request; lint takes it."""
    spec.parse(release(**changes))
    answer = objects.create(release(**changes))
    assert answer.code == 422
    assert any(cause.startswith(field) and "names a Service" in cause for cause in answer.causes)


def test_a_name_too_long_for_a_label_is_refused(objects):
    answer = objects.create(release("r" * 64))
    assert answer.code == 422
    assert any("a release's name has up to 63 characters" in cause for cause in answer.causes)


# --- changes


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"model": "trains"}, id="model"),
        pytest.param({"candidate": "14"}, id="candidate"),
        pytest.param({"champion": "11"}, id="champion"),
        pytest.param({"champion": None}, id="champion-removed"),
        pytest.param({"strategy": {"type": "blueGreen"}, "checks": None}, id="strategy"),
        pytest.param({"backend": "kserve", "gateway": None}, id="backend"),
        pytest.param({"gateway": {"name": "other"}}, id="gateway"),
        pytest.param({"whenInconclusive": "abort"}, id="when-inconclusive"),
        pytest.param({"bound": "60ms"}, id="bound-of-a-check"),
    ],
)
def test_a_release_keeps_the_document_that_it_began_with(request, objects, changes):
    """Verify that nothing that decides may be changed under way: the engine would not take it either."""
    created = objects.create(release(f"kept-{request.node.callspec.id}"), dry_run=False)
    assert created.taken, created.causes
    changed = copy.deepcopy(created.body)
    changed["spec"] |= {key: value for key, value in changes.items() if key != "bound" and value is not None}
    for key, value in changes.items():
        if value is None and key != "checks":
            del changed["spec"][key]
    if "checks" in changes:
        changed["spec"]["checks"] = [check for check in changed["spec"]["checks"] if check["name"] == "slow"]
    if "bound" in changes:
        changed["spec"]["checks"][1]["bound"] = changes["bound"]
    spec.parse(changed)
    answer = objects.replace(changed)
    assert answer.code == 422
    assert any("under the document that it began with" in cause for cause in answer.causes), answer.causes


def test_what_stands_beside_the_document_may_change(objects):
    """Verify that labels, a person's command and the finalizer are no change of the document."""
    created = objects.create(release("marked"), dry_run=False).body
    created["metadata"] |= {
        "labels": {"team": "travel"},
        "annotations": {"windlass.dev/command": "pause", "windlass.dev/by": "ann"},
        "finalizers": ["windlass.dev/traffic"],
    }
    assert objects.replace(created).taken


def test_a_policy_may_change(objects):
    """Verify that a policy, which has no end, is changed in place."""
    document = read(ROOT / "manifests" / "samples" / "retrainpolicy-schedule.yaml")
    document["metadata"]["name"] = "changed"
    created = objects.create(document, dry_run=False).body
    created["spec"]["schedule"] = "14d"
    assert objects.replace(created).body["spec"]["schedule"] == "14d"
