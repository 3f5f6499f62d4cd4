"""Evidence of a live release, asked of a collector that runs: complete, cumulative, and the same after a restart."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from benchmarks.collector.subject import Collector

MODEL = "shop"
REWARD = {
    "name": "bought", "kind": "decision", "metric": "reward", "source": "feedback", "valueType": "binary",
    "minimumDetectableEffect": 5,
}  # fmt: skip
RELEASE = {
    "apiVersion": "windlass.dev/v1alpha1",
    "kind": "Release",
    "metadata": {"name": "shop-2"},
    "spec": {
        "model": MODEL,
        "candidates": ["2"],
        "champion": "1",
        "backend": "gateway",
        "gateway": {"name": "public", "extension": "envoyGateway"},
        "strategy": {
            "type": "experiment", "unit": {"header": "x-user"}, "allocation": {"1": 50, "2": 50},
            "outcomeDelay": "1s", "period": "1h",
        },
        "checks": [
            {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "prometheus", "bound": 2},
            REWARD,
        ],
    },
}  # fmt: skip
QUESTION: dict[str, Any] = {"release": RELEASE, "champion": "1"}


@pytest.fixture(autouse=True)
def since(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """When the release began: a moment before the test, however long others took before it."""
    began = datetime.fromtimestamp(int(time.time()) - 5, UTC)
    monkeypatch.setitem(QUESTION, "since", began.isoformat())
    return began


def post(collector: Collector, path: str, body: bytes) -> tuple[int, Any]:
    request = urllib.request.Request(f"http://127.0.0.1:{collector.port}{path}", body)
    try:
        # longer than the collector waits for the process that sums up
        with urllib.request.urlopen(request, timeout=120) as found:  # noqa: S310 - a loopback address
            return found.status, json.loads(found.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def ask(collector: Collector, **changed: Any) -> tuple[int, Any]:
    return post(collector, "/v1/evidence", orjson.dumps({**QUESTION, **changed}))


def answer(collector: Collector, *, after: float, **changed: Any) -> Any:
    """The first answer that holds everything that was received by then."""
    deadline = time.monotonic() + 240
    while True:
        status, body = ask(collector, **changed)
        if status == 200 and datetime.fromisoformat(body["at"]).timestamp() >= after:
            return body
        assert status in (200, 503), body
        assert time.monotonic() < deadline, body
        time.sleep(0.1)


def prediction(request_id: str, version: str, **fields: Any) -> dict[str, Any]:
    return {
        "request_id": request_id, "model": MODEL, "version": version, "at": time.time(), "entities": {},
        "request": {}, "features": [1.0], "score": 0.5, "latency_ms": 1.0, "source": "online",
        "answered_by": "model", "mirrored": False, **fields,
    }  # fmt: skip


def assigned(number: int) -> dict[str, Any]:
    """A request of a unit: even ones are the champion's."""
    return prediction(f"r{number}", "12"[number % 2], route="arm", unit=f"{number % 10:016x}")


def send(collector: Collector, *records: dict[str, Any]) -> None:
    body = b"\n".join(map(orjson.dumps, records))
    assert post(collector, "/predictions", body)[0] == 200


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    started = Collector(tmp_path, "--consolidate-s", "0.3", "--compact-parts", "2")
    started.start()
    yield started
    started.stop()


def test_an_experiments_units_and_rewards_are_summed_and_the_same_after_a_restart(
    collector: Collector,
) -> None:
    """Verify sums by unit, and that the new process of a collector comes to the very same answer."""
    labels = [{"request_id": f"r{n}", "label": int(n % 10 in (1, 3))} for n in range(40)]
    # before the requests, which may be: a disk that takes its second to acknowledge those would make the labels late
    assert post(collector, "/feedback", orjson.dumps(labels))[0] == 200
    send(collector, *(assigned(n) for n in range(40)))
    found = answer(collector, after=time.time() + 1.5)
    assert found["arms"] == {
        "1": {"requests": 0, "errors": 0, "units": 5, "outcomes": {"bought": {"n": 5}},
              "periods": {"bought": [{"n": 5}]}},
        "2": {"requests": 0, "errors": 0, "units": 5, "outcomes": {"bought": {"n": 5, "y": 2.0, "yy": 2.0}},
              "periods": {"bought": [{"n": 5, "y": 2.0, "yy": 2.0}]}},
    }  # fmt: skip
    assert "silent" not in found
    assert collector.metric("windlass_collector_evidence_releases") == 1
    assert collector.metric("windlass_collector_evidence_rows_total") == 80
    # late, repeated and contradictory: nothing of it counts
    again = [{"request_id": f"r{n}", "label": 1 - int(n % 10 in (1, 3))} for n in range(40)]
    assert post(collector, "/feedback", orjson.dumps([*labels, *again]))[0] == 200
    later = answer(collector, after=time.time())
    assert later["arms"] == found["arms"]
    collector.stop()
    collector.start()
    anew = answer(collector, after=time.time())
    assert {**anew, "at": ""} == {**later, "at": ""}


def test_a_process_that_dies_is_started_again(collector: Collector, tmp_path: Path) -> None:
    """Verify that the collector goes on when the process that sums up is killed."""
    send(collector, *(assigned(n) for n in range(20)))
    before = answer(collector, after=time.time() + 1.5)
    for child in children(collector):
        child.kill()
    send(collector, *(prediction(f"elsewhere{n}", "7") for n in range(5)))
    anew = answer(collector, after=time.time())
    assert anew["arms"] == before["arms"]


def children(collector: Collector) -> list[Any]:
    import psutil

    assert collector.process is not None
    found = psutil.Process(collector.process.pid).children()
    return [child for child in found if "monitoring.release_evidence" in child.cmdline()]


def test_a_new_store_says_nothing_of_what_came_before_it(collector: Collector, since: datetime) -> None:
    """Verify that a collector whose volume was lost is silent about a release that goes on, over its restarts too."""
    earlier = datetime.fromtimestamp(since.timestamp() - 3600, UTC).isoformat()
    send(collector, assigned(1))
    for _ in range(2):
        found = answer(collector, after=time.time(), since=earlier)
        assert set(found["silent"]) == {"predictions", "feedback"}
        assert "collector's store only at" in found["silent"]["feedback"]
        collector.stop()
        collector.start()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param({"champion": None}, "champion = missing", id="no-champion"),
        pytest.param({"champion": "2"}, "is a candidate", id="the-candidate"),
        pytest.param({"since": "2013-02-01"}, "since = '2013-02-01'", id="no-zone"),
        pytest.param({"since": "9999-01-01T00:00:00Z"}, "lies in the future", id="future"),
        pytest.param({"enrolledUntil": 5}, "enrolledUntil = 5", id="end"),
        pytest.param({"pairedAfter": {"brier": -1}}, "pairedAfter.brier = -1", id="negative"),
        pytest.param({"pairedAfter": {"loss": 1}}, "pairedAfter.loss", id="metric"),
        pytest.param({"release": {"kind": "Release"}}, "release.metadata = missing", id="release"),
        pytest.param({"release": 3}, "release = 3", id="no-document"),
        pytest.param({"more": 1}, "more = 1: unknown field", id="field"),
    ],
)
def test_what_cannot_be_meant_is_refused(changed: dict[str, Any], said: str, refuser: Collector) -> None:
    status, body = ask(refuser, **changed)
    assert status == 400
    assert said in body["error"]


@pytest.fixture(scope="module")
def refuser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    # its store stays empty, however long the tests take
    started = Collector(tmp_path_factory.mktemp("refuser"), "--consolidate-s", "3600")
    started.start()
    yield started
    started.stop()


def test_another_release_of_the_name_is_refused_and_a_newer_one_takes_its_place(
    refuser: Collector, since: datetime
) -> None:
    assert ask(refuser)[0] == 503  # nothing is stored yet
    other = orjson.loads(orjson.dumps(RELEASE))
    other["spec"]["strategy"]["outcomeDelay"] = "2s"
    status, body = ask(refuser, release=other)
    assert status == 409
    assert "known as another one" in body["error"]
    newer = datetime.fromtimestamp(since.timestamp() + 1, UTC).isoformat()
    assert ask(refuser, release=other, since=newer)[0] == 503
    assert ask(refuser)[0] == 409
