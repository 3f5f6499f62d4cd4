"""RetrainPolicies on a cluster: which are accepted, what is published of them, and what their status says."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import release_request
from serving.release.cluster.kinds import RETRAIN_POLICY
from serving.release.release import Release
from windlass import retrain_policy
from windlass.local.retraining import cluster_releases
from windlass.operator import able, policies, policy_publishing
from windlass.operator.policies import Judged
from windlass.operator.settings import Settings
from workloads.flights.workload import WORKLOAD

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def policy(name: str = "flights", generation: int = 1, age: int = 0, **spec: Any) -> dict[str, Any]:
    """As the API server gives it, `age` seconds younger than the first."""
    return {
        "apiVersion": "windlass.dev/v1alpha1",
        "kind": "RetrainPolicy",
        "metadata": {
            "name": name,
            "namespace": "team-a",
            "uid": f"uid-{name}",
            "generation": generation,
            "resourceVersion": "7",
            "creationTimestamp": f"2026-01-01T00:00:{age:02d}Z",
        },
        "spec": {"workload": "flights", "cooldown": "1h", **spec},
    }


def published(*objects: dict[str, Any], before: dict[str, str] | None = None) -> dict[str, str]:
    judged = policies.judge(objects, before or {})
    return policies.content(objects, judged, before or {})


def test_what_is_published_is_the_policy_as_the_trigger_reads_it() -> None:
    (text,) = published(policy(generation=3)).values()
    document = yaml.safe_load(text)
    workload, found = retrain_policy.parse(document)
    assert (workload, found.cooldown) == ("flights", timedelta(hours=1))
    assert document["metadata"] == {"name": "flights", "generation": 3}


def test_every_fault_of_a_policy_is_said() -> None:
    faults = policies.accepted(policy(cooldown="soon", concurrency=0, signal=[]))
    assert len(faults) == 3
    assert any("spec.cooldown = 'soon'" in fault for fault in faults)
    assert policies.accepted(policy()) == ()


def test_a_release_that_no_cluster_can_carry_out_is_refused_with_the_policy() -> None:
    """Verify that it is not found out when a candidate waits, weeks from now."""
    check = {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "envoy", "bound": 1}
    plan = {"strategy": {"type": "canary", "steps": [{"weight": 10, "minSamples": 500}]}, "checks": [check]}
    (fault,) = policies.accepted(policy(release=plan))
    assert "release.checks[0].source" in fault and "on gateway use prometheus" in fault
    (fault,) = policies.accepted(policy(release={**plan, "backend": "kserve"}))
    assert "on kserve use prometheus" in fault
    assert policies.accepted(policy(release={**plan, "checks": [{**check, "source": "prometheus"}]})) == ()


def test_a_release_that_this_operator_cannot_carry_out_is_refused_with_the_policy() -> None:
    """Verify that what is missing on this cluster is said when the policy is applied."""
    check = {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "prometheus", "bound": 1}
    plan = {"strategy": {"type": "canary", "steps": [{"weight": 10, "minSamples": 500}]}, "checks": [check]}
    slow = {
        "name": "slow",
        "kind": "guardrail",
        "metric": "latencyP99",
        "source": "prometheus",
        "bound": "77ms",
    }
    assert policies.accepted(policy(release=plan), able_to) == ()
    (fault,) = policies.accepted(policy(release={**plan, "checks": [check, slow]}), able_to)
    assert fault.startswith("spec.release: check slow: how many answers are slower than 77 ms")
    before = published(policy(release=plan))
    broken = policy(generation=2, release={**plan, "checks": [check, slow]})
    (judged,) = policies.judge([broken], before, able_to)
    assert (judged.reason, judged.kept) == ("Invalid", 1)


def able_to(release: Release, collector: str | None = "http://c") -> str | None:
    """As an operator of the chart's usual values is."""
    settings = Settings(("team-a",), "team-a", "one", prometheus_url="http://p", collector_url=collector)
    return able.fault(release, settings)


def plan_of(release: Mapping[str, Any]) -> dict[str, Any]:
    """What a trigger tells of the shipped workload with that plan."""
    workload = replace(WORKLOAD, release=release)
    return cluster_releases.told(release_request.document(workload, "2", "1"))


@pytest.mark.parametrize("name", ["minimal", "schedule"])
def test_a_sample_that_states_no_release_has_the_workloads_own(name: str) -> None:
    """Verify that all that a policy must say is enough: what a retraining makes is released, and it is said how."""
    body = yaml.safe_load((ROOT / "manifests" / "samples" / f"retrainpolicy-{name}.yaml").read_text())
    assert policies.accepted(body, able_to) == ()
    body["metadata"] |= {"generation": 2, "creationTimestamp": "2026-01-01T00:00:00Z"}
    (judged,) = policies.judge([body], {}, able_to)
    told = word(
        policies={"flights": {"name": judged.name, "generation": 2}},
        releases={"flights": plan_of(WORKLOAD.release)},
    )
    assert conditions(body, judged, told, able_to) == {
        "Accepted": ("True", "Valid"),
        "Ready": ("True", "InForce"),
    }
    (_, ready) = policies.status_of(body, judged, told, NOW, able_to)["conditions"]
    assert "the canary with mirror is a shadow of all requests" in ready["message"]


@pytest.mark.parametrize(
    ("release", "fault", "said"),
    [
        pytest.param(
            WORKLOAD.release,
            lambda release: able_to(release, None),
            "set WINDLASS_COLLECTOR_URL",
            id="no-collector",
        ),
        pytest.param({}, able_to, "spec.strategy", id="no-plan"),
        pytest.param(
            {**WORKLOAD.release, "backend": "kserve"}, able_to, "cannot copy each version", id="kserve"
        ),
    ],
)
def test_a_policy_whose_retrainings_would_be_in_vain_is_not_ready(
    release: Mapping[str, Any], fault: policies.Fault, said: str
) -> None:
    """Verify that it is said before a model is trained that nothing can release it."""
    told = word(releases={"flights": plan_of(release)})
    judged = Judged("flights", "flights", 2)
    assert conditions(policy(generation=2), judged, told, fault)["Ready"] == ("False", "NoRelease")
    (_, ready) = policies.status_of(policy(generation=2), judged, told, NOW, fault)["conditions"]
    assert said in ready["message"] and "state spec.release" in ready["message"]


def test_an_edit_that_cannot_be_meant_leaves_the_one_before_published() -> None:
    """Verify that a slip of the keyboard does not put the workload's built-in policy in force."""
    before = published(policy(generation=1))
    broken = policy(generation=2, cooldown="soon")
    assert published(broken, before=before) == before
    (judged,) = policies.judge([broken], before)
    assert (judged.kept, judged.reason) == (1, "Invalid")
    assert judged.problem is not None and "generation 1 stays in force" in judged.problem
    # it never was another: nothing is published
    assert published(broken) == {}


def test_what_was_published_of_another_workload_is_not_kept() -> None:
    before = published(policy(workload="taxis"))
    assert published(policy(generation=2, cooldown="soon"), before=before) == {}


def test_the_older_of_two_policies_of_a_workload_holds() -> None:
    first, second, other = policy("b", age=1), policy("a", age=2), policy("c", age=3, workload="taxis")
    judged = {j.name: j for j in policies.judge([second, other, first], {})}
    assert [judged[n].problem is None for n in "bac"] == [True, False, True]
    assert "has the policy b already" in (judged["a"].problem or "")
    assert set(published(second, other, first)) == {"b.yaml", "c.yaml"}
    # and where it goes, the other takes its place
    assert set(published(second, other)) == {"a.yaml", "c.yaml"}


def conditions(
    body: dict[str, Any], judged: Judged, word: Any, fault: policies.Fault = policies.no_fault
) -> dict[str, tuple[str, str]]:
    status = policies.status_of(body, judged, word, NOW, fault)
    return {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}


def word(**said: Any) -> dict[str, Any]:
    return {
        "policies": {"flights": {"source": "flights.yaml", "name": "flights", "generation": 2}},
        "problems": {},
        "unwatched": [],
        "workloads": {"flights": {}},
        **said,
    }


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(word(), ("True", "InForce"), id="in-force"),
        pytest.param(None, ("Unknown", "TriggerSilent"), id="silent"),
        pytest.param({}, ("False", "NotRead"), id="another-version-of-the-trigger"),
        pytest.param(
            word(policies={"flights": {"name": "flights", "generation": 1}}),
            ("False", "NotRead"),
            id="an-older-one",
        ),
        pytest.param(
            word(policies={"flights": {"name": "other", "generation": 2}}),
            ("False", "NotRead"),
            id="another-policy",
        ),
        pytest.param(
            word(problems={"flights.yaml": "torn"}), ("False", "Refused"), id="refused-by-the-trigger"
        ),
        pytest.param(
            word(policies={}, unwatched=["flights"]), ("False", "NotWatched"), id="unknown-workload"
        ),
    ],
)
def test_a_policy_is_ready_when_the_trigger_says_that_it_decides_by_it(
    said: Any, expected: tuple[str, str]
) -> None:
    found = conditions(policy(generation=2), Judged("flights", "flights", 2), said)
    assert found == {"Accepted": ("True", "Valid"), "Ready": expected}


def test_what_is_not_accepted_is_never_ready() -> None:
    judged = Judged("flights", "flights", 2, "cooldown = 'soon'", "Invalid")
    found = conditions(policy(generation=2), judged, word())
    assert found == {"Accepted": ("False", "Invalid"), "Ready": ("False", "NotAccepted")}


def test_the_newest_trigger_and_decision_are_shown() -> None:
    told = {
        "lastTrigger": "retrain-flights-0123456789ab",
        "lastTriggeredAt": "2026-01-30T10:00:00.123456+00:00",
        "decision": {
            "accepted": False, "rule": "cooldown", "reason": "cool-down until …", "at": "2026-01-31T11:00:00+00:00",
        },
    }  # fmt: skip
    status = policies.status_of(
        policy(), Judged("flights", "flights", 1), word(workloads={"flights": told}), NOW
    )
    assert status["observedGeneration"] == 1
    assert (status["lastTrigger"], status["lastTriggeredAt"]) == (told["lastTrigger"], "2026-01-30T10:00:00Z")
    assert status["decision"] == {
        "accepted": False, "rule": "cooldown", "reason": "cool-down until …", "at": "2026-01-31T11:00:00Z",
    }  # fmt: skip
    # a trigger that is silent for a while has not forgotten
    silent = policies.status_of({**policy(), "status": status}, Judged("flights", "flights", 1), None, NOW)
    assert silent["lastTrigger"] == told["lastTrigger"] and silent["decision"] == status["decision"]


def test_a_condition_keeps_its_time_until_its_truth_changes() -> None:
    body = policy(generation=2)
    judged = Judged("flights", "flights", 2)
    body["status"] = policies.status_of(body, judged, word(), NOW)
    later = NOW + timedelta(hours=1)
    assert policies.status_of(body, judged, word(), later) == body["status"]
    changed = policies.status_of(body, judged, word(policies={}), later)
    times = {c["type"]: c["lastTransitionTime"] for c in changed["conditions"]}
    assert times == {"Accepted": "2026-01-31T12:00:00Z", "Ready": "2026-01-31T13:00:00Z"}


def test_our_own_word_about_a_policy_wakes_nobody() -> None:
    reconciler = policy_publishing.Policies(api=None, word=lambda _: None)  # type: ignore[arg-type]
    body = policy()
    assert list(reconciler.heard(RETRAIN_POLICY, None, body)) == [("team-a",)]
    ours = copy.deepcopy(body)
    ours["metadata"]["resourceVersion"], ours["status"] = "8", {"observedGeneration": 1}
    assert list(reconciler.heard(RETRAIN_POLICY, "MODIFIED", ours)) == []
    assert list(reconciler.heard(RETRAIN_POLICY, "MODIFIED", policy(generation=2))) == [("team-a",)]
    assert list(reconciler.heard(RETRAIN_POLICY, "DELETED", policy(generation=2))) == [("team-a",)]
    # one of the same name that comes after it
    assert list(reconciler.heard(RETRAIN_POLICY, "ADDED", policy(generation=2))) == [("team-a",)]


@pytest.fixture
def trigger() -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers /policies with the newest of a list."""
    answers: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

        def do_GET(self) -> None:
            body = answers[-1] if self.path == "/policies" else b""
            self.send_response(200 if body else 503)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", answers
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_trigger_that_cannot_say_is_silent(trigger: tuple[str, list[bytes]]) -> None:
    url, answers = trigger
    for body, expected in (
        (b'{"policies": {}}', {"policies": {}}),
        (b"<html>", None),
        (b"[]", None),
        (b"", None),
    ):
        answers.append(body)
        assert policy_publishing.ask(url, timeout_s=60.0) == expected
    assert policy_publishing.ask("http://127.0.0.1:9") is None
