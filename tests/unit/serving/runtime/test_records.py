"""The lines that are kept of predictions, as the server writes them and as readers see them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from windlass import prediction_log

NAMES = ["a", "b", "c"]


@pytest.fixture
def server(
    make_bundle: Callable[..., Path], make_model: Callable[..., bytes], start: Callable[..., Any]
) -> Any:
    """A model whose three inputs are all sent."""
    plain = {
        "entities": [],
        "views": [],
        "inputs": [{"name": n, "view": None, "default": None} for n in NAMES],
    }
    return start(make_bundle(make_model([0.5, -0.25, 1.0]), **plain), "sqlite:/nonexistent")


def infer(server: Any, body: str, request_id: str) -> list[float]:
    answer = server.client.post(
        "/v2/models/flights/infer", content=body.encode(), headers={"x-request-id": request_id}
    )
    assert answer.status_code == 200, answer.text
    data: list[float] = answer.json()["outputs"][0]["data"]
    return data


@pytest.mark.parametrize(
    "tensor",
    [
        pytest.param('"name":"x","shape":[2,3],"datatype":"FP32","data":[1,2.5,-3,0.1,1e2,0]', id="flat"),
        pytest.param(
            '"name":"x","shape":[2,3],"datatype":"FP32","data":[ 1, 2.5,-3, 0.1,1e2,0 ]', id="spaces"
        ),
        pytest.param(
            '"name":"x","shape":[2,3],"datatype":"FP32","data":[[1,2.5,-3],[0.1,1e2,0]]', id="nested"
        ),
        pytest.param(
            '"data":[1,2.5,-3,0.1,1e2,0],"name":"x","shape":[2,3],"datatype":"FP64"', id="data-first"
        ),
        pytest.param(
            '"data":[9,9,9,9,9,9],"name":"x","shape":[2,3],"datatype":"FP32","data":[1,2.5,-3,0.1,1e2,0]',
            id="given-twice",
        ),
        pytest.param(
            '"data":[9,9,9,9,9,9],"name":"x","shape":[2,3],"datatype":"FP32","d\\u0061ta":[1,2.5,-3,0.1,1e2,0]',
            id="escaped-key",
        ),
        pytest.param(
            '"name":"\\"data\\":[7,7,7,7,7,7]","shape":[2,3],"datatype":"FP32","data":[1,2.5,-3,0.1,1e2,0]',
            id="in-a-name",
        ),
    ],
)
def test_a_matrix_is_kept_as_one_line_and_read_as_its_rows(server: Any, tensor: str) -> None:
    """Verify that what is kept is what was scored, however the request is written."""
    scores = infer(server, f'{{"inputs":[{{{tensor}}}]}}', "m")
    (record,) = server.records(1)
    assert (record["rows"], len(record["features"])) == (2, 6)
    first, second = prediction_log.rows(record)
    assert (first["request_id"], second["request_id"]) == ("m/0", "m/1")
    assert (first["features"], second["features"]) == ([1, 2.5, -3], [0.1, 100, 0])
    assert [first["score"], second["score"]] == pytest.approx(scores)
    assert first["entities"] == first["request"] == {} and "rows" not in first


def test_one_row_of_a_matrix_is_a_line_like_any_other(server: Any) -> None:
    data = '"name":"x","shape":[1,3],"datatype":"FP32","data":[1,null,-3]'
    scores = infer(server, f'{{"inputs":[{{{data}}}]}}', "one")
    (record,) = server.records(1)
    assert list(prediction_log.rows(record)) == [record]
    assert (record["request_id"], record["features"]) == ("one", [1, None, -3])
    assert record["score"] == pytest.approx(scores[0])


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"rows": 2, "features": [1, 2, 3], "score": [0, 1]}, id="features"),
        pytest.param({"rows": 2, "features": [1, 2], "score": [0]}, id="scores"),
        pytest.param({"rows": "2", "features": [1, 2], "score": [0, 1]}, id="no-count"),
    ],
)
def test_a_line_that_does_not_hold_its_rows_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        list(prediction_log.rows(json.loads(json.dumps({"request_id": "r", **broken}))))


def test_every_row_of_a_request_says_how_it_was_routed(server: Any) -> None:
    body = '{"inputs":[{"name":"x","shape":[2,3],"datatype":"FP32","data":[1,2,3,4,5,6]}]}'
    headers = {"x-request-id": "m", "x-windlass-route": "arm", "x-windlass-unit": "00c0ffee00c0ffee"}
    assert server.client.post("/v2/models/flights/infer", content=body, headers=headers).status_code == 200
    (record,) = server.records(1)
    assert [(row["route"], row["unit"]) for row in prediction_log.rows(record)] == [
        ("arm", "00c0ffee00c0ffee")
    ] * 2
