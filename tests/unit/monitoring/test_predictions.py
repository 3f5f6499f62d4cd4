"""Prediction logs are followed while they are written."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from monitoring.predictions import PredictionTail


def line(request_id: str, **changed: Any) -> str:
    record = {
        "request_id": request_id,
        "model": "flights",
        "version": "3",
        "at": 1360000000.0,
        "entities": {"carrier": "UA"},
        "request": {"distance": 1400.0},
        "features": [1.0, None, 3.5],
        "score": 0.25,
        "latency_ms": 0.4,
        "source": "online",
        "mirrored": False,
    }
    return json.dumps({**record, **changed}) + "\n"


def ids(tail: PredictionTail) -> list[str]:
    return [p.request_id for p in tail.poll()]


def test_a_record_keeps_every_field_and_null_becomes_missing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(line("r1", mirrored=True))
    (record,) = PredictionTail(tmp_path).poll()
    assert (record.model, record.version, record.at, record.score) == ("flights", "3", 1360000000.0, 0.25)
    assert (record.entities, record.request) == ({"carrier": "UA"}, {"distance": 1400.0})
    assert record.features[0] == 1.0 and math.isnan(record.features[1]) and record.features[2] == 3.5
    assert record.mirrored and record.source == "online" and record.latency_ms == 0.4


def test_each_line_is_given_once_over_all_files(tmp_path: Path) -> None:
    tail = PredictionTail(tmp_path)
    assert ids(tail) == []
    (tmp_path / "a.jsonl").write_text(line("a1"))
    (tmp_path / "b.jsonl").write_text(line("b1"))
    assert ids(tail) == ["a1", "b1"]
    with (tmp_path / "a.jsonl").open("a") as log:
        log.write(line("a2"))
    assert ids(tail) == ["a2"]
    assert ids(tail) == []


def test_a_torn_last_line_waits_until_it_is_whole(tmp_path: Path) -> None:
    tail = PredictionTail(tmp_path)
    whole = line("r2")
    (tmp_path / "a.jsonl").write_text(line("r1") + whole[:40])
    assert ids(tail) == ["r1"]
    with (tmp_path / "a.jsonl").open("a") as log:
        log.write(whole[40:])
    assert ids(tail) == ["r2"]
    assert tail.malformed == 0


def test_a_restart_goes_on_at_the_saved_offset(tmp_path: Path) -> None:
    log = tmp_path / "a.jsonl"
    whole = line("r2")
    log.write_text(line("r1") + whole[:10])
    before = PredictionTail(tmp_path)
    assert ids(before) == ["r1"]
    log.write_text(line("r1") + whole + line("r3"))
    assert ids(PredictionTail(tmp_path, offsets=before.offsets)) == ["r2", "r3"]


def test_a_file_replaced_by_a_shorter_one_is_read_from_its_start(tmp_path: Path) -> None:
    log = tmp_path / "a.jsonl"
    log.write_text(line("r1") + line("r2"))
    tail = PredictionTail(tmp_path)
    tail.poll()
    log.write_text(line("n1"))
    assert ids(tail) == ["n1"]


def test_a_line_that_is_no_prediction_is_counted_and_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{not json\n[]\n" + line("r1").replace('"r1"', "7") + line("r1"))
    tail = PredictionTail(tmp_path)
    assert ids(tail) == ["r1"]
    assert tail.malformed == 3
