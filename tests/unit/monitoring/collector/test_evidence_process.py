"""The collector's end of the process that sums up evidence: it dies, hangs, or is asked by many at once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import pytest
from event_store import home

from monitoring.collector import evidence
from monitoring.collector.evidence import Evidence
from monitoring.collector.http import Request, Response
from monitoring.collector.metrics import Metrics

#: answers each question with its own number; `die` and `hang` do what they say
PROCESS = """
import json, sys, time
stream, count = sys.stdin.buffer, 0
while head := stream.read(8):
    body = stream.read(int(head))
    if body == b"die":
        sys.exit(3)
    if body in (b"noise", b"json"):
        sys.stdout.buffer.write(b"warning!" if body == b"noise" else b"00000004oops")
        sys.stdout.buffer.flush()
        time.sleep(600)
    if body == b"hang":
        time.sleep(600)
    count += 1
    answer = {"status": 503 if body == b"wait" else 200, "body": json.dumps({"error": str(count)}), "releases": count,
              "rows": 10, "rebuild_s": 0.5}
    answer = json.dumps(answer).encode()
    sys.stdout.buffer.write(b"%08d" % len(answer) + answer)
    sys.stdout.buffer.flush()
"""
Ask = Callable[[bytes], Awaitable[Response]]


def metrics() -> Metrics:
    return Metrics(pending=float, wal_bytes=float, lag=float, storage_ok=float)


def talk(folder: Path, asking: Callable[[Ask, Evidence], Awaitable[None]], found: Metrics) -> None:
    async def run() -> None:
        subject = Evidence(home(folder), found, command=(sys.executable, "-c", PROCESS))
        try:
            await asking(lambda body: subject(Request("POST", "/v1/evidence", body)), subject)
        finally:
            await subject.close()

    asyncio.run(run())


def test_answers_go_to_who_asked_and_are_counted(tmp_path: Path) -> None:
    told = metrics()

    async def asking(ask: Ask, subject: Evidence) -> None:
        assert not subject.wanted()
        answers = await asyncio.gather(*(ask(b"x") for _ in range(5)))
        assert subject.wanted()
        assert [orjson.loads(answer.body)["error"] for answer in answers] == ["1", "2", "3", "4", "5"]
        waiting = await ask(b"wait")
        assert (waiting.status, waiting.headers) == (503, (("retry-after", "5"),))
        assert orjson.loads(waiting.body) == {"error": "6"}

    talk(tmp_path, asking, told)
    sample = told.registry.get_sample_value
    assert sample("windlass_collector_evidence_releases") == 6
    assert sample("windlass_collector_evidence_rows_total") == 60
    assert sample("windlass_collector_evidence_rebuild_seconds") == 0.5


@pytest.mark.parametrize("fault", [b"die", b"hang", b"noise", b"json"])
def test_a_process_that_is_gone_is_another_one_at_the_next_question(
    fault: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify 503 for the one question that met it, and for no other."""

    async def asking(ask: Ask, subject: Evidence) -> None:
        assert (await ask(b"x")).status == 200
        with monkeypatch.context() as hurried:
            hurried.setattr(evidence, "CLOSE_S", 0.1)
            hurried.setattr(evidence, "ANSWER_S", 0.5 if fault == b"hang" else 60.0)
            met = await ask(fault)
        assert (met.status, b"starts again" in met.body) == (503, True)
        assert orjson.loads((await ask(b"x")).body) == {"error": "1"}

    talk(tmp_path, asking, metrics())
    assert "the process that sums up evidence ended" in capsys.readouterr().err


def test_more_questions_than_may_wait_are_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MOST_WAITING", 3)

    async def asking(ask: Ask, subject: Evidence) -> None:
        answers = await asyncio.gather(*(ask(b"x") for _ in range(5)))
        assert sorted(answer.status for answer in answers) == [200, 200, 200, 503, 503]
        assert (await ask(b"x")).status == 200

    talk(tmp_path, asking, metrics())
