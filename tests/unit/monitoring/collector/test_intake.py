"""What is sent, as it goes into the journal: every content mode, V1 and V2, and what is refused."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from event_store import NOON

from monitoring.collector import payloads
from monitoring.collector.intake import Intake
from monitoring.collector.names import BrokenWorkloadError, Names
from serving.runtime.payload import cloudevents as ours
from windlass.errors import UsageError
from windlass.settings import Settings

REQUEST, RESPONSE = ours.REQUEST, ours.RESPONSE
KSERVE = {
    "ce-specversion": "1.0", "ce-id": "7f2c", "ce-source": "http://localhost:9081/", "ce-type": REQUEST,
    "ce-time": "2023-11-15T11:59:58.123456789Z", "ce-inferenceservicename": "flights-12", "ce-namespace": "default",
    "ce-endpoint": "default", "ce-component": "predictor", "content-type": "application/json",
}  # fmt: skip
RECORD = {
    "request_id": "r1", "model": "flights", "version": "7", "at": NOON - 5, "entities": {"carrier": "AA"},
    "request": {"distance": 100.5}, "features": [1.0, None, 3.0], "score": 0.25, "latency_ms": 1.5,
    "source": "cached", "mirrored": True, "answered_by": "model",
}  # fmt: skip


@pytest.fixture
def intake(tmp_path: Path, project: Path) -> Intake:
    return Intake(Names(Settings(home=tmp_path, project=project)), None, lambda: NOON)


def test_kserve_s_binary_events_of_v1(intake: Intake) -> None:
    """Verify what KServe's payload logger sends of a model that takes named values: model and version from the
    InferenceService, entities told from request fields by the workload, time to the microsecond."""
    body = {"instances": [{"carrier": "AA", "origin": "JFK", "distance": 100.0}]}
    (asked,) = intake.events(KSERVE, orjson.dumps(body))
    assert (asked["type"], asked["id"], asked["model"], asked["version"]) == (
        "request", "7f2c", "flights", "12",
    )  # fmt: skip
    assert asked["at"] == pytest.approx(NOON - 2 + 0.123456, abs=1e-6)
    assert asked["rows"] == [{"entities": {"carrier": "AA", "origin": "JFK"}, "request": {"distance": 100.0}}]
    (answered,) = intake.events({**KSERVE, "ce-type": RESPONSE}, b'{"predictions":[0.75]}')
    assert (answered["type"], answered["scores"], answered["version"]) == ("response", [0.75], "12")


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        pytest.param({"instances": [[1, 2.5], [3, None]]}, [[1, 2.5], [3, None]], id="v1-lists"),
        pytest.param({"instances": [4, 5]}, [[4], [5]], id="v1-numbers"),
        pytest.param(
            {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}]},
            [[1, 2], [3, 4]], id="v2-flat-data",
        ),
        pytest.param(
            {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2], [3, 4]]}]},
            [[1, 2], [3, 4]], id="v2-nested-data",
        ),
    ],
)  # fmt: skip
def test_rows_of_numbers_are_vectors(intake: Intake, body: Any, rows: list[list[float]]) -> None:
    """Verify the bodies of models that take vectors."""
    headers = {**KSERVE, "ce-inferenceservicename": "other"}
    (asked,) = intake.events(headers, orjson.dumps(body))
    assert [row["features"] for row in asked["rows"]] == rows
    assert (asked["model"], asked["version"]) == ("other", "unknown")


def test_named_tensors_are_columns(intake: Intake) -> None:
    """Verify a V2 request of a tensor for each column."""
    body = {
        "inputs": [
            {"name": "carrier", "shape": [2, 1], "datatype": "BYTES", "data": ["AA", "UA"]},
            {"name": "distance", "shape": [2], "datatype": "FP64", "data": [1.0, 2.0]},
        ]
    }
    (asked,) = intake.events(KSERVE, orjson.dumps(body))
    assert asked["rows"] == [
        {"entities": {"carrier": "AA"}, "request": {"distance": 1.0}},
        {"entities": {"carrier": "UA"}, "request": {"distance": 2.0}},
    ]


@pytest.mark.parametrize(
    ("body", "scores"),
    [
        pytest.param({"predictions": [0.5, 1]}, [0.5, 1], id="v1"),
        pytest.param({"predictions": [[0.5], [0.7]]}, [0.5, 0.7], id="v1-columns"),
        pytest.param({"predictions": [[0.2, 0.8]]}, [[0.2, 0.8]], id="v1-probabilities"),
        pytest.param(
            {"outputs": [{"name": "p", "shape": [2, 1], "datatype": "FP32", "data": [0.1, 0.2]}]},
            [0.1, 0.2], id="v2",
        ),
        pytest.param(
            {"outputs": [{"name": "p", "shape": [1], "data": [0.1]}, {"name": "c", "shape": [1], "data": ["x"]}]},
            [{"p": 0.1, "c": "x"}], id="v2-several-outputs",
        ),
        pytest.param({"error": "model is down"}, [], id="an-error"),
    ],
)  # fmt: skip
def test_answers(intake: Intake, body: Any, scores: list[Any]) -> None:
    """Verify the bodies that models answer with."""
    (answered,) = intake.events({**KSERVE, "ce-type": RESPONSE}, orjson.dumps(body))
    assert answered["scores"] == scores


@pytest.mark.parametrize("mode", ["binary", "structured", "encoded", "batched"])
def test_our_own_runtime_s_events_come_back_as_they_were(intake: Intake, mode: str) -> None:
    """Verify that nothing of a prediction is lost on its way through CloudEvents, in each content mode."""
    from monitoring.collector.pairing import whole

    origin = ours.Origin(source="/host/models/flights/versions/7", inference_service="flights")
    events = list(ours.events(RECORD, origin, (REQUEST, RESPONSE)))
    if mode == "batched":
        headers, body = ours.batched(events)
        halves = intake.events(dict(headers), body)
    else:
        halves = []
        for event in events:
            if mode == "binary":
                headers, body = ours.binary(event)
            else:
                headers = {"content-type": "application/cloudevents+json; charset=utf-8"}
                plain = dict(event)
                if mode == "encoded":
                    plain["data_base64"] = base64.b64encode(orjson.dumps(plain.pop("data"))).decode()
                body = orjson.dumps(plain)
            halves += intake.events({name.lower(): value for name, value in headers.items()}, body)
    (row,) = whole(halves[0], halves[1])
    assert {name: row[name] for name in RECORD} == RECORD


def test_lines_of_the_prediction_log_and_matrices(intake: Intake) -> None:
    """Verify that a line becomes an entry, a matrix one for each row."""
    matrix = {**RECORD, "request_id": "m", "rows": 2, "features": [1.0, 2.0, 3.0, 4.0], "score": [0.1, 0.2]}
    found = intake.predictions(orjson.dumps(RECORD) + b"\n\n" + orjson.dumps(matrix) + b"\n")
    assert [(row["request_id"], row["features"], row["score"]) for row in found] == [
        ("r1", [1.0, None, 3.0], 0.25), ("m/0", [1.0, 2.0], 0.1), ("m/1", [3.0, 4.0], 0.2),
    ]  # fmt: skip
    assert {name: found[0][name] for name in RECORD} == RECORD


@pytest.mark.parametrize(
    ("headers", "body", "said"),
    [
        pytest.param({"content-type": "application/json"}, b"{}", "is no CloudEvent: send ce-specversion", id="none"),
        pytest.param({**KSERVE, "ce-specversion": "0.3"}, b"{}", "'ce-specversion' is '0.3'", id="old"),
        pytest.param({**KSERVE, "ce-id": ""}, b"{}", "'ce-id' is ''", id="no-id"),
        pytest.param({**KSERVE, "ce-id": "a%1Fb"}, b"{}", "printable characters", id="a-key-s-separator"),
        pytest.param({**KSERVE, "ce-time": "noon"}, b"{}", "'ce-time' is 'noon'", id="no-time"),
        pytest.param(
            {**KSERVE, "ce-time": "2023-11-18T00:00:00Z"}, b'{"instances":[]}', "send epoch seconds up to now",
            id="the-future",
        ),
        pytest.param({**KSERVE, "ce-type": "x"}, b"{}", "event '7f2c' has type 'x'", id="another-type"),
        pytest.param(KSERVE, b"\x00\x01", "is not JSON", id="not-json"),
        pytest.param(KSERVE, b'{"rows":[]}', "has neither 'instances' (V1) nor 'inputs' (V2)", id="no-protocol"),
        pytest.param(
            {**KSERVE, "ce-inferenceservicename": "../up"}, b'{"instances":[]}', "cannot name one",
            id="a-path-for-a-model",
        ),
        pytest.param(
            {"content-type": "application/cloudevents-batch+json"}, b'[{"specversion":"1.0","id":"a"}]',
            "'[0].source' is None", id="one-of-a-batch",
        ),
        pytest.param({"content-type": "application/cloudevents-batch+json"}, b"{}", "no list of events", id="no-batch"),
        pytest.param(
            KSERVE, b'{"inputs":[{"name":"x","shape":[70000,0],"data":[]}]}', "event '7f2c': it has 70000 rows",
            id="rows-of-no-width",
        ),
        pytest.param(KSERVE, b'{"instances":[%s1]}' % (b"1," * 65_536), "send at most 65536 at once", id="many-rows"),
        pytest.param(
            KSERVE, b'{"inputs":[{"name":"x","shape":[2,2],"data":[1]}]}', "tensor 'x' has 1 values", id="a-wrong-shape"
        ),
    ],
)  # fmt: skip
def test_events_that_are_none_are_refused_by_name(
    intake: Intake, headers: dict[str, str], body: bytes, said: str
) -> None:
    """Verify that an error names what is wrong and its value."""
    with pytest.raises(UsageError) as refused:
        intake.events(headers, body)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"request_id": 7}, "'request_id' is 7", id="no-id"),
        pytest.param({"model": "a/b"}, "model 'a/b' cannot name one", id="a-path-for-a-model"),
        pytest.param({"at": NOON + 3 * 86400}, "its time is", id="the-future"),
        pytest.param({"at": True}, "its time is True", id="no-time"),
        pytest.param({"features": ["x"]}, "no list of numbers", id="text-for-a-vector"),
        pytest.param({"entities": "AA"}, "'entities' is 'AA'", id="no-object"),
        pytest.param({"rows": 2}, "it is no prediction", id="a-matrix-of-another-shape"),
    ],
)
def test_lines_that_are_none_are_refused_with_their_number(
    intake: Intake, change: dict[str, Any], said: str
) -> None:
    """Verify that nothing of the request is taken, and where the error is."""
    with pytest.raises(UsageError) as refused:
        intake.predictions(orjson.dumps(RECORD) + b"\n" + orjson.dumps({**RECORD, **change}))
    assert str(refused.value).startswith("line 2: ")
    assert said in str(refused.value)


def test_rows_of_a_post_are_counted_together(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that many events, or lines with matrices, are no way around the limit."""
    monkeypatch.setattr(payloads, "MOST_ROWS", 3)
    event = {
        "specversion": "1.0", "id": "a", "source": "/s", "type": RESPONSE, "inferenceservicename": "m",
        "data": {"predictions": [1, 2]},
    }  # fmt: skip
    headers = {"content-type": "application/cloudevents-batch+json"}
    assert len(intake.events(headers, orjson.dumps([event]))) == 1
    matrix = orjson.dumps({**RECORD, "rows": 2, "features": [1.0, 2.0], "score": [0.1, 0.2]}) + b"\n"
    assert len(intake.predictions(matrix)) == 2
    with pytest.raises(UsageError, match="it has 4 rows; send at most 3 at once"):
        intake.events(headers, orjson.dumps([event, event]))
    with pytest.raises(UsageError, match="it has 4 rows; send at most 3 at once"):
        intake.predictions(matrix + matrix)


def test_only_known_models_where_that_is_asked(tmp_path: Path, project: Path) -> None:
    """Verify that a collector can refuse models of which nobody states what is personal."""
    names = Names(Settings(home=tmp_path, project=project))
    strict = Intake(names, None, lambda: NOON, known_only=True)
    assert len(strict.predictions(orjson.dumps(RECORD))) == 1
    with pytest.raises(UsageError, match="is no workload of this project"):
        strict.predictions(orjson.dumps({**RECORD, "model": "other"}))


def test_names_of_a_version_s_inputs_come_from_its_bundle(tmp_path: Path, project: Path) -> None:
    """Verify that the bundle is asked first, then the workload, and nobody is guessed."""
    settings = Settings(home=tmp_path, project=project)
    bundle = settings.bundles_dir / "flights" / "3" / "serving.json"
    bundle.parent.mkdir(parents=True)
    bundle.write_bytes(orjson.dumps({"inputs": [{"name": "a"}, {"name": "b"}]}))
    names = Names(replace(settings))
    assert names.inputs("flights", "3") == ("a", "b")
    assert "distance" in names.inputs("flights", "4")
    assert names.inputs("nobody", "1") == ()


def test_a_workload_that_cannot_be_loaded_is_not_an_unknown_one(tmp_path: Path) -> None:
    """Verify that what is sent waits until the workload is mended, instead of being stored as if it had no rules."""
    folder = tmp_path / "workloads" / "mine"
    folder.mkdir(parents=True)
    (folder / "workload.py").write_text("raise RuntimeError('half edited')")
    intake = Intake(Names(Settings(home=tmp_path, project=tmp_path)), None, lambda: NOON)
    with pytest.raises(BrokenWorkloadError, match="workload 'mine' cannot be loaded \\(half edited\\)"):
        intake.predictions(orjson.dumps({**RECORD, "model": "mine"}))
    assert BrokenWorkloadError.exit_code == 1, "a follower waits for it and passes no line over"


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        pytest.param({"route": "arm", "unit": "00c0ffee00c0ffee"}, ("arm", "00c0ffee00c0ffee"), id="an-arm"),
        pytest.param({}, (None, None), id="nothing"),
        pytest.param({"route": "a\nb", "unit": 7}, (None, None), id="nothing-that-is-text"),
        pytest.param({"route": "r" * 513}, (None, None), id="too-long"),
    ],
)
def test_what_the_router_said_comes_with_a_prediction_and_never_costs_it(
    intake: Intake, told: dict[str, Any], kept: tuple[str | None, str | None]
) -> None:
    """Verify both ways in which our runtime sends."""
    record = {**RECORD, **told}
    (row,) = intake.predictions(orjson.dumps(record))
    assert (row["route"], row["unit"]) == kept
    origin = ours.Origin(source="/pod/models/flights/versions/7", inference_service="flights")
    headers, body = ours.batched(list(ours.events(record, origin, (REQUEST, RESPONSE))))
    (_, answered) = intake.events(dict(headers), body)
    assert (answered["route"], answered["unit"]) == kept


def test_another_server_s_answer_names_no_unit(intake: Intake) -> None:
    """Verify that a model which repeats what its caller sent does not make up evidence."""
    answer = {"outputs": [{"name": "y", "shape": [1], "datatype": "FP32", "data": [1.0]}],
              "parameters": {"route": "arm", "unit": "00c0ffee00c0ffee"}}  # fmt: skip
    (answered,) = intake.events({**KSERVE, "ce-type": RESPONSE}, orjson.dumps(answer))
    assert (answered.get("route"), answered.get("unit")) == (None, None)
