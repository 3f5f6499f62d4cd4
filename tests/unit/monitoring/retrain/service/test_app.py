"""The trigger over HTTP: who may send, what is journaled before it is answered, what is shown."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from retrain_service import MODEL, TOKEN, WAIT_S, Around, Served, alert, around, notification, service

from monitoring.collector.connection import MOST_CONNECTIONS
from monitoring.collector.http import Request
from monitoring.retrain import journal
from monitoring.retrain.service.app import App, Token
from monitoring.retrain.service.core import Watched
from monitoring.retrain.service.server import require_safe, serve
from windlass.contract import RetrainPolicy
from windlass.errors import UsageError
from windlass.journal import read
from windlass.settings import Settings

NOW = datetime.now(UTC)
BEARER = {"authorization": f"Bearer {TOKEN}"}
EVENT = {
    "specversion": "1.0",
    "id": "e1",
    "source": "/data",
    "type": "dev.windlass.retrain.signal",
    "data": {"workload": MODEL, "kind": "newData", "cause": "newData/v7"},
}
STRUCTURED = {**BEARER, "content-type": "application/cloudevents+json"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("home"), RetrainPolicy(signals=("manual",))) as made:
        made.start()
        made.until_ready()
        yield made


def records(served: Served) -> list[dict[str, Any]]:
    path = journal.path(Settings(home=served.home, project=served.home))
    return [r for r in read(path) if r["event"] != "clock"]


def firing() -> bytes:
    return json.dumps(notification(alert(NOW.isoformat()))).encode()


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"authorization": "Bearer another"}, id="another-token"),
        pytest.param({"authorization": f"Bearer {TOKEN}x"}, id="a-longer-one"),
        pytest.param({"authorization": f"Basic {TOKEN}"}, id="another-scheme"),
        pytest.param({"authorization": "Bearer "}, id="an-empty-one"),
        pytest.param({"authorization": "Bearer \xe9"}, id="no-ascii"),
    ],
)
@pytest.mark.parametrize("path", ["/alertmanager", "/events"])
def test_without_the_token_nothing_is_taken(served: Served, path: str, headers: dict[str, str]) -> None:
    before = len(records(served))
    status, answer = served.ask("POST", path, firing(), headers)
    assert status == 401 and TOKEN.encode() not in answer
    assert len(records(served)) == before


def test_a_notification_is_in_the_journal_when_it_is_answered(served: Served) -> None:
    before = len(records(served))
    status, answer = served.ask("POST", "/alertmanager", firing(), BEARER)
    assert status == 200
    (signal,) = json.loads(answer)["signals"]
    assert (signal["rule"], signal["accepted"], signal["cause"]) == ("kind", False, "featureDrift/3")
    written = records(served)[before:]
    assert [(r["event"], r["rule"], r["champion"]) for r in written] == [("refused", "kind", "3")]
    assert written[0]["detail"]["labels"]["alertname"] == "WindlassFeatureDrift"


def test_the_end_of_an_alert_is_journaled_and_starts_nothing(served: Served) -> None:
    ended = notification(alert(NOW.isoformat(), ended=(NOW + timedelta(seconds=1)).isoformat()))
    status, answer = served.ask("POST", "/alertmanager", json.dumps(ended).encode(), BEARER)
    assert status == 200 and json.loads(answer)["signals"][0]["rule"] == "ended"
    assert records(served)[-1]["event"] == "cleared"


def test_an_event_is_taken(served: Served) -> None:
    status, answer = served.ask("POST", "/events", json.dumps(EVENT).encode(), STRUCTURED)
    assert status == 200
    assert json.loads(answer)["signals"][0]["cause"] == "newData/v7"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        pytest.param("POST", "/alertmanager", b"{", 400, id="no-json"),
        pytest.param("POST", "/alertmanager", b"[" * 100_000, 400, id="too-deep"),
        pytest.param(
            "POST", "/alertmanager", b'{"version":"4","alerts":[{}]}', 200, id="an-alert-for-people"
        ),
        pytest.param(
            "POST",
            "/alertmanager",
            json.dumps(notification(alert(NOW.isoformat(), signal="sunspots"))).encode(),
            400,
            id="nothing-but-what-is-wrong",
        ),
        pytest.param(
            "POST",
            "/alertmanager",
            json.dumps(notification(alert(NOW.isoformat(), model="trains"))).encode(),
            400,
            id="a-workload-that-is-not-watched",
        ),
        pytest.param(
            "POST",
            "/alertmanager",
            json.dumps(notification(alert("0001-01-01T00:00:00+14:00"))).encode(),
            400,
            id="a-time-before-all-years",
        ),
        pytest.param("POST", "/events", b"{}", 400, id="no-event"),
        pytest.param("GET", "/alertmanager", b"", 405, id="nothing-to-get"),
        pytest.param("POST", "/metrics", b"", 405, id="nothing-to-post"),
        pytest.param("GET", "/elsewhere", b"", 404, id="nowhere"),
        pytest.param("GET", "/health", b"", 200, id="health-needs-no-token"),
        pytest.param("GET", "/ready", b"", 200, id="nor-does-ready"),
    ],
)
def test_what_is_answered(served: Served, method: str, path: str, body: bytes, status: int) -> None:
    found, answer = served.ask(method, path, body, BEARER if method == "POST" else {})
    assert found == status, answer
    json.loads(answer)


def requests(served: Served, result: str) -> float:
    """Of the metric, as a scrape has it."""
    status, answer = served.ask("GET", "/metrics")
    assert status == 200
    name = f'windlass_retrain_webhook_requests_total{{result="{result}"}} '
    (line,) = (line for line in answer.decode().splitlines() if line.startswith(name))
    return float(line.rsplit(" ", 1)[1])


def test_what_comes_to_no_handler_is_counted(served: Served) -> None:
    before = requests(served, "invalid")
    with socket.create_connection(("127.0.0.1", served.port), timeout=WAIT_S) as client:
        client.sendall(b"no HTTP at all\r\n\r\n")
        assert client.recv(1024).startswith(b"HTTP/1.1 400 ")
    assert requests(served, "invalid") == before + 1


def test_a_signal_that_finds_no_connection_is_counted_and_can_be_sent_again(served: Served) -> None:
    """Verify that Alertmanager is told 503, which it sends again, and that a scrape shows it meanwhile."""
    before = requests(served, "full")
    address = ("127.0.0.1", served.port)
    with contextlib.ExitStack() as stack:
        for _ in range(MOST_CONNECTIONS):
            stack.enter_context(socket.create_connection(address, timeout=WAIT_S))
        assert served.ask("GET", "/health")[0] == served.ask("GET", "/ready")[0] == 200
        assert served.ask("POST", "/alertmanager", firing(), BEARER)[0] == 503
        assert requests(served, "full") == before + 1
    deadline = time.monotonic() + WAIT_S
    while served.ask("POST", "/alertmanager", firing(), BEARER)[0] != 200:
        assert time.monotonic() < deadline


def test_the_token_is_changed_without_a_restart(served: Served) -> None:
    file = served.home / "token"
    try:
        file.write_text("another")
        assert served.ask("POST", "/alertmanager", firing(), BEARER)[0] == 401
        changed = {"authorization": "Bearer another"}
        assert served.ask("POST", "/alertmanager", firing(), changed)[0] == 200
        file.write_text("")
        assert served.ask("POST", "/alertmanager", firing(), {"authorization": "Bearer "})[0] == 401
    finally:
        file.write_text(TOKEN)


def test_the_metrics_are_what_the_journal_says(served: Served) -> None:
    served.ask("POST", "/alertmanager", firing(), BEARER)
    status, answer = served.ask("GET", "/metrics")
    assert status == 200
    lines = dict(line.rsplit(" ", 1) for line in answer.decode().splitlines() if not line.startswith("#"))
    refused = sum(1 for r in records(served) if r["event"] == "refused" and r["kind"] == "featureDrift")
    series = f'windlass_retrain_signals_total{{kind="featureDrift",model="{MODEL}",rule="kind"}}'
    assert float(lines[series]) == refused
    for name in ("triggers", "queue_age_seconds", "escalated", "data_refused", "run_seconds_total"):
        assert any(line.startswith(f"windlass_retrain_{name}{{") for line in lines), name
    assert "windlass_retrain_clock_jumps_total" in lines
    assert float(lines['windlass_retrain_webhook_requests_total{result="unauthorized"}']) > 0
    # a run that never ended has no time of success, and zero would be one
    assert not any(line.startswith("windlass_retrain_last_success") for line in lines)


def test_a_token_file_that_says_nothing_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"token file .* No such file"):
        Token(tmp_path / "missing")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(UsageError, match="is empty"):
        Token(tmp_path / "empty")


@pytest.mark.parametrize(
    ("host", "fine"),
    [
        pytest.param("127.0.0.1", True, id="loopback"),
        pytest.param("::1", True, id="loopback-of-ipv6"),
        pytest.param("0.0.0.0", False, id="everywhere"),  # noqa: S104
        pytest.param("10.0.0.7", False, id="an-address-of-a-network"),
        pytest.param("trigger.example", False, id="a-name"),
    ],
)
def test_without_a_token_it_serves_this_machine_only(tmp_path: Path, host: str, fine: bool) -> None:
    if fine:
        require_safe(host, None)
    else:
        with pytest.raises(UsageError, match="could start retrainings"):
            require_safe(host, None)
    (tmp_path / "token").write_text(TOKEN)
    require_safe(host, Token(tmp_path / "token"))


def test_one_alert_of_a_workload_that_is_not_watched_does_not_silence_the_others(tmp_path: Path) -> None:
    said: list[str] = []
    made = service(tmp_path, RetrainPolicy(), said.append)
    app = App(made, None, lambda: None, lambda: True)
    body = json.dumps(notification(alert(NOW.isoformat(), model="trains"), alert(NOW.isoformat()))).encode()
    answer = asyncio.run(app(Request("POST", "/alertmanager", body)))
    told = json.loads(answer.body)
    assert answer.status == 200 and [s["accepted"] for s in told["signals"]] == [True]
    assert told["problems"] == ["workload 'trains' is not watched here; known: flights"]
    assert app.metrics.requests["invalid"] == 1 and "'trains'" in said[0]


def test_an_alert_of_another_namespace_starts_nothing_here(tmp_path: Path) -> None:
    """Verify that it is refused for good, counted and said, and that nothing of it is journaled."""
    said: list[str] = []
    made = service(tmp_path, RetrainPolicy(), said.append)
    app = App(made, None, lambda: None, lambda: True, "team-a")

    def told(*namespaces: str) -> Any:
        alerts = [alert(NOW.isoformat(), namespace=namespace) for namespace in namespaces]
        return asyncio.run(app(Request("POST", "/alertmanager", json.dumps(notification(*alerts)).encode())))

    answer = told("team-b")
    assert answer.status == 400 and b"this is the trigger of namespace 'team-a'" in answer.body
    assert made.watched[MODEL].trigger.history() == () and made.watched[MODEL].trigger.state().held == {}
    assert app.metrics.requests["invalid"] == 1 and "'team-b'" in said[0]
    answer = told("team-b", "team-a")
    assert answer.status == 200
    assert [s["accepted"] for s in json.loads(answer.body)["signals"]] == [True]
    assert len(made.watched[MODEL].trigger.history()) == 1


def test_the_metrics_that_the_registry_is_not_needed_for_are_served_without_it(tmp_path: Path) -> None:
    made = service(tmp_path, RetrainPolicy())

    class Silent(Around):
        def champion(self) -> str | None:
            raise RuntimeError("database is locked")

    made.watched = {MODEL: Watched(made.watched[MODEL].trigger, Silent(around(tmp_path).runs))}
    answer = asyncio.run(App(made, None, lambda: None, lambda: True)(Request("GET", "/metrics", b"")))
    assert b"windlass_retrain_queue_age_seconds{" in answer.body
    assert b"windlass_retrain_escalated{" not in answer.body, "not known is not zero"


def test_what_cannot_be_known_now_is_not_answered_as_taken(tmp_path: Path) -> None:
    """Verify that a registry that does not answer gets Alertmanager to send again, and nothing is decided blindly."""
    made = service(tmp_path, RetrainPolicy())

    class Silent(Around):
        def champion(self) -> str | None:
            raise RuntimeError("database is locked")

    trigger = made.watched[MODEL].trigger
    made.watched = {MODEL: Watched(trigger, Silent(around(tmp_path).runs))}
    app = App(made, None, lambda: None, lambda: True)
    answer = asyncio.run(app(Request("POST", "/alertmanager", firing())))
    assert answer.status == 503 and b"database is locked" in answer.body
    assert trigger.history() == () and trigger.state().counts.total() == 0


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", 70_000), ("192.0.2.7", 18_080), ("no host", 18_080)]
)
def test_an_address_that_is_none_is_named(tmp_path: Path, host: str, port: int) -> None:
    (tmp_path / "token").write_text(TOKEN)
    with pytest.raises(UsageError, match=rf"--host {host} --port {port} cannot be listened on"):
        asyncio.run(serve(service(tmp_path, RetrainPolicy()), Token(tmp_path / "token"), host, port))


ENDED = {
    "specversion": "1.0",
    "id": "7d3c/FAILED",
    "source": "/kubeflow/pipelines",
    "type": "dev.windlass.pipeline.ended",
    "data": {
        "workload": MODEL,
        "run": "weekly-1",
        "job": "7d3c",
        "state": "FAILED",
        "error": "out of\nmemory",
    },
}


def posted(app: App, event: dict[str, Any]) -> Any:
    headers = {"content-type": "application/cloudevents+json"}
    return asyncio.run(app(Request("POST", "/events", json.dumps(event).encode(), headers)))


def test_a_run_that_nobody_follows_is_counted_and_said_when_it_fails(tmp_path: Path) -> None:
    """Verify the word of an exit task: of a scheduled run there is no other."""
    said: list[str] = []
    made = service(tmp_path, RetrainPolicy(), said.append)
    app = App(made, None, lambda: None, lambda: True)
    page = asyncio.run(app(Request("GET", "/metrics", b""))).body.decode()
    for model in (MODEL, "unknown"):  # there from the beginning: the first failure is a rise, too
        assert f'windlass_retrain_runs_ended_total{{model="{model}",state="FAILED"}} 0.0' in page
    assert posted(app, ENDED).status == 200
    assert said == [f"{MODEL}: run weekly-1 ended FAILED: out of memory"]
    assert posted(app, {**ENDED, "data": {**ENDED["data"], "state": "SUCCEEDED"}}).status == 200
    assert posted(app, {**ENDED, "data": {**ENDED["data"], "workload": "nobody"}}).status == 200
    page = asyncio.run(app(Request("GET", "/metrics", b""))).body.decode()
    for model, state in ((MODEL, "FAILED"), (MODEL, "SUCCEEDED"), ("unknown", "FAILED")):
        assert f'windlass_retrain_runs_ended_total{{model="{model}",state="{state}"}} 1.0' in page
    assert made.watched[MODEL].trigger.history() == ()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param({"state": "DONE"}, "use one of SUCCEEDED", id="state"),
        pytest.param({"run": ""}, "data.run", id="run"),
        pytest.param({"workload": None}, "data.workload", id="workload"),
        pytest.param({"error": 7}, "data.error", id="error"),
    ],
)
def test_a_word_about_a_run_that_cannot_be_meant_is_refused(tmp_path: Path, changed: Any, said: str) -> None:
    app = App(service(tmp_path, RetrainPolicy()), None, lambda: None, lambda: True)
    answer = posted(app, {**ENDED, "data": {**ENDED["data"], **changed}})
    assert answer.status == 400 and said in answer.body.decode()


def test_it_says_what_was_decided_last(served: Served) -> None:
    """Verify what the operator shows on a RetrainPolicy: no token is needed, as for the metrics."""
    served.ask("POST", "/alertmanager", firing(), BEARER)
    status, answer = served.ask("GET", "/policies", b"", {})
    told = json.loads(answer)["workloads"][MODEL]
    newest = [r for r in records(served) if r["event"] in ("accepted", "refused")][-1]
    assert status == 200
    assert told["decision"] == {
        "accepted": False, "rule": newest["rule"], "reason": newest["reason"], "at": newest["at"],
    }  # fmt: skip
