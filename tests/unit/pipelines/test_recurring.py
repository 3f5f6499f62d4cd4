"""Recurring runs are stated, and found when they are stated again; what was left half done is put in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import kfp_server
import pytest
from kfp_server import KfpServer

from pipelines.kfp_api import Address
from pipelines.recurring import Recurring, RecurringRuns, cron
from windlass.errors import UsageError, WindlassError

WEEKLY = Recurring("windlass-flights", "0 0 3 * * 1", {"workload": "flights"})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KfpServer]:
    monkeypatch.setenv("HOME", str(tmp_path))
    with kfp_server.running() as made:
        yield made


@pytest.fixture
def runs(server: KfpServer) -> RecurringRuns:
    return RecurringRuns(
        Address(server.url, experiment="windlass-flights", service_account="pipeline-runner")
    )


def changes(server: KfpServer) -> list[str]:
    return [c for c in server.calls() if not c.startswith("GET") and "/recurringruns" in c]


def test_stated_twice_it_is_made_once(server: KfpServer, runs: RecurringRuns) -> None:
    made, done = runs.ensure(WEEKLY)
    assert (made.id, made.enabled, made.cron, done) == ("j1", True, "0 0 3 * * 1", "created")
    (kept,) = server.recurring_runs
    assert kept["runtime_config"]["parameters"] == {"workload": "flights"}
    assert (kept["max_concurrency"], kept["no_catchup"]) in ((1, True), ("1", True))
    assert kept["service_account"] == "pipeline-runner"
    assert kept["experiment_id"] == server.experiments[0]["experiment_id"]
    again = RecurringRuns(
        Address(server.url, experiment="windlass-flights", service_account="pipeline-runner")
    )
    assert again.ensure(WEEKLY)[1] == "unchanged"
    assert changes(server) == ["POST /recurringruns"]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(replace(WEEKLY, cron="0 0 4 * * 1"), id="another-time"),
        pytest.param(replace(WEEKLY, arguments={"workload": "flights", "trials": 9}), id="other-arguments"),
        pytest.param(replace(WEEKLY, concurrency=2), id="more-at-a-time"),
    ],
)
def test_stated_otherwise_it_is_replaced_and_never_doubled(
    server: KfpServer, runs: RecurringRuns, other: Recurring
) -> None:
    """Verify the order: the old one is off before the new one is there, and goes last."""
    runs.ensure(WEEKLY)
    made, done = runs.ensure(other)
    assert (made.id, done) == ("j2", "replaced")
    assert [r["recurring_run_id"] for r in server.recurring_runs] == ["j2"]
    assert changes(server)[1:] == [
        "POST /recurringruns/j1:disable",
        "POST /recurringruns",
        "DELETE /recurringruns/j1",
    ]
    assert runs.ensure(other)[1] == "unchanged"


def test_a_package_that_was_compiled_anew_replaces_it(server: KfpServer, tmp_path: Path) -> None:
    package = tmp_path / "training.yaml"
    package.write_text(Address(server.url).package.read_text())
    address = Address(server.url, experiment="e", package=package)
    RecurringRuns(address).ensure(WEEKLY)
    assert RecurringRuns(address).ensure(WEEKLY)[1] == "unchanged"
    package.write_text(package.read_text().replace("windlass/training:", "other/training:"))
    assert RecurringRuns(address).ensure(WEEKLY)[1] == "replaced"


@pytest.mark.parametrize("dies_after", [1, 2])
def test_a_replacement_that_died_in_between_is_finished_by_the_next(
    server: KfpServer, runs: RecurringRuns, dies_after: int
) -> None:
    """Verify that, after the old one was switched off or the new one made, the next call leaves the new one alone."""
    other = replace(WEEKLY, cron="0 0 4 * * 1")
    runs.ensure(WEEKLY)
    server.refuse_changes_after = dies_after
    with pytest.raises(WindlassError, match="answers 500"):
        runs.ensure(other)
    server.refuse_changes_after = None
    runs.ensure(other)
    (kept,) = server.recurring_runs
    assert kept["trigger"]["cron_schedule"]["cron"] == other.cron and kept["status"] == "ENABLED"


def test_one_that_is_refused_leaves_the_old_one_on(server: KfpServer, runs: RecurringRuns) -> None:
    """Verify that a statement that fails ends no retraining that went on before it."""
    runs.ensure(WEEKLY)
    server.refuse_creations = True
    with pytest.raises(WindlassError, match="answers 403"):
        runs.ensure(replace(WEEKLY, cron="0 0 4 * * 1"))
    assert "POST /recurringruns/j1:disable" in changes(server)
    (kept,) = runs.all()
    assert (kept.id, kept.enabled) == ("j1", True)


def test_it_is_switched_off_and_on_and_removed(server: KfpServer, runs: RecurringRuns) -> None:
    runs.ensure(WEEKLY)
    assert runs.switch(WEEKLY.name, on=False) and not runs.switch(WEEKLY.name, on=False)
    assert [k.enabled for k in runs.all()] == [False]
    made, done = runs.ensure(WEEKLY)
    assert (made.enabled, done) == (True, "enabled")
    assert not runs.switch(WEEKLY.name, on=True)
    assert runs.delete(WEEKLY.name) and not runs.delete(WEEKLY.name)
    assert runs.all() == ()


def test_one_that_there_is_not_cannot_be_switched(runs: RecurringRuns) -> None:
    with pytest.raises(WindlassError, match=r"no recurring run nobody .*schedule --list"):
        runs.switch("nobody", on=False)


def test_all_pages_are_listed(server: KfpServer, runs: RecurringRuns) -> None:
    for i in range(5):
        runs.ensure(replace(WEEKLY, name=f"r{i}"))
    server.most = 2
    assert [k.name for k in runs.all()] == [f"r{i}" for i in range(5)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("0 3 * * 1", "0 0 3 * * 1", id="a-crontabs-five"),
        pytest.param("30 0 3 ? * MON-FRI", "30 0 3 ? * MON-FRI", id="kubeflows-six"),
        pytest.param("*/15 * * * *", "0 */15 * * * *", id="every-quarter"),
    ],
)
def test_cron_gets_its_seconds(text: str, expected: str) -> None:
    assert cron(text) == expected


@pytest.mark.parametrize("text", ["", "daily", "@daily", "* * *", "0 3 * * $", "0 0 3 * * 1 2026"])
def test_what_is_no_cron_expression_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no schedule; give five fields"):
        cron(text)
