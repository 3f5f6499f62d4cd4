"""Envoy's access log, line by line."""

from __future__ import annotations

import json

import pytest

from serving.release.envoy import access_log
from serving.release.envoy.access_log import AccessLog

LINE = {
    "at": "1360000000.250000",
    "attempts": 1,
    "bucket": None,
    "cluster": "flights@13",
    "code": 200,
    "duration_us": 2500,
    "event_at": None,
    "flags": "-",
    "method": "POST",
    "path": "/v1/models/flights:predict",
    "request_id": "a",
    "route": "flights",
    "unit": None,
    "upstream_us": 1900,
}


def test_a_line_becomes_values():
    access = access_log.parse(LINE)
    assert (access.model, access.version, access.at) == ("flights", "13", 1360000000.25)
    assert (access.duration_ms, access.upstream_ms, access.flags, access.failed) == (2.5, 1.9, "", False)


@pytest.mark.parametrize(
    ("route", "expected", "counted"),
    [
        pytest.param("flights", ("weights", None, None, None, None), True, id="weights"),
        pytest.param("flights/segment/phone", ("segment", "phone", None, None, None), True, id="segment"),
        pytest.param("flights/segment/a/b@c", ("segment", "a/b@c", None, None, None), True, id="odd-segment"),
        pytest.param("flights/arm/13", ("arm", None, "13", 42, "00ff"), True, id="arm"),
        pytest.param("flights/unassigned", ("unassigned", None, None, None, None), False, id="no-unit"),
        pytest.param("flights/match/0", ("match", None, None, None, None), False, id="match"),
        pytest.param("flights@13", ("version", None, None, None, None), False, id="version-in-the-path"),
    ],
)
def test_the_route_says_whether_a_request_is_evidence(route, expected, counted):
    """Verify that only an assigned unit has an arm, a bucket and a pseudonym."""
    access = access_log.parse({**LINE, "route": route, "bucket": "0042", "unit": "00ff"})
    assert (access.route, access.segment, access.arm, access.bucket, access.unit) == expected
    assert access.counted is counted


def test_an_assigned_request_without_its_bucket_is_no_line_of_this_log():
    with pytest.raises(TypeError):
        access_log.parse({**LINE, "route": "flights/arm/13"})


@pytest.mark.parametrize(
    ("code", "flags", "failed"),
    [
        pytest.param(200, "-", False, id="answered"),
        pytest.param(404, "-", False, id="callers-mistake"),
        pytest.param(500, "-", True, id="server-error"),
        pytest.param(503, "UF,URX", True, id="no-connection"),
        pytest.param(504, "UT", True, id="timeout"),
        pytest.param(0, "DC", False, id="caller-left"),
        pytest.param(0, "UC", True, id="no-answer"),
    ],
)
def test_what_counts_as_failed(code, flags, failed):
    assert access_log.parse({**LINE, "code": code, "flags": flags, "upstream_us": None}).failed is failed


@pytest.mark.parametrize(
    ("stated", "event_at"),
    [
        pytest.param("1360000000.5", 1360000000.5, id="a-number"),
        pytest.param("-", None, id="nothing"),
        pytest.param(None, None, id="null"),
        pytest.param("nan", None, id="no-number"),
        pytest.param("inf", None, id="infinite"),
        pytest.param("yesterday", None, id="nonsense"),
    ],
)
def test_whatever_a_caller_calls_the_time_its_request_counts(stated, event_at):
    access = access_log.parse({**LINE, "event_at": stated, "code": 503})
    assert access.event_at == event_at
    assert access.failed


def test_a_log_that_was_cut_is_read_from_its_start(tmp_path):
    path = tmp_path / "access.jsonl"
    log = AccessLog(path)
    path.write_text((json.dumps(LINE) + "\n") * 5)
    assert len(log.poll()) == 5
    path.write_text(json.dumps({**LINE, "request_id": "new"}) + "\n")
    assert [a.request_id for a in log.poll()] == ["new"]
    assert log.poll() == []


def test_a_request_to_no_model_is_passed_over():
    assert access_log.parse({**LINE, "cluster": "collector"}) is None
    assert access_log.parse({**LINE, "cluster": None}) is None


def test_lines_are_read_once_and_a_line_being_written_waits(tmp_path):
    path = tmp_path / "access.jsonl"
    log = AccessLog(path)
    assert log.poll() == []
    whole, torn = json.dumps(LINE), json.dumps({**LINE, "request_id": "b"})
    path.write_text(whole + "\n" + torn[:20])
    assert [a.request_id for a in log.poll()] == ["a"]
    with path.open("a") as file:
        file.write(torn[20:] + "\nnonsense\n{}\n")
    assert [a.request_id for a in log.poll()] == ["b"]
    assert log.malformed == 2
    assert AccessLog(path, from_end=True).poll() == []
