"""A shadow, an experiment and a bandit on a real node, each to its end: copies, units and weights are the real
gateway's, pairs and rewards the real collector's, and users tell it what came of their requests.

The versions are trained; what they earn is planted, by version, so that it is known who must win. Each test releases
the version that is not the champion.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from scipy import stats

from monitoring.rules.programs import binary
from serving.release.cluster.api import KubernetesApi
from serving.release.cluster.store import ClusterStore
from serving.release.collector.client import Collector, Question, SilentError
from serving.release.evidence import Evidence
from serving.release.journal import history
from serving.release.journal.replay import replay
from tests.cluster.node import platform, team
from tests.cluster.node.node import Node
from tests.cluster.node.platform import NODE_PORT, apply_objects, wait
from tests.cluster.node.releases import IMAGES, MODEL, champion, condition, get, phase
from tests.cluster.node.steps import Steps
from tests.cluster.node.traffic import Callers
from tests.cluster.node.users import UNIT, Users, collector

ENDED = ("Promoted", "RolledBack", "Aborted", "Refused")
#: Outside of it one share in a thousand lies by chance.
SURE = 0.999
#: Percent that every version of a bandit keeps.
FLOOR = 10
_ERRORS = {"name": "errors", "kind": "guardrail", "metric": "errorRate", "relativeToChampion": True}
_BOOKINGS = {
    "name": "bookings", "kind": "decision", "metric": "reward", "source": "feedback", "direction": "increase",
}  # fmt: skip
pytestmark = [pytest.mark.node_long, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node on which two versions are trained and the chart is installed, its collector in a hurry."""
    folder = tmp_path_factory.mktemp("n")
    step = Steps(folder / "steps.json")
    with Node(folder, IMAGES) as found:
        with step("Gateway API, Envoy Gateway, KServe"):
            platform.install(found)
            team.prepare(found, binary("prometheus"))
        serving = {"resources": {"cpu": "200m"}, "startSeconds": 45}
        hurry = {"args": ["--consolidate-s=2"]}
        with step("helm install"):
            team.install(found, team.values(found, operator={"serving": serving}, collector=hurry))
        with step("two versions trained"):
            team.train(found, "train-one", "2013-01-01", "2013-02-20")
            team.train(found, "train-two", "2013-01-01", "2013-03-15")
        with team.Discovery(found):
            yield found


@pytest.fixture(scope="module")
def told(node: Node) -> Iterator[int]:
    """The collector's port on this machine."""
    with collector(node) as port:
        yield port


@pytest.fixture
def pair(node: Node) -> tuple[str, str]:
    """Champion and candidate."""
    now = champion(node)
    return now, {"1": "2", "2": "1"}[now]


def test_a_shadow_is_promoted_and_nobody_sees_it_before(node: Node, told: int, pair: tuple[str, str]) -> None:
    """Verify that the proxy's copies reach the candidate alone, that the collector pairs its answers with the
    champion's, and that callers get the champion's until it is promoted."""
    old, new = pair
    shadow = {"type": "shadow", "percent": 50, "minSamples": 1000, "minDuration": "45s"}
    name = released(
        node, "shadow", new, shadow,
        {**_ERRORS, "source": "predictions"},
        {"name": "same", "kind": "guardrail", "metric": "disagreement", "source": "predictions", "bound": 40},
        {"name": "near", "kind": "guardrail", "metric": "scoreDistance", "source": "predictions", "bound": 20},
        {"name": "accuracy", "kind": "decision", "metric": "brier", "source": "feedback", "margin": 0.05},
    )  # fmt: skip
    assert status(node, name)["copies"] == {"to": new, "percent": 50}
    begun = paired(node, told, name)
    with Users(node, MODEL, told, {old: 0.3, new: 0.3}) as users:

        def over() -> bool:
            seen = set(users.answers)
            going = phase(node, name) not in ENDED
            assert not going or seen <= {old}, users.answers
            return not going

        wait(over, lambda: f"the shadow ends: {status(node, name)}", 400)
        wait(lambda: champion(node) == new, "the registry follows", 60)
        before = users.answers.copy()
        users.wait_for(300, 60)
        assert set(users.answers - before) == {new}
    done = status(node, name)
    assert done["phase"] == "Promoted", done
    verdicts = {check["name"]: check["verdict"] for check in done["checks"]}
    assert [verdicts[each] for each in ("same", "near", "accuracy")] == ["PASS"] * 3, done["checks"]
    arms = evidence(node, name)[-1]["arms"]
    # the two servers are scraped at moments of their own
    assert arms[new]["requests"] / arms[old]["requests"] == pytest.approx(0.5, abs=0.05)
    served(users)
    pairs = paired(node, told, name) - begun
    low, high = stats.binom.interval(SURE, users.answers[old], 0.5)
    assert low <= pairs <= high, f"{pairs} pairs of {users.answers[old]} requests that were to be copied"
    say(
        shadow=name,
        answers=dict(users.answers),
        pairs=pairs,
        checks={check["name"]: [check["verdict"], check["reason"]] for check in done["checks"]},
    )
    decided_again(node, name)


def test_an_experiment_keeps_each_user_and_ends_with_the_better(
    node: Node, told: int, pair: tuple[str, str]
) -> None:
    """Verify that the proxy's script gives every user one version, half of them each, whatever bucket they invent, and
    who names no user the champion's; that the collector counts users and not requests, and what they earn decides."""
    old, new = pair
    experiment = {
        "type": "experiment", "unit": {"header": UNIT}, "allocation": {old: 50, new: 50}, "minDuration": "45s",
        "maxDuration": "10m", "outcomeDelay": "5s", "period": "10s",
    }  # fmt: skip
    name = released(
        node, "experiment", new, experiment,
        {**_ERRORS, "source": "prometheus"}, {**_BOOKINGS, "minimumDetectableEffect": 5},
    )  # fmt: skip
    assert status(node, name)["weights"] == {old: 50, new: 50}
    with Users(node, MODEL, told, {old: 0.3, new: 0.6}) as users:
        # the controller says when it has accepted a route, and the proxies follow a moment later
        wait(lambda: users.answers[new] > 0, "the proxies follow", 60)
        time.sleep(1)
        users.met.clear()
        users.wait_for(3000, 200)
        nobody = users.nobody_asks(100)
        met = {user: set(versions) for user, versions in users.met.copy().items()}
        going = phase(node, name) not in ENDED
        wait(lambda: phase(node, name) in ENDED, lambda: f"the experiment ends: {status(node, name)}", 400)
        wait(lambda: champion(node) == new, "the registry follows", 60)
        before = users.answers.copy()
        users.wait_for(300, 60)
        assert set(users.answers - before) == {new}
    done = status(node, name)
    assert done["phase"] == "Promoted", done
    assert set(nobody) == {old}
    # after its end everybody gets the winner
    assert going and all(len(versions) == 1 for versions in met.values())
    split = sum(versions == {new} for versions in met.values())
    low, high = stats.binom.interval(SURE, len(met), 0.5)
    assert low <= split <= high, f"{split} of {len(met)} users met version {new}"
    arms = evidence(node, name)[-1]["arms"]
    units = {version: arm["units"] for version, arm in arms.items()}
    # two requests of three are of somebody new
    assert 0 < sum(units.values()) < 0.75 * sum(arm["requests"] for arm in arms.values())
    low, high = stats.binom.interval(SURE, sum(units.values()), 0.5)
    assert low <= units[new] <= high, units
    decision = next(check for check in done["checks"] if check["name"] == "bookings")
    assert decision["verdict"] == "PASS" and decision["observations"] > 0, decision
    assert not objects(node, "envoyextensionpolicies"), "the script goes with the experiment"
    served(users)
    say(
        experiment=name,
        answers=users.answers.total(),
        users=len(users.met),
        units=units,
        decision=done["decision"]["reason"],
    )
    decided_again(node, name)


def test_a_script_that_is_refused_costs_nobody_an_answer(node: Node, pair: tuple[str, str]) -> None:
    """Verify that under an Envoy Gateway that was not told to allow scripts, which answers 500 on a route that has one,
    an experiment ends with what is to be told, and every request is answered as before."""
    old, new = pair
    experiment = {"type": "experiment", "unit": {"header": UNIT}, "allocation": {old: 50, new: 50}}
    name = f"{MODEL}-{new}-refused"
    with scripts(node, allowed=False), asked(node) as callers:
        checks = {**_ERRORS, "source": "prometheus"}, {**_BOOKINGS, "minimumDetectableEffect": 5}
        apply_objects(node, release(name, new, experiment, *checks))
        wait(lambda: phase(node, name) in ENDED, lambda: f"the experiment ends: {status(node, name)}", 300)
        callers.wait_for(100, 60)
    assert phase(node, name) == "Aborted" and "enableLua: true" in status(node, name)["message"]
    assert not callers.failed, callers.failed[:5]
    assert set(callers.answers) <= {old}
    assert not objects(node, "envoyextensionpolicies")
    assert [route["metadata"]["name"] for route in objects(node, "httproutes")] in ([], [f"windlass-{MODEL}"])
    say(refused=name, answers=dict(callers.answers), message=status(node, name)["message"])


def test_a_bandit_follows_what_is_earned(node: Node, told: int, pair: tuple[str, str]) -> None:
    """Verify that the route's weights and the requests move to what earns more, that the other keeps its floor, and
    that the decision metric ends it."""
    old, new = pair
    bandit = {
        "type": "bandit", "policy": "thompson", "floor": FLOOR, "update": "10s", "outcomeDelay": "5s",
        "minDuration": "75s", "maxDuration": "10m",
    }  # fmt: skip
    name = released(node, "bandit", new, bandit, {**_ERRORS, "source": "prometheus"}, _BOOKINGS)
    assert status(node, name)["weights"] == {old: 50, new: 50}
    with Users(node, MODEL, told, {old: 0.3, new: 0.6}) as users:
        wait(lambda: routed(node).get(new, 0) >= 75, lambda: f"weights move: {status(node, name)}", 200)
        moved, before = routed(node), users.answers.copy()
        users.wait_for(300, 60)
        since = users.answers - before
        assert phase(node, name) not in ENDED, status(node, name)
        assert min(moved.values()) >= FLOOR and set(moved) == {old, new}
        # it may have moved further meanwhile
        low, _ = stats.binom.interval(SURE, since.total(), 0.75)
        assert low <= since[new] < since.total(), since
        wait(lambda: phase(node, name) in ENDED, lambda: f"the bandit ends: {status(node, name)}", 400)
        wait(lambda: champion(node) == new, "the registry follows", 60)
        before = users.answers.copy()
        users.wait_for(300, 60)
        assert set(users.answers - before) == {new}
    done = status(node, name)
    assert done["phase"] == "Promoted" and done["decision"]["reason"].startswith("bookings: "), done
    decisions = [record for record in journal(node, name) if record["kind"] == "decision" and record["acts"]]
    assert [decisions[0]["action"], decisions[-1]["action"]] == ["start", "promote"]
    weights = [record["traffic"]["weights"] for record in decisions[:-1]]
    assert len(weights) > 1 and all(min(each[old], each[new]) >= FLOOR for each in weights), weights
    served(users)
    say(
        bandit=name,
        answers=dict(users.answers),
        weights=[each[new] for each in weights],
        decision=done["decision"]["reason"],
    )
    decided_again(node, name)


def released(node: Node, kind: str, candidate: str, strategy: dict[str, Any], *checks: dict[str, Any]) -> str:
    """Apply a Release and wait until it has begun, while the model is asked; returns its name."""
    name = f"{MODEL}-{candidate}-{kind}"
    document = release(name, candidate, strategy, *checks)
    with asked(node) as callers:
        apply_objects(node, document)
        wait(
            lambda: status(node, name).get("step", 0) >= 1 and phase(node, name) == "Progressing",
            lambda: f"the release begins: {status(node, name)}",
            300,
        )
        # until the router has said that it does it
        wait(
            lambda: condition(node, "release", name, "Available")["status"] == "True",
            lambda: f"the traffic is in force: {status(node, name)}",
        )
    assert not callers.failed, callers.failed[:5]
    return name


@contextlib.contextmanager
def asked(node: Node) -> Iterator[Callers]:
    """Two callers; they do not ask where no route is yet, before a model's first release."""
    callers = Callers(node.address, NODE_PORT, MODEL, connections=2, pause_s=0.01)
    with callers if objects(node, "httproutes") else contextlib.nullcontext():
        yield callers


def release(name: str, candidate: str, strategy: dict[str, Any], *checks: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "windlass.dev/v1alpha1",
        "kind": "Release",
        "metadata": {"name": name, "namespace": team.NAMESPACE},
        "spec": {
            "model": MODEL,
            "candidate": candidate,
            "backend": "gateway",
            "gateway": {"name": "windlass", "namespace": team.NAMESPACE, "extension": "envoyGateway"},
            "strategy": strategy,
            "checks": list(checks),
        },
    }


@contextlib.contextmanager
def scripts(node: Node, *, allowed: bool) -> Iterator[None]:
    """Envoy Gateway allows scripts, or not, and after it does what it did before."""
    where = ("-n", platform.GATEWAY_NAMESPACE)
    said = node.kubectl(*where, "get", "configmap", "envoy-gateway-config", "-o", "json").stdout
    before = json.loads(said)["data"]["envoy-gateway.yaml"]
    changed = yaml.safe_load(before)
    changed["extensionApis"]["enableLua"] = allowed

    def told(text: str) -> None:
        data = json.dumps({"data": {"envoy-gateway.yaml": text}})
        node.kubectl(*where, "patch", "configmap", "envoy-gateway-config", "--type=merge", "--patch", data)
        node.kubectl(*where, "rollout", "restart", "deployment/envoy-gateway")
        node.kubectl(*where, "rollout", "status", "deployment/envoy-gateway", "--timeout=120s")

    told(yaml.safe_dump(changed))
    try:
        yield
    finally:
        told(before)


def status(node: Node, name: str) -> dict[str, Any]:
    found: dict[str, Any] = get(node, "release", name).get("status", {})
    return found


def journal(node: Node, name: str) -> list[dict[str, Any]]:
    """What the operator wrote of a release."""
    store = ClusterStore(KubernetesApi.connect(node.kubeconfig), team.NAMESPACE, None)
    entries = [entry for entry in store.entries(MODEL) if entry.name == name]
    return [dict(record) for entry in entries for record in store.records(entry)]


def evidence(node: Node, name: str) -> list[dict[str, Any]]:
    """What its decisions rested on."""
    return [r["evidence"] for r in journal(node, name) if r["kind"] == "decision" and r["evidence"]]


def paired(node: Node, port: int, name: str) -> int:
    """Requests that both versions answered, once all that was sent is in the collector's store."""
    store = ClusterStore(KubernetesApi.connect(node.kubeconfig), team.NAMESPACE, None)
    (entry,) = (entry for entry in store.entries(MODEL) if entry.name == name)
    found = history.of_records(entry, store.records(entry))
    assert found is not None and found.state.started_at is not None
    question = Question(found.release, found.state.champion, found.state.started_at)
    now, asked = datetime.now(UTC), Collector(f"http://127.0.0.1:{port}")
    said: list[Evidence] = []

    def there() -> bool:
        with contextlib.suppress(SilentError):
            said.append(asked.evidence(question, {}, datetime.now(UTC)))
        return bool(said) and said[-1].at > now

    wait(there, "the collector has all", 60)
    pairs = said[-1].pairs
    return 0 if pairs is None else pairs.n


def decided_again(node: Node, name: str) -> None:
    """Verify that the journal's evidence gives the journal's decisions."""
    found = replay(journal(node, name))
    assert found.same and found.decisions, found.differences


def objects(node: Node, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        node.kubectl("-n", team.NAMESPACE, "get", kind, "-o", "json").stdout
    )["items"]
    return found


def routed(node: Node) -> dict[str, int]:
    """Percent by version, as the model's HTTPRoute has it."""
    (rule, *_) = get(node, "httproute", f"windlass-{MODEL}")["spec"]["rules"]
    found: Counter[str] = Counter()
    for ref in rule["backendRefs"]:
        found[ref["name"].removeprefix(f"{MODEL}-").removesuffix("-predictor")] += ref["weight"]
    return dict(found)


def served(users: Users) -> None:
    """Verify that nobody's request failed, and that all that was told was taken."""
    assert not users.failed, users.failed[:5]
    assert not users.untold


def say(**found: Any) -> None:
    print(json.dumps(found), flush=True)
