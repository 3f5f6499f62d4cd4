"""The server as a process, asked over HTTP by a client that nobody here wrote."""

from __future__ import annotations

import math
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

NOW = 1_360_000_000.0
DAY = 86_400
MakeBundle = Callable[..., Path]
OnlineDb = Callable[..., Path]
Start = Callable[..., Any]
Score = Callable[[Sequence[float]], float]
INSTANCE = {"carrier": "UA", "origin": "JFK", "distance": 1400}
VECTOR = [11.5, 0.4, 31.0, 1400.0, 2.0]
NAN = math.nan


def tensor(name: str, datatype: str, data: list[Any], shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def test_v1_scores_with_the_features_of_the_online_store(shared: Any, score: Score) -> None:
    answer = shared.predict(INSTANCE)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-windlass-version"] == "3"
    assert answer.headers["x-windlass-feature-source"] == "online"
    document = answer.json()
    assert document["feature_source"] == "online"
    assert document["predictions"] == pytest.approx([score(VECTOR)], rel=1e-5)


def test_v1_scores_several_instances_in_their_order(shared: Any, score: Score) -> None:
    instances = [{**INSTANCE, "distance": d} for d in (200, 1400, 2600)]
    answer = shared.client.post(
        "/v1/models/flights:predict", json={"instances": instances}, headers={"x-windlass-at": str(NOW)}
    )
    expected = [score([11.5, 0.4, 31.0, float(i["distance"]), 2.0]) for i in instances]
    assert answer.json()["predictions"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("path", ["/v2/models/flights/infer", "/v2/models/flights/versions/3/infer"])
def test_v2_scores_tensors(shared: Any, score: Score, path: str) -> None:
    answer = shared.client.post(
        path,
        json={
            "id": "request-7",
            "inputs": [
                tensor("carrier", "BYTES", ["UA", "UA"]),
                tensor("origin", "BYTES", ["JFK", "none"]),
                tensor("distance", "FP32", [[1400.0], [200.0]], [2, 1]),
            ],
            "outputs": [{"name": "probability"}],
        },
        headers={"x-windlass-at": str(NOW)},
    )
    document = answer.json()
    assert (document["model_name"], document["model_version"], document["id"]) == (
        "flights",
        "3",
        "request-7",
    )
    assert document["parameters"] == {"feature_source": "online", "answered_by": "model"}
    [output] = document["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("probability", "FP32", [2])
    assert output["data"] == pytest.approx([score(VECTOR), score([11.5, 0.4, NAN, 200.0, 2.0])], rel=1e-5)
    assert answer.headers["x-request-id"] == "request-7"


@pytest.mark.parametrize(
    ("instance", "vector"),
    [
        pytest.param({}, [11.5, 0.4, 31.0, 900.0, 2.0], id="a-missing-field-takes-its-default"),
        pytest.param({"distance": None}, [11.5, 0.4, 31.0, NAN, 2.0], id="a-null-is-missing"),
        pytest.param(
            {"distance": 1.5, "unknown": {}},
            [11.5, 0.4, 31.0, 1.5, 2.0],
            id="another-versions-field-is-ignored",
        ),
        pytest.param(
            {"origin": "none", "distance": 1}, [11.5, 0.4, NAN, 1.0, 2.0], id="an-absent-key-is-missing"
        ),
        pytest.param(
            {"carrier": "ZZ", "distance": 1}, [NAN, NAN, 31.0, 1.0, NAN], id="an-unknown-category-is-missing"
        ),
    ],
)
def test_what_is_not_there_is_what_it_was_in_training(
    shared: Any, score: Score, instance: dict[str, Any], vector: list[float]
) -> None:
    answer = shared.predict({"carrier": "UA", "origin": "JFK", **instance})
    assert answer.json()["predictions"] == pytest.approx([score(vector)], rel=1e-5)
    record = shared.record(answer.headers["x-request-id"])
    assert record["features"] == [None if math.isnan(v) else v for v in vector]


def test_an_expired_row_is_missing_and_online(shared: Any, score: Score) -> None:
    answer = shared.predict(INSTANCE, at=NOW + DAY + 1)
    assert answer.json()["predictions"] == pytest.approx([score([NAN, NAN, NAN, 1400.0, 2.0])], rel=1e-5)
    assert answer.headers["x-windlass-feature-source"] == "online"


def test_without_a_replay_clock_the_header_is_not_the_time(
    make_bundle: MakeBundle, online_db: OnlineDb, start: Start, tmp_path: Path
) -> None:
    script = tmp_path / "server.py"
    script.write_text(
        "import sys\nfrom serving.runtime.__main__ import main\n"
        "sys.exit(main([a for a in sys.argv[1:] if a != '--replay-clock']))\n"
    )
    path = online_db([("origin_load", "origin", "JFK", {"departures": 31.0})])
    server = start(make_bundle(), f"sqlite:{path}", script=script)
    before = time.time()
    assert server.predict(INSTANCE).status_code == 200
    [record] = server.records(1)
    assert before <= record["at"] <= time.time()
    assert record["features"][:3] == [None] * 3  # what is new at the header's time expired years ago


def test_every_prediction_is_logged_with_its_vector(shared: Any) -> None:
    answer = shared.predict(INSTANCE, **{"x-request-id": "abc-1"})
    assert answer.headers["x-request-id"] == "abc-1"
    record = shared.record("abc-1")
    assert record.pop("latency_ms") > 0
    assert record == {
        "request_id": "abc-1",
        "model": "flights",
        "version": "3",
        "at": NOW,
        "entities": {"carrier": "UA", "origin": "JFK"},
        "request": {"distance": 1400, "carrier": "UA"},
        "features": VECTOR,
        "score": answer.json()["predictions"][0],
        "source": "online",
        "answered_by": "model",
        "mirrored": False,
    }


def test_rows_of_a_batch_are_logged_apart(shared: Any) -> None:
    body = {"instances": [INSTANCE, {**INSTANCE, "origin": "none"}]}
    shared.client.post(
        "/v1/models/flights:predict", json=body, headers={"x-request-id": "b", "x-windlass-at": str(NOW)}
    )
    assert [shared.record(f"b/{i}")["entities"]["origin"] for i in (0, 1)] == ["JFK", "none"]


def test_a_request_without_an_id_gets_one(shared: Any) -> None:
    answer = shared.predict(INSTANCE)
    stated = answer.headers["x-request-id"]
    assert str(uuid.UUID(stated)) == stated
    assert shared.record(stated)["source"] == "online"


@pytest.mark.parametrize(
    ("host", "mirrored"),
    [
        pytest.param("flights-shadow", True, id="name"),
        pytest.param("127.0.0.1-shadow:10000", True, id="before-the-port"),
        pytest.param("flights", False, id="plain"),
        pytest.param("flights-shadowy:80", False, id="another-name"),
        pytest.param("flights:80", False, id="plain-with-port"),
    ],
)
def test_a_mirrored_request_is_marked(shared: Any, host: str, mirrored: bool) -> None:
    answer = shared.predict(INSTANCE, host=host)
    assert shared.record(answer.headers["x-request-id"])["mirrored"] is mirrored


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "/v2",
            {
                "name": "windlass",
                "version": "3",
                "extensions": ["binary_tensor_data", "model_repository"],
            },
        ),
        ("/", {"status": "alive"}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/flights/ready", {"name": "flights", "ready": True}),
        ("/v2/models/flights/versions/3/ready", {"name": "flights", "ready": True}),
        ("/v1/models/flights", {"name": "flights", "ready": True}),
        ("/v1/models", {"models": ["flights"]}),
        ("/v2/health/ready?verbose=1", {"ready": True}),
        ("/v2/health/ready/", {"ready": True}),
    ],
)
def test_says_what_it_is_and_that_it_is_ready(shared: Any, path: str, expected: dict[str, Any]) -> None:
    answer = shared.client.get(path)
    assert (answer.status_code, answer.json()) == (200, expected)
    head = shared.client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(answer.content))


def test_metadata_names_each_tensor_once(shared: Any) -> None:
    document = shared.client.get("/v2/models/flights").json()
    assert (document["name"], document["versions"]) == ("flights", ["3"])
    assert document["inputs"] == [
        {"name": "carrier", "datatype": "BYTES", "shape": [-1]},
        {"name": "origin", "datatype": "BYTES", "shape": [-1]},
        {"name": "distance", "datatype": "FP64", "shape": [-1]},
    ]
    assert document["outputs"] == [{"name": "probability", "datatype": "FP32", "shape": [-1]}]


V1 = "/v1/models/flights:predict"
V2 = "/v2/models/flights/infer"
KEYS = [tensor("carrier", "BYTES", ["UA"]), tensor("origin", "BYTES", ["JFK"])]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        pytest.param(V1, b"{", "the body is not JSON", id="v1-malformed"),
        pytest.param(V1, b"", "the body is not JSON", id="v1-empty"),
        pytest.param(V1, b"\xff\xfe", "the body is not JSON", id="v1-no-utf8"),
        pytest.param(V1, b"[" * 10_000, "the body is not JSON", id="v1-deep"),
        pytest.param(V1, [], "the body: got a list of 0, expected a JSON object", id="v1-list"),
        pytest.param(V1, {}, "instances: got null, expected a list of rows", id="v1-no-instances"),
        pytest.param(
            V1, {"instances": {}}, "instances: got an object, expected a list", id="v1-instances-object"
        ),
        pytest.param(V1, {"instances": []}, "instances: holds 0 rows, expected 1 to", id="v1-no-rows"),
        pytest.param(
            V1, {"instances": [INSTANCE] * 5000}, "instances: holds 5000 rows", id="v1-too-many-rows"
        ),
        pytest.param(
            V1, {"instances": [3]}, "instances[0]: got 3, expected an object", id="v1-row-is-a-number"
        ),
        pytest.param(
            V1,
            {"instances": [INSTANCE, {"carrier": "UA"}]},
            "instances[1].origin: the entity key is missing",
            id="v1-key",
        ),
        pytest.param(
            V1,
            {"instances": [{**INSTANCE, "origin": 7}]},
            "instances[0].origin: got 7, expected a string (an entity key)",
            id="v1-key-type",
        ),
        pytest.param(
            V1,
            {"instances": [{**INSTANCE, "origin": None}]},
            "instances[0].origin: got null",
            id="v1-key-null",
        ),
        pytest.param(
            V1,
            {"instances": [{**INSTANCE, "distance": "far"}]},
            "instances[0].distance: got 'far' (a string), expected a number",
            id="v1-field-type",
        ),
        pytest.param(
            V1,
            {"instances": [{**INSTANCE, "distance": True}]},
            "instances[0].distance: got true (a boolean), expected a number",
            id="v1-field-boolean",
        ),
        pytest.param(
            V1,
            {"instances": [{**INSTANCE, "distance": [1]}]},
            "distance: got a list of 1",
            id="v1-field-list",
        ),
        pytest.param(
            V1,
            b'{"instances": [{"carrier": "UA", "origin": "JFK", "distance": 1e39}]}',
            "instances[0].distance: got 1e+39, expected a finite number",
            id="v1-field-too-large",
        ),
        pytest.param(
            V1,
            b'{"instances": [{"carrier": "UA", "origin": "JFK", "distance": Infinity}]}',
            "instances[0].distance: got inf, expected a finite number",
            id="v1-infinity",
        ),
        pytest.param(
            V1,
            b'{"instances": [{"carrier": "UA", "origin": "JFK", "distance": 1e999}]}',
            "distance|not JSON",
            id="v1-inf",
        ),
        pytest.param(V2, b"nonsense", "the body is not JSON", id="v2-malformed"),
        pytest.param(V2, {}, "inputs: got null, expected a list of tensors", id="v2-no-inputs"),
        pytest.param(V2, {"inputs": []}, "inputs: holds no tensor", id="v2-no-tensor"),
        pytest.param(
            V2, {"inputs": [3]}, "inputs[0]: got 3, expected a tensor object", id="v2-tensor-is-a-number"
        ),
        pytest.param(V2, {"inputs": [{}]}, "inputs[0].name: got null", id="v2-no-name"),
        pytest.param(V2, {"id": 7, "inputs": KEYS}, "id: got 7, expected a string", id="v2-id"),
        pytest.param(V2, {"inputs": KEYS[:1]}, "inputs.origin: the entity key is missing", id="v2-key"),
        pytest.param(V2, {"inputs": KEYS + KEYS[:1]}, "the tensor 'carrier' is given twice", id="v2-twice"),
        pytest.param(
            V2,
            {"inputs": [*KEYS, tensor("distance", "FP64", [1.0, 2.0])]},
            "inputs[2] 'distance': has 2 rows, those before it have 1",
            id="v2-rows-differ",
        ),
        pytest.param(
            V2,
            {"inputs": [tensor("carrier", "TEXT", ["UA"])]},
            "inputs[0] 'carrier'.datatype: got 'TEXT' (a string), expected one of BOOL, BYTES",
            id="v2-datatype",
        ),
        pytest.param(
            V2,
            {"inputs": [tensor("carrier", "BYTES", ["UA"], [2])]},
            "holds 1 values, its shape says 2",
            id="v2-shape",
        ),
        pytest.param(
            V2,
            {"inputs": [tensor("carrier", "BYTES", ["UA"], [1, 2])]},
            "got [1, 2], expected [n] or [n, 1]",
            id="v2-rank",
        ),
        pytest.param(
            V2,
            {"inputs": [tensor("carrier", "BYTES", ["UA"], [-1])]},
            "got -1, expected a size",
            id="v2-negative",
        ),
        pytest.param(
            V2,
            {"inputs": [tensor("carrier", "BYTES", [3])]},
            "inputs[0] 'carrier'.data[0]: got 3, expected a string (BYTES)",
            id="v2-bytes",
        ),
        pytest.param(
            V2,
            {"inputs": [*KEYS, tensor("distance", "INT64", [1.5])]},
            "inputs[2] 'distance'.data[0]: got 1.5, expected an integer (INT64)",
            id="v2-integer",
        ),
        pytest.param(
            V2,
            {"inputs": [*KEYS, tensor("distance", "BYTES", ["far"])]},
            "inputs.distance: got 'far' (a string), expected a number",
            id="v2-field-type",
        ),
        pytest.param(
            V2,
            {"inputs": KEYS, "outputs": [{"name": "logit"}]},
            "expected the only output, 'probability'",
            id="v2-output",
        ),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(shared: Any, path: str, body: Any, message: str) -> None:
    sent = {"content": body} if isinstance(body, bytes) else {"json": body}
    answer = shared.client.post(path, **sent)
    assert answer.status_code == 400
    assert any(part in answer.json()["error"] for part in message.split("|")), answer.json()
    # and the connection still serves
    assert shared.predict(INSTANCE).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("POST", "/v1/models/trains:predict", 404, "model 'trains' is not served here; served is 'flights'"),
        ("POST", "/v2/models/trains/infer", 404, "model 'trains' is not served here"),
        (
            "POST",
            "/v2/models/flights/versions/4/infer",
            404,
            "version '4' of 'flights' is not served here; served is '3'",
        ),
        ("GET", "/v2/models/flights/stats", 404, "there is nothing at '/v2/models/flights/stats'"),
        ("GET", "/v3", 404, "there is nothing at '/v3'"),
        ("GET", "/v1/models/flights:predict", 405, "takes POST, not GET"),
        ("DELETE", "/v2/health/live", 405, "takes GET, not DELETE"),
    ],
)
def test_an_unknown_target_is_named(shared: Any, method: str, path: str, status: int, message: str) -> None:
    answer = shared.client.request(method, path)
    assert answer.status_code == status
    assert message in answer.json()["error"]
    assert answer.headers["x-windlass-version"] == "3"


@pytest.mark.parametrize(
    ("headers", "status", "message"),
    [
        pytest.param({"x-windlass-at": "yesterday"}, 400, "header x-windlass-at: got 'yesterday'", id="time"),
        pytest.param({"x-windlass-at": "inf"}, 400, "header x-windlass-at", id="infinite-time"),
        pytest.param({"x-request-id": "a b"}, 400, "header x-request-id", id="id-with-space"),
        pytest.param({"x-request-id": "i" * 129}, 400, "header x-request-id", id="long-id"),
        pytest.param({"inference-header-content-length": "10"}, 400, "not JSON", id="header-in-the-middle"),
        pytest.param(
            {"inference-header-content-length": "x"},
            400,
            "inference-header-content-length: got 'x'",
            id="length",
        ),
        pytest.param({"content-encoding": "gzip"}, 400, "the body is no gzip", id="not-compressed"),
        pytest.param({"content-encoding": "br"}, 415, "content-encoding", id="unknown-compression"),
    ],
)
def test_a_header_that_is_not_understood_is_named(
    shared: Any, headers: dict[str, str], status: int, message: str
) -> None:
    answer = shared.client.post(V2, json={"inputs": KEYS}, headers=headers)
    assert answer.status_code == status
    assert message in answer.json()["error"]


def test_metrics_count_what_was_answered(
    make_bundle: MakeBundle, online_db: OnlineDb, start: Start, wait_until: Callable[..., None]
) -> None:
    server = start(make_bundle(), f"sqlite:{online_db()}")
    for _ in range(3):
        server.predict(INSTANCE)
    server.client.post(V2, json={})
    # a record is counted a moment after it can be read
    kept = 'windlass_log_records_total{model="flights",version="3"} 3'
    wait_until(lambda: kept in server.client.get("/metrics").text.splitlines())
    assert len(server.records(3)) == 3
    answer = server.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {
        (s.name, *sorted((k, v) for k, v in s.labels.items() if k not in ("model", "version"))): s.value
        for family in text_string_to_metric_families(answer.text)
        for s in family.samples
    }
    assert samples["windlass_requests_total", ("assigned", "true"), ("code", "200"), ("protocol", "v1")] == 3
    assert samples["windlass_requests_total", ("assigned", "true"), ("code", "400"), ("protocol", "v2")] == 1
    assert samples["windlass_predictions_total",] == 3
    assert samples["windlass_feature_rows_total", ("source", "online")] == 3
    assert samples["windlass_log_records_total",] == 3
    assert samples["windlass_log_dropped_total",] == 0
    assert samples["windlass_request_seconds_count", ("assigned", "true")] == 4
    assert samples["windlass_request_seconds_bucket", ("assigned", "true"), ("le", "+Inf")] == 4
    assert samples["process_resident_memory_bytes",] > 1e7
    assert 'model="flights",version="3"' in answer.text


@pytest.mark.parametrize(
    ("path", "route", "assigned"),
    [
        pytest.param("/v1/models/flights:predict", None, "true", id="nobody-says"),
        pytest.param("/v1/models/flights:predict", "arm", "true", id="assigned"),
        pytest.param("/v2/models/flights/infer", "segment/match", "true", id="a-segment-called-so"),
        pytest.param("/v1/models/flights:predict", "match", "false", id="chosen"),
        pytest.param("/v2/models/flights/infer", "match", "false", id="chosen-v2"),
        pytest.param("/v2/models/flights/infer?", "unassigned", "false", id="without-a-unit"),
        pytest.param("/v2/models/flights/versions/3/infer", "weights", "false", id="named-in-the-path"),
    ],
)
def test_whoever_chose_the_version_is_counted_apart(
    shared: Any, path: str, route: str | None, assigned: str
) -> None:
    """Verify that the router's word decides, or the version in the path, of answers as of refusals."""
    inputs = [
        tensor("carrier", "BYTES", ["UA"]),
        tensor("origin", "BYTES", ["JFK"]),
        tensor("distance", "FP32", [9.0]),
    ]
    good = {"instances": [INSTANCE]} if ":" in path else {"inputs": inputs}

    def counted() -> dict[tuple[str, str], float]:
        """Responses of the version by label and status."""
        found: dict[tuple[str, str], float] = {}
        for family in text_string_to_metric_families(shared.client.get("/metrics").text):
            for sample in family.samples:
                if sample.name == "windlass_requests_total" and sample.labels["model"]:
                    key = (sample.labels["assigned"], sample.labels["code"])
                    found[key] = found.get(key, 0) + sample.value
        return found

    before = counted()
    for body, status in ((good, 200), ({}, 400)):
        answer = shared.client.post(
            path, json=body, headers={} if route is None else {"x-windlass-route": route}
        )
        assert answer.status_code == status, answer.text
    added = {key: value - before.get(key, 0) for key, value in counted().items()}
    assert {key: value for key, value in added.items() if value} == {
        (assigned, "200"): 1,
        (assigned, "400"): 1,
    }


def test_a_server_imports_nothing_heavy() -> None:
    program = """
import sys
import serving.runtime.__main__, serving.runtime.features.sqlite_reader
print(sorted(set(sys.argv[1:]) & set(sys.modules)))
"""
    heavy = "feast mlflow pandas sklearn scipy onnx kfp ray tensorflow evidently boto3 redis duckdb pyarrow xgboost"
    command = [sys.executable, "-c", program, *heavy.split(), "google", "pydantic", "prometheus_client"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        pytest.param({"--bundle": "nowhere"}, 2, "serving.json is missing", id="no-bundle"),
        pytest.param({"--online": "nowhere"}, 2, "give sqlite:PATH or redis://", id="unknown-store"),
        pytest.param({"--port": "taken"}, 1, "is in use", id="port-in-use"),
        pytest.param({"--host": "203.0.113.1"}, 1, "cannot listen on 203.0.113.1", id="address-of-another"),
        pytest.param({"--log": "/proc/none/log"}, 1, "cannot write the prediction log", id="log"),
    ],
)
def test_a_start_that_cannot_be_says_why(
    make_bundle: MakeBundle, tmp_path: Path, shared: Any, change: dict[str, str], code: int, message: str
) -> None:
    options = {
        "--bundle": str(make_bundle()),
        "--port": "0",
        "--log": str(tmp_path / "log.jsonl"),
        "--online": f"sqlite:{tmp_path / 'online.db'}",
        **change,
    }
    if options["--port"] == "taken":
        options["--port"] = str(shared.port)
    arguments = [part for pair in options.items() for part in pair]
    done = subprocess.run(
        [sys.executable, "-m", "serving.runtime", *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        pytest.param({"x-windlass-route": "weights"}, {"route": "weights"}, id="by-weight"),
        pytest.param(
            {"x-windlass-route": "arm", "x-windlass-unit": "00c0ffee00c0ffee"},
            {"route": "arm", "unit": "00c0ffee00c0ffee"},
            id="an-assigned-unit",
        ),
        pytest.param(
            {"x-windlass-route": "segment/mobile", "x-windlass-unit": "made-up"},
            {"route": "segment/mobile"},
            id="a-unit-that-its-caller-made-up",
        ),
        pytest.param({"x-windlass-unit": "made-up"}, {}, id="no-route-of-ours"),
        pytest.param({"x-windlass-route": "r" * 513}, {}, id="longer-than-any-of-ours"),
        pytest.param({"x-windlass-route": 'a"b\\'}, {"route": 'a"b\\'}, id="marks-that-json-escapes"),
    ],
)
def test_what_the_router_says_is_kept_with_the_prediction(
    shared: Any, sent: dict[str, str], kept: dict[str, str], request: pytest.FixtureRequest
) -> None:
    """Verify that evidence of experiments and bandits is in the record, and no unit that nobody assigned."""
    name = f"way-{request.node.callspec.id}"
    assert shared.predict(INSTANCE, **{"x-request-id": name, **sent}).status_code == 200
    record = shared.record(name)
    assert {field: record[field] for field in ("route", "unit") if field in record} == kept
