"""A RetrainPolicy's document: what it says, and every fault of one that cannot be meant."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from windlass import catalog
from windlass import retrain_policy as policy
from windlass.contract import RetrainPolicy
from windlass.errors import UsageError

DOCUMENT = """
apiVersion: windlass.dev/v1alpha1
kind: RetrainPolicy
metadata: {name: flights}
spec:
  workload: flights
  signals: [featureDrift, newData, schedule, manual]
  cooldown: 24h
  budget: {perDay: 2}
  concurrency: 1
  escalateAfter: 2
  schedule: 30d
  newRows: 10%
  release:
    strategy: {type: canary, steps: [{weight: 10, minSamples: 500}]}
    checks: [{name: errors, kind: guardrail, metric: errorRate, source: envoy, bound: 1}]
"""


def document(**changed: Any) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(DOCUMENT)
    spec = {**read["spec"], **changed}
    return {**read, "spec": {name: value for name, value in spec.items() if value is not None}}


def test_a_document_is_a_policy() -> None:
    workload, found = policy.parse(document())
    assert workload == "flights"
    assert (found.cooldown, found.per_day, found.concurrency) == (timedelta(hours=24), 2, 1)
    assert (found.escalate_after, found.schedule, found.new_rows) == (2, timedelta(days=30), 0.1)
    assert found.signals == ("featureDrift", "newData", "schedule", "manual")
    assert found.release["strategy"]["type"] == "canary"


def test_what_is_left_out_is_the_contracts_default() -> None:
    said = {"kind": "RetrainPolicy", "spec": {"workload": "flights"}}
    assert policy.parse(said) == ("flights", RetrainPolicy())
    nothing = {"workload": "flights", "signals": None, "budget": None, "newRows": None}
    assert policy.parse({"kind": "RetrainPolicy", "spec": nothing}) == ("flights", RetrainPolicy())


def test_every_field_is_named_beside_one_that_is_unknown() -> None:
    """Verify that a typo is answered with all that could have been meant, also where little else is stated."""
    with pytest.raises(UsageError) as raised:
        policy.parse({"kind": "RetrainPolicy", "spec": {"workload": "flights", "signal": ["manual"]}})
    assert (
        "unknown field; known here: budget, concurrency, cooldown, escalateAfter, newRows, release, schedule, "
        "signals, workload"
    ) in str(raised.value)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param({"workload": None}, "spec.workload = missing: name the workload", id="no-workload"),
        pytest.param({"signals": []}, "spec.signals = []: list some of", id="no-signal"),
        pytest.param(
            {"signals": ["manual", "schedule", "sunspots"]}, "spec.signals[2] = 'sunspots'", id="no-kind"
        ),
        pytest.param({"cooldown": "soon"}, "spec.cooldown = 'soon': write a duration", id="no-duration"),
        pytest.param({"cooldown": 24}, "spec.cooldown = 24: write a duration", id="a-bare-number"),
        pytest.param(
            {"budget": {"perDay": 0}}, "spec.budget.perDay = 0: give a whole number", id="no-budget"
        ),
        pytest.param(
            {"budget": {"perWeek": 9}}, "spec.budget.perWeek = 9: unknown field", id="another-budget"
        ),
        pytest.param({"concurrency": 1.5}, "spec.concurrency = 1.5", id="half-a-run"),
        pytest.param({"escalateAfter": 0}, "spec.escalateAfter = 0", id="nobody-is-called"),
        pytest.param({"schedule": "0s"}, "spec.schedule = 0s", id="at-every-moment"),
        pytest.param(
            {"signals": ["manual"]}, "spec.schedule = 30d: needs schedule among the signals", id="unheard"
        ),
        pytest.param({"newRows": "120%"}, "spec.newRows = '120%'", id="more-than-there-are"),
        pytest.param({"newRows": 0.1}, "spec.newRows = 0.1", id="a-tenth-of-a-row"),
        pytest.param({"newRows": "some"}, "spec.newRows = 'some'", id="some-rows"),
        pytest.param({"cooldwon": "1h"}, "spec.cooldwon = '1h': unknown field; known here:", id="a-slip"),
        pytest.param({"release": "canary"}, "spec.release = 'canary': must be a mapping", id="no-release"),
        pytest.param({"release": {"strategy": {"type": "magic"}}}, "strategy.type = ", id="no-strategy"),
        # a cluster's definition knows no such field, null or not
        pytest.param(
            {"release": {"candidate": "9"}}, "spec.release.candidate = '9': leave it out", id="whom"
        ),
        pytest.param({"release": {"champion": None}}, "spec.release.champion = ", id="against-whom"),
    ],
)
def test_a_fault_is_said_with_its_path_its_value_and_a_remedy(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refusal:
        policy.parse(document(**changed))
    assert said in str(refusal.value)


def test_all_faults_are_said_at_once() -> None:
    with pytest.raises(UsageError) as refusal:
        policy.parse({**document(cooldown="soon", concurrency=0), "kind": "Policy"})
    for path in ("kind = 'Policy'", "spec.cooldown", "spec.concurrency"):
        assert path in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param("a: [", "is no YAML", id="no-yaml"),
        pytest.param("- 1", "must be a mapping", id="a-list"),
        pytest.param(None, "No such file", id="no-file"),
    ],
)
def test_a_file_that_is_no_policy_is_named(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "retrain.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError) as refusal:
        policy.load(path)
    assert said in str(refusal.value) and "retrain.yaml" in str(refusal.value)


def test_a_project_states_its_policy_beside_the_workload(tmp_path: Path) -> None:
    workload = catalog.load("flights", tmp_path)
    assert policy.in_force(workload, tmp_path) is workload
    folder = tmp_path / "workloads" / "flights"
    folder.mkdir(parents=True)
    (folder / "retrain.yaml").write_text(DOCUMENT)
    assert policy.in_force(workload, tmp_path).retrain.schedule == timedelta(days=30)
    (folder / "retrain.yaml").write_text(DOCUMENT.replace("workload: flights", "workload: trains"))
    with pytest.raises(UsageError, match=r"spec\.workload = 'trains': must be 'flights'"):
        policy.in_force(workload, tmp_path)
