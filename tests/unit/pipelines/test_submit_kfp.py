"""Runs by name on Kubeflow Pipelines: the real client against a server that speaks its API and keeps what was asked."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import kfp_server
import pytest
from kfp_server import KfpServer

from pipelines.submit_kfp import Address, KfpRuns
from windlass.errors import WindlassError

NAME = "retrain-flights-0123456789ab"
ARGUMENTS = {
    "workload": "flights",
    "start": "2013-01-01",
    "end": "2013-06-30",
    "run_id": NAME,
    "data": "",
    "trials": 4,
}
LOOK = {
    "filter": json.dumps(
        {"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": NAME}]}
    ),
    "page_size": "100",
    "sort_by": "created_at asc",
    "experiment_id": "e1",
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KfpServer]:
    # the client keeps a context there
    monkeypatch.setenv("HOME", str(tmp_path))
    with kfp_server.running() as made:
        yield made


def test_a_run_is_looked_up_created_and_found_again(server: KfpServer, tmp_path: Path) -> None:
    """Verify the exact calls: the experiment, the look-up by name within it, the creation, and no second creation."""
    token = tmp_path / "token"
    token.write_text("of-a-service-account\n")
    address = Address(server.url, token_file=token, service_account="pipeline-runner")
    assert KfpRuns(address).submit(NAME, ARGUMENTS) == "r1"
    # the client itself looks once more before it creates one
    looks = ["GET /experiments"] * 2
    assert server.calls() == [*looks, "POST /experiments", "GET /runs", "POST /runs"]
    assert {a.authorization for a in server.asked} == {"Bearer of-a-service-account"}
    looked, created = server.asked[-2:]
    assert {k: v for k, v in looked.query.items() if v} == LOOK
    body = created.body
    assert (body["display_name"], body["experiment_id"]) == (NAME, "e1")
    assert body["service_account"] == "pipeline-runner"
    assert body["runtime_config"]["parameters"] == ARGUMENTS
    spec = body["pipeline_spec"]
    assert spec["pipeline_spec"]["pipelineInfo"]["name"] == "windlass-training"
    assert "kubernetes" in spec["platform_spec"]["platforms"]
    assert server.experiments[0]["display_name"] == "windlass-retrain"
    # another process, after a crash
    asked = len(server.asked)
    assert KfpRuns(address).submit(NAME, ARGUMENTS) == "r1"
    assert server.calls()[asked:] == ["GET /experiments", "GET /runs"]
    assert len(server.runs) == 1


def test_a_creation_whose_answer_was_lost_is_found(server: KfpServer) -> None:
    server.lost = True
    runs = KfpRuns(Address(server.url))
    with pytest.raises(WindlassError, match="does not answer"):
        runs.submit(NAME, ARGUMENTS)
    assert runs.submit(NAME, ARGUMENTS) == "r1" and len(server.runs) == 1


def test_another_run_of_the_experiment_is_not_taken_for_it(server: KfpServer) -> None:
    runs = KfpRuns(Address(server.url))
    assert runs.submit("retrain-flights-other", ARGUMENTS) == "r1"
    assert runs.submit(NAME, ARGUMENTS) == "r2"
    assert runs.submit("retrain-flights-other", ARGUMENTS) == "r1"


@pytest.mark.parametrize(
    ("state", "error"),
    [
        pytest.param("SUCCEEDED", None, id="succeeded"),
        pytest.param("FAILED", "says FAILED: out of memory (run r1)", id="failed"),
        pytest.param("CANCELED", "says CANCELED: out of memory (run r1)", id="cancelled"),
    ],
)
def test_a_run_is_followed_to_its_end(server: KfpServer, state: str, error: str | None) -> None:
    runs = KfpRuns(Address(server.url))
    runs.submit(NAME, ARGUMENTS)
    for going_on in ("PENDING", "RUNNING", "PAUSED", "CANCELING"):
        server.runs[0]["state"] = going_on
        assert runs.find(NAME) is None
    server.runs[0] |= {"state": state, "finished_at": "2026-01-01T00:10:00Z"}
    if error is not None:
        server.runs[0]["error"] = {"code": 2, "message": "out of memory"}
    found = runs.find(NAME)
    assert found is not None and found.seconds == 600.0
    assert (found.error is None) == (error is None) and (error or "") in (found.error or "")


def test_a_run_that_was_deleted_is_missed(server: KfpServer) -> None:
    runs = KfpRuns(Address(server.url))
    with pytest.raises(WindlassError, match="has no run retrain-flights-0123456789ab"):
        runs.find(NAME)


@pytest.mark.parametrize("status", [401, 403, 500])
def test_what_the_server_refuses_is_said(server: KfpServer, status: int) -> None:
    runs = KfpRuns(Address(server.url))
    runs.submit("retrain-flights-other", ARGUMENTS)
    server.statuses = [status]
    with pytest.raises(WindlassError, match=f"cannot be submitted.* answers {status}"):
        runs.submit(NAME, ARGUMENTS)
    assert len(server.runs) == 1


def test_nobody_there_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and not listened at: no other test is given the port meanwhile
        gone = f"http://127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(WindlassError, match="does not answer"):
            KfpRuns(Address(gone)).submit(NAME, ARGUMENTS)


def test_a_token_that_is_renewed_is_used_and_one_that_is_gone_is_missed(
    server: KfpServer, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    runs = KfpRuns(Address(server.url, token_file=token))
    runs.submit(NAME, ARGUMENTS)
    token.write_text("second")
    runs.find(NAME)
    assert server.asked[-1].authorization == "Bearer second"
    token.unlink()
    with pytest.raises(WindlassError, match=r"token file .*mount it"):
        runs.find(NAME)


@pytest.mark.parametrize("at", ["connecting", "asking"])
def test_a_server_that_takes_the_request_and_says_nothing_is_given_up(
    server: KfpServer, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Verify that a machine that is lost with its connections open does not stop every workload's trigger for good."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        runs = KfpRuns(Address(server.url))
        if at == "asking":
            runs.submit(NAME, ARGUMENTS)
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        if at == "connecting":
            runs = KfpRuns(Address(address))
        else:
            runs._api.client._run_api.api_client.configuration.host = address
        monkeypatch.setattr("pipelines.kfp_api.PATIENCE_S", (0.2, 0.2))
        with pytest.raises(WindlassError, match="does not answer"):
            runs.find(NAME)
