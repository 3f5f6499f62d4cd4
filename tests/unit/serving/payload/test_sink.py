"""Addresses of payload logs: what each opens, and what is said of one that cannot be meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.runtime.payload.sink import open_sink
from windlass.errors import UsageError


@pytest.mark.parametrize("prefix", ["", "file:"])
def test_a_path_is_a_file_of_lines(tmp_path: Path, prefix: str) -> None:
    """Verify that both spellings append the bytes that the collector reads."""
    log = open_sink(f"{prefix}{tmp_path}/with:colon#and hash.jsonl", model="m", version="1")
    log.append({"request_id": "r", "score": 0.5, "features": [1.0, float("nan")]})
    log.close()
    path = tmp_path / "with:colon#and hash.jsonl"
    assert path.read_bytes() == b'{"request_id":"r","score":0.5,"features":[1.0,null]}\n'


@pytest.mark.parametrize(
    ("address", "message"),
    [
        pytest.param(
            "kafka://broker/topic", "'kafka' is no kind of log; give a file, parquet:DIR", id="scheme"
        ),
        pytest.param("http:///path", "it names no host", id="no-host"),
        pytest.param("http://host:99999/", "give http://HOST:PORT/PATH", id="port"),
        pytest.param("https://user:secret@host/", "a URL with a user is not read here", id="user"),
        pytest.param("http://host/#bulk=3", "'bulk' is unknown; known is batch and mode", id="option"),
        pytest.param("http://host/#batch=many", "batch is 'many'; give a whole number", id="batch-no-number"),
        pytest.param("http://host/#batch=1", "batch is 1; give 2 or more", id="batch-of-one"),
        pytest.param(
            "http://host/#mode=none", "mode is 'none'; give one of all, request, response", id="mode"
        ),
        pytest.param("parquet:log#seconds=0", "seconds is '0'; give a whole number", id="seconds"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused(address: str, message: str) -> None:
    """Verify that nothing is opened, and that a password is not repeated."""
    with pytest.raises(UsageError) as told:
        open_sink(address, model="m", version="1")
    assert message in str(told.value)
    assert "secret" not in str(told.value)
