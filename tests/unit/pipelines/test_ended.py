"""The exit task's word: sent to the trigger as it takes it, and never a reason for the run to fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.collector import cloudevents
from pipelines import compile as compiling
from pipelines import ended
from pipelines.pods import DEFAULT, REPORT


class Taker:
    """A server that keeps what is posted and answers `status`."""

    def __init__(self) -> None:
        self.status = 200
        #: answers before that one; 0 hangs up without a word of HTTP
        self.first: list[int] = []
        self.posts: list[tuple[str, dict[str, str], bytes]] = []
        taker = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                """Nobody reads it."""

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                taker.posts.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                status = taker.first.pop(0) if taker.first else taker.status
                if status == 0:
                    self.wfile.write(b"no HTTP\r\n\r\n")
                    return
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def taker() -> Iterator[Taker]:
    made = Taker()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def test_a_run_that_failed_is_told_with_its_error(taker: Taker) -> None:
    env = {ended.URL: taker.url + "/", ended.TOKEN: "of-the-senders\n"}
    assert ended.tell("flights", "retrain-flights-1", "7d3c", "FAILED", "out of memory", env)
    ((path, headers, body),) = taker.posts
    assert (path, headers["authorization"]) == ("/events", "Bearer of-the-senders")
    (event,) = cloudevents.parse(headers, body)
    assert (event.type, event.id) == (ended.EVENT, "7d3c/FAILED")
    assert event.data == {
        "workload": "flights", "run": "retrain-flights-1", "job": "7d3c", "state": "FAILED", "error": "out of memory",
    }  # fmt: skip


def test_a_run_without_a_name_is_known_by_kubeflows_id(taker: Taker) -> None:
    assert ended.tell("flights", "", "7d3c", "SUCCEEDED", "", {ended.URL: taker.url})
    (event,) = cloudevents.parse(*taker.posts[0][1:])
    assert event.data["run"] == "7d3c"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        pytest.param(None, "is not set: nobody else is told", id="nobody-named"),
        pytest.param("trigger:8080", "is no address", id="no-address"),
        pytest.param("file:///etc/passwd", "is no address", id="no-web-address"),
        pytest.param("http://127.0.0.1:9", "does not answer", id="nobody-there"),
    ],
)
def test_what_cannot_be_told_stands_in_the_log(
    capsys: pytest.CaptureFixture[str], url: str | None, said: str
) -> None:
    env = {} if url is None else {ended.URL: url}
    assert not ended.tell("flights", "t1", "7d3c", "FAILED", "why", env, sleep=lambda seconds: None)
    err = capsys.readouterr().err
    assert "run t1 of flights ended FAILED: why" in err and said in err


def test_a_refusal_stands_in_the_log(taker: Taker, capsys: pytest.CaptureFixture[str]) -> None:
    taker.status = 401
    assert not ended.tell("flights", "t1", "7d3c", "FAILED", "", {ended.URL: taker.url})
    assert "answers 401" in capsys.readouterr().err
    assert len(taker.posts) == 1, "a refusal is no outage"


def test_a_trigger_that_is_started_anew_is_told_all_the_same(taker: Taker) -> None:
    """Verify that an outage loses no word: of a scheduled run nobody else tells."""
    taker.first, slept = [503, 0, 429], []
    assert ended.tell("flights", "", "7d3c", "FAILED", "why", {ended.URL: taker.url}, sleep=slept.append)
    assert slept == list(ended.PAUSES_S[:3])
    assert {cloudevents.parse(*post[1:])[0].id for post in taker.posts} == {"7d3c/FAILED"}


def test_an_outage_without_end_is_given_up_within_the_time_of_its_pod(
    taker: Taker, capsys: pytest.CaptureFixture[str]
) -> None:
    taker.status, slept = 503, []
    assert not ended.tell("flights", "", "7d3c", "FAILED", "", {ended.URL: taker.url}, sleep=slept.append)
    assert capsys.readouterr().err.count("answers 503") == len(taker.posts) == len(slept) + 1
    longest = DEFAULT.step(REPORT).timeout
    assert longest is not None
    assert sum(slept) + len(taker.posts) * ended.PATIENCE_S < longest.total_seconds()


def executed(
    compiled: str, status: dict[str, Any], taker: Taker, tmp_path: Path
) -> subprocess.CompletedProcess[str]:
    """Run the exit task's own command as its pod does, with what Kubeflow's launcher gives it."""
    pipeline = next(iter(yaml.safe_load_all(compiled)))
    container = pipeline["deploymentSpec"]["executors"]["exec-report"]["container"]
    given = {
        "inputs": {
            "parameterValues": {
                "workload": "flights", "run_id": "retrain-flights-1", "job": "7d3c", "status": status
            }
        },
        "outputs": {"outputFile": str(tmp_path / "output.json")},
    }  # fmt: skip
    arguments = [json.dumps(given) if a == "{{$}}" else a for a in container["args"]]
    environment = {
        **os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", ended.URL: taker.url,
        "TMPDIR": str(tmp_path),
    }  # fmt: skip
    return subprocess.run(
        [*container["command"], *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("status", "error"),
    [
        pytest.param(
            {"state": "FAILED", "error": {"code": 9, "message": "exec-validate failed"}},
            "exec-validate failed",
            id="failed",
        ),
        pytest.param({"state": "SUCCEEDED", "error": {}}, "", id="succeeded"),
        # as releases say it that keep their state in ML Metadata
        pytest.param({"state": "COMPLETE", "error": {}}, "", id="complete"),
        pytest.param({"state": "RUNNING", "error": {}}, "", id="not-marked-yet"),
        pytest.param({"state": "SUCCEEDED"}, "", id="without-an-error"),
    ],
)
def test_the_compiled_exit_task_runs_by_kfps_executor(
    taker: Taker, tmp_path: Path, status: dict[str, Any], error: str
) -> None:
    """Verify the one step that the local runner never runs: its command as compiled, and KFP's own executor."""
    told = {"pipelineJobResourceName": "windlass-training-x", "pipelineTaskName": "exit-handler-1", **status}
    done = executed((compiling.COMPILED / compiling.FILE).read_text(), told, taker, tmp_path)
    assert done.returncode == 0, done.stderr
    (event,) = cloudevents.parse(*taker.posts[0][1:])
    assert (event.data["state"], event.data["error"], event.data["run"]) == (
        {"COMPLETE": "SUCCEEDED", "RUNNING": "UNKNOWN"}.get(status["state"], status["state"]), error,
        "retrain-flights-1",
    )  # fmt: skip
