"""The collector asked over a real wire: what it says, and all its ways of saying nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

import local_http
import pytest

from serving.release import spec
from serving.release.collector.client import LATE_S, Collector, Question, RefusedError, SilentError
from serving.release.evidence import ArmEvidence, Evidence, Pairs
from serving.release.journal import evidence_json
from serving.release.statistics.moments import Moments

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW = START + timedelta(hours=1)
RELEASE = spec.parse(
    {
        "kind": "Release",
        "metadata": {"name": "flights-13"},
        "spec": {
            "model": "flights",
            "candidate": "13",
            "champion": "12",
            "backend": "gateway",
            "strategy": {"type": "shadow"},
            "checks": [
                {"name": "same", "kind": "guardrail", "metric": "disagreement", "source": "predictions", "bound": 5},
                {"name": "better", "kind": "decision", "metric": "brier", "source": "feedback"},
            ],
        },
    }
)  # fmt: skip
QUESTION = Question(RELEASE, "12", START)


class Answers:
    """What the other side answers, and what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body: bytes = b"{}"
        self.asked: list[tuple[str, Any]] = []
        self.url = ""

    def say(self, evidence: Evidence, before: dict[str, tuple[float, ...]] | None = None) -> None:
        self.body = json.dumps(evidence_json.to_json(evidence, before or {})).encode()

    def plain(self, **content: Any) -> None:
        self.body = json.dumps(content).encode()


@pytest.fixture
def answers() -> Iterator[Answers]:
    told = Answers()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.asked.append((self.path, json.loads(body)))
            self.send_response(told.status)
            self.send_header("Content-Length", str(len(told.body)))
            self.end_headers()
            self.wfile.write(told.body)

        def log_message(self, *_: Any) -> None:
            pass

    with local_http.serving(Handler) as url:
        told.url = url
        yield told


def test_the_question_and_the_answer(answers: Answers) -> None:
    """Verify that the release's own document is sent, only new pairs are asked for, and all are given back."""
    arms = {"12": ArmEvidence(outcomes={"better": Moments.of([1.0, 0.0])}), "13": ArmEvidence(units=4)}
    answers.say(
        Evidence(NOW, arms, paired={"brier": (0.1, -0.2, 0.5)}, pairs=Pairs(3, 1, {0: 2, 40: 1})),
        {"brier": (0.1, -0.2)},
    )
    until = START + timedelta(days=14)
    question = Question(RELEASE, "12", START, until)
    found = Collector(f"{answers.url}/").evidence(question, {"brier": (0.1, -0.2)}, NOW)
    assert found.arms == arms and found.at == NOW and found.pairs == Pairs(3, 1, {0: 2, 40: 1})
    assert found.paired == {"brier": (0.1, -0.2, 0.5)}
    ((path, body),) = answers.asked
    assert path == "/v1/evidence"
    assert spec.parse(body.pop("release")) == RELEASE
    assert body == {
        "champion": "12",
        "since": START.isoformat(),
        "enrolledUntil": until.isoformat(),
        "pairedAfter": {"brier": 2},
    }


def test_an_end_that_is_not_known_is_null(answers: Answers) -> None:
    """Verify that a release that enrols nobody, or is paused, states no end."""
    answers.say(Evidence(NOW))
    Collector(answers.url).evidence(QUESTION, {}, NOW)
    assert answers.asked[0][1]["enrolledUntil"] is None and answers.asked[0][1]["pairedAfter"] == {}


def test_versions_that_nobody_asked_for_are_left_out(answers: Answers) -> None:
    """Verify that what else the collector knows of a model is no evidence of the release."""
    answers.say(Evidence(NOW, {"13": ArmEvidence(), "99": ArmEvidence(units=1)}))
    assert set(Collector(answers.url).evidence(QUESTION, {}, NOW).arms) == {"13"}


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_a_collector_that_is_busy_is_silent(answers: Answers, status: int) -> None:
    """Verify that its own words are told: how far it is after a start."""
    answers.status = status
    answers.plain(error="reading what was stored since 2026-03-01: 40 % of the rows")
    with pytest.raises(SilentError, match=rf"{status}: reading what was stored since .* 40 %"):
        Collector(answers.url).evidence(QUESTION, {}, NOW)


def test_nobody_there_is_silence(answers: Answers) -> None:
    """Verify that a refused connection names the address."""
    with pytest.raises(SilentError, match=r"127\.0\.0\.1:9 does not answer"):
        Collector("http://127.0.0.1:9", timeout_s=2.0).evidence(QUESTION, {}, NOW)


def test_an_answer_that_does_not_come_is_silence() -> None:
    """Verify that a collector that takes the question and says nothing holds nobody up for longer than was said."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(SilentError, match="does not answer"):
            Collector(url, timeout_s=0.2).evidence(QUESTION, {}, NOW)


def test_an_answer_of_long_ago_is_silence(answers: Answers) -> None:
    """Verify that a collector that lies behind is not believed to have heard of everything."""
    answers.say(Evidence(NOW - timedelta(seconds=LATE_S + 1)))
    with pytest.raises(SilentError, match=r"late: .* ends 181 s ago"):
        Collector(answers.url).evidence(QUESTION, {}, NOW)
    answers.say(Evidence(NOW - timedelta(seconds=LATE_S - 1)))
    Collector(answers.url).evidence(QUESTION, {}, NOW)


@pytest.mark.parametrize(("status", "words"), [(400, "refuses the release"), (409, "refuses the release"),
                                               (404, "no older than the operator")])  # fmt: skip
def test_a_refusal_is_no_silence(answers: Answers, status: int, words: str) -> None:
    """Verify that what waiting does not mend is told apart."""
    answers.status = status
    answers.plain(error="release flights-13 was asked for with another spec")
    with pytest.raises(RefusedError, match=words) as caught:
        Collector(answers.url).evidence(QUESTION, {}, NOW)
    assert "another spec" in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html>", id="no-json"),
        pytest.param(b"[]", id="no-object"),
        pytest.param(b'{"arms": {}}', id="without-time"),
        pytest.param(b'{"at": "2026-03-01T13:00:00", "arms": {}}', id="time-without-zone"),
        pytest.param(b'{"at": "2026-03-01T13:00:00+00:00", "arms": {"13": {}}}', id="half-an-arm"),
        pytest.param(
            b'{"at": "2026-03-01T13:00:00+00:00", "arms": {}, "paired": {"brier": {"from": 3, "values": [0.1]}}}',
            id="a-gap-in-the-pairs",
        ),
    ],
)
def test_nonsense_is_refused(answers: Answers, body: bytes) -> None:
    """Verify that no answer of another form is read as evidence."""
    answers.body = body
    with pytest.raises(RefusedError, match="in no form of its own"):
        Collector(answers.url).evidence(QUESTION, {"brier": (0.1, 0.2)}, NOW)
