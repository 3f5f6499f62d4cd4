"""What goes over the wire against the specifications: CloudEvents 1.0, its HTTP binding, KServe's attributes.

Decoded here by the letter of the HTTP protocol binding (sections 3.1 and 3.3) and of the JSON event format, not by
the code that made it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from serving.runtime.payload.cloudevents import CloudEventsWriter, Origin
from serving.runtime.payload.queue import RecordQueue
from serving.runtime.payload.sink import open_sink

Make = Callable[..., dict[str, Any]]
# CloudEvents 1.0.2, "Required attributes"
REQUIRED = {"id", "source", "specversion", "type"}
KSERVE = {"inferenceservicename", "namespace", "component", "endpoint"}
REQUEST = "org.kubeflow.serving.inference.request"
RESPONSE = "org.kubeflow.serving.inference.response"
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def decode(message: Any) -> list[dict[str, Any]]:
    """Read one HTTP message: the events it holds, in whichever content mode."""
    content_type = message.headers["content-type"]
    if content_type.startswith("application/cloudevents-batch"):
        assert not [name for name in message.headers if name.startswith("ce-")]
        decoded: list[dict[str, Any]] = json.loads(message.body)
        return decoded
    assert "ce-datacontenttype" not in message.headers
    event = {"datacontenttype": content_type, "data": json.loads(message.body)}
    for name, value in message.headers.items():
        if name.startswith("ce-"):
            assert re.fullmatch(r"([\x21\x23\x24\x26-\x7e]|%[0-9A-F]{2})+", value), value
            event[name[3:]] = unquote(value, errors="strict")
    return [event]


def check(event: dict[str, Any]) -> None:
    """Check one event by the specification, whatever it is about."""
    assert event.keys() >= REQUIRED | KSERVE
    assert event["specversion"] == "1.0"
    for name, value in event.items():
        if name != "data":
            assert re.fullmatch(r"[a-z0-9]{1,20}", name), f"{name!r} is no attribute name"
            assert isinstance(value, str), name
            assert value, name
    assert RFC3339.fullmatch(event["time"])
    assert event["datacontenttype"] == "application/json"


def sent(
    receiver: Any, records: list[dict[str, Any]], options: str = "", **origin: str
) -> list[dict[str, Any]]:
    log = open_sink(receiver.url + options, model="flights", version="3", output="probability", **origin)
    assert log.append_many(records)
    log.close()
    assert log.counts.written == len(records)
    events = [event for message in receiver.accepted for event in decode(message)]
    for event in events:
        check(event)
    return events


@pytest.mark.parametrize("options", [pytest.param("", id="binary"), pytest.param("#batch=50", id="batched")])
def test_a_prediction_is_kserves_pair_of_events(receiver: Any, record: Make, options: str) -> None:
    """Verify attributes and bodies, every number as it was."""
    origin = {
        "inference_service": "flights-v3",
        "namespace": "prod",
        "component": "predictor",
        "endpoint": "canary",
    }
    request, response = sent(receiver, [record(7)], options, **origin)
    for event in (request, response):
        assert event["id"] == "r-7"
        assert event["source"].endswith("/models/flights/versions/3")
        assert urlsplit(event["source"]).path == event["source"]
        assert datetime.fromisoformat(event["time"]).timestamp() == 1_360_000_000.25
        assert (event["inferenceservicename"], event["namespace"]) == ("flights-v3", "prod")
        assert (event["component"], event["endpoint"]) == ("predictor", "canary")
    assert (request["type"], response["type"]) == (REQUEST, RESPONSE)
    assert request["data"] == {
        "id": "r-7",
        "parameters": {"at": 1_360_000_000.25, "entities.carrier": "AA", "request.distance": 1400.5},
        "inputs": [{"name": "features", "datatype": "FP64", "shape": [1, 3], "data": [7.1, None, 1e-300]}],
    }
    assert response["data"] == {
        "id": "r-7",
        "model_name": "flights",
        "model_version": "3",
        "parameters": {"latency_ms": 0.25, "source": "online", "answered_by": "model", "mirrored": False},
        "outputs": [{"name": "probability", "datatype": "FP64", "shape": [1], "data": [0.1234567890123]}],
    }
    message = receiver.accepted[0]
    assert message.target == "/events"
    if options:
        assert message.headers["content-type"] == "application/cloudevents-batch+json; charset=utf-8"


def test_parameters_are_what_the_inference_protocol_allows(receiver: Any, record: Make) -> None:
    """Verify that each is a string, a number or a boolean, whatever the caller sent."""
    changes = {"request": {"a": None, "b": True, "c": "text", "d": 3}, "fallback": None, "rung": 2}
    for event in sent(receiver, [record(**changes)]):
        for name, value in event["data"]["parameters"].items():
            assert isinstance(value, str | int | float | bool), name


@pytest.mark.parametrize(
    "request_id",
    [
        pytest.param(value, id=name)
        for name, value in (("percent", 'a%20"b'), ("visible", "!#$&'()*+,/:;<=>?@[]^`{|}~\\"))
    ],
)
def test_ids_of_any_visible_characters_arrive(receiver: Any, record: Make, request_id: str) -> None:
    """Verify the percent-encoding of header values."""
    request, response = sent(receiver, [record(request_id=request_id)])
    assert request["id"] == response["id"] == request_id


@pytest.mark.parametrize(
    ("mode", "kinds"), [("request", [REQUEST]), ("response", [RESPONSE]), ("all", [REQUEST, RESPONSE])]
)
def test_the_mode_is_that_of_kserves_logger(receiver: Any, record: Make, mode: str, kinds: list[str]) -> None:
    """Verify which events each mode sends."""
    assert [event["type"] for event in sent(receiver, [record()], f"#mode={mode}")] == kinds


@pytest.mark.parametrize(
    ("score", "shape"),
    [
        pytest.param([0.2, 0.3, 0.5], [1, 3], id="classes"),
        pytest.param([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [1, 3, 2], id="tensor"),
        pytest.param(None, [1], id="no-answer"),
    ],
)
def test_a_score_is_one_row_of_the_output(
    receiver: Any, record: Make, score: list[Any] | None, shape: list[int]
) -> None:
    """Verify that the shape is that of the data."""
    (event,) = sent(receiver, [record(score=score)], "#mode=response")
    output = event["data"]["outputs"][0]
    assert (output["shape"], output["data"]) == (shape, [score])
    assert np.shape(output["data"]) == tuple(shape)


def test_a_time_that_no_calendar_has_is_left_out(receiver: Any, record: Make) -> None:
    """Verify that a replayed request with such a clock costs the attribute and not the event."""
    writer = CloudEventsWriter(urlsplit(receiver.url), Origin(source="/x", inference_service="flights"))
    log = RecordQueue(writer)
    log.append(record(at=1e300))
    log.close()
    events = [event for message in receiver.accepted for event in decode(message)]
    assert [("time" in event, event["type"]) for event in events] == [(False, REQUEST), (False, RESPONSE)]
    assert events[0]["data"]["parameters"]["at"] == 1e300
