"""Incidents: begun once, carried on while nobody can tell, ended by the contrary or by a new champion."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

import pytest
from local_http import serving

from monitoring.analysis import signals, untold
from monitoring.analysis.analysis import Analysis, VersionAnalysis
from monitoring.analysis.check import Check, CheckName
from monitoring.analysis.drifting import Memory
from monitoring.analysis.slices import SliceReport
from monitoring.verdict import Verdict
from windlass.errors import WindlassError

DAY = 86400.0
KINDS: tuple[CheckName, ...] = ("featureDrift", "predictionDrift", "performanceDecay", "dataQuality")


def saying(day: int, version: str = "3", **verdicts: Verdict) -> Analysis:
    checks = tuple(Check(k, verdicts.get(k, "PASS"), f"{k} on day {day}") for k in KINDS)
    found = VersionAnalysis(
        version, 100, checks, None, Memory(), None, (), (), None, None, SliceReport(0, ""), None
    )
    return Analysis("flights", (day - 7) * DAY, day * DAY, (), (found,))


def told(*analyses: Analysis) -> list[list[tuple[str, str, str, str | None, bool]]]:
    """What each of a row of analyses gives, each told what the one before it gave."""
    before: list[dict[str, Any]] = []
    out = []
    for analysis in analyses:
        found = signals.incidents(analysis, before)
        before = signals.document(found)
        out.append([(i.kind, i.champion, i.since[8:10], i.ended and i.ended[8:10], i.certain) for i in found])
    return out


@pytest.mark.parametrize(
    ("analyses", "expected"),
    [
        pytest.param([saying(1)], [[]], id="nothing-is-wrong"),
        pytest.param(
            [saying(1, featureDrift="FAIL"), saying(2, featureDrift="FAIL")],
            [[("featureDrift", "3", "02", None, True)], [("featureDrift", "3", "02", None, True)]],
            id="one-incident-however-long",
        ),
        pytest.param(
            [saying(1, featureDrift="FAIL"), saying(2, featureDrift="INCONCLUSIVE"), saying(3)],
            [
                [("featureDrift", "3", "02", None, True)],
                [("featureDrift", "3", "02", None, False)],
                [("featureDrift", "3", "02", "04", True)],
            ],
            id="who-cannot-tell-ends-nothing",
        ),
        pytest.param(
            [saying(1, featureDrift="FAIL"), saying(2), saying(3)],
            [[("featureDrift", "3", "02", None, True)], [("featureDrift", "3", "02", "03", True)], []],
            id="an-end-is-told-once",
        ),
        pytest.param(
            [saying(1, dataQuality="FAIL"), saying(2, version="4", dataQuality="FAIL")],
            [
                [("dataQuality", "3", "02", None, True)],
                [("dataQuality", "4", "03", None, True), ("dataQuality", "3", "02", "03", True)],
            ],
            id="a-new-champion-has-incidents-of-its-own",
        ),
        pytest.param([saying(1, featureDrift="INCONCLUSIVE")], [[]], id="who-cannot-tell-begins-nothing"),
        pytest.param(
            [saying(1, featureDrift="FAIL"), Analysis("flights", 0, 2 * DAY, (), ())],
            [[("featureDrift", "3", "02", None, True)], []],
            id="no-version-no-word",
        ),
    ],
)
def test_incidents_over_a_row_of_analyses(
    analyses: list[Analysis], expected: list[list[tuple[str, str, str, str | None, bool]]]
) -> None:
    assert told(*analyses) == expected


class Trigger(BaseHTTPRequestHandler):
    status: ClassVar[int] = 202
    taken: ClassVar[list[tuple[str | None, str, Any]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.taken.append((self.headers["authorization"], self.headers["content-type"], json.loads(body)))
        self.send_response(self.status)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Trigger.taken.clear()
    Trigger.status = 202
    with serving(Trigger) as address:
        yield f"{address}/events"


def test_the_trigger_is_told_in_cloudevents_with_its_token(url: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret-of-a-test\n")
    found = signals.incidents(saying(1, featureDrift="FAIL"), [])
    assert signals.send(found, url, token) == 1
    ((authorization, kind, (event,)),) = Trigger.taken
    assert authorization == "Bearer secret-of-a-test"
    assert kind == "application/cloudevents-batch+json"
    assert (event["specversion"], event["type"]) == ("1.0", "dev.windlass.retrain.signal")
    assert event["data"] == {
        "workload": "flights",
        "kind": "featureDrift",
        "champion": "3",
        "at": "1970-01-02T00:00:00+00:00",
        "detail": {"reason": "featureDrift on day 1"},
    }
    signals.send(signals.incidents(saying(2, featureDrift="FAIL"), signals.document(found)), url, token)
    assert Trigger.taken[1][2][0]["id"] == event["id"]


def test_the_retrain_service_reads_what_is_told() -> None:
    """Verify that both ends agree, with the service's own parser: a beginning and an end."""
    from datetime import UTC, datetime

    from monitoring.retrain.service import events

    first = signals.incidents(saying(1, featureDrift="FAIL"), [])
    second = signals.incidents(saying(3), signals.document(first))
    headers = {"content-type": "application/cloudevents-batch+json"}
    body = json.dumps([i.event for i in (*first, *second)]).encode()
    began, ended = events.parse(headers, body, datetime(1970, 1, 5, tzinfo=UTC))
    assert (began.workload, began.kind, began.champion, began.ended) == (
        "flights", "featureDrift", "3", None,
    )  # fmt: skip
    assert began.since == ended.since == datetime(1970, 1, 2, tzinfo=UTC)
    assert ended.ended == datetime(1970, 1, 4, tzinfo=UTC)


def test_nothing_is_sent_where_nothing_is_certain(url: str) -> None:
    before = signals.document(signals.incidents(saying(1, featureDrift="FAIL"), []))
    found = signals.incidents(saying(2, featureDrift="INCONCLUSIVE"), before)
    assert signals.send(found, url, None) == 0
    assert Trigger.taken == []


def test_a_trigger_that_refuses_is_said(url: str, tmp_path: Path) -> None:
    Trigger.status = 401
    with pytest.raises(WindlassError, match="answered 401"):
        signals.send(signals.incidents(saying(1, dataQuality="FAIL"), []), url, None)
    missing = tmp_path / "token"
    with pytest.raises(WindlassError, match=r"token cannot be read.*--token-file"):
        signals.send(signals.incidents(saying(1, dataQuality="FAIL"), []), url, missing)
    with pytest.raises(WindlassError, match="--signals-to 'trigger' is no address"):
        signals.send(signals.incidents(saying(1, dataQuality="FAIL"), []), "trigger", None)
    with pytest.raises(WindlassError, match="does not answer"):
        signals.send(signals.incidents(saying(1, dataQuality="FAIL"), []), "http://127.0.0.1:9/", None)


def test_a_window_that_is_analysed_again_ends_what_it_ended() -> None:
    """Verify that the second analysis of a window says of incidents what the first said."""
    first = signals.document(signals.incidents(saying(1, featureDrift="FAIL"), []))
    ended = signals.incidents(saying(3), first)
    assert signals.incidents(saying(3), signals.document(ended)) == ended
    assert signals.incidents(saying(4), signals.document(ended)) == ()
    replaced = signals.incidents(saying(3, version="4"), first)
    assert signals.incidents(saying(3, version="4"), signals.document(replaced)) == replaced


def test_an_end_is_told_until_it_was_taken() -> None:
    """Verify that an end is kept over analyses that find none, told once where it was, and dropped where none was."""
    began = signals.incidents(saying(1, dataQuality="FAIL"), [])
    before = signals.document(began)
    ended = signals.incidents(saying(2), before)
    assert untold.joined((), ended, before) == ended
    later = signals.incidents(saying(3), signals.document(ended))
    assert untold.joined(ended, later, signals.document(ended)) == ended
    # the same window again after it was told
    assert untold.joined((), ended, signals.document(ended)) == ()
    # killed between the two files, and the verdict is another one now
    assert untold.joined(ended, signals.incidents(saying(2, dataQuality="FAIL"), before), before) == ()
