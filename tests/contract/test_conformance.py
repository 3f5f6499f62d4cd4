"""The server judged by clients that nobody here wrote: Triton's and KServe's, and schemathesis on its OpenAPI document.

Each client runs in a process of its own, in an environment of its own: KServe's and Triton's packages register the
same names in protobuf's pool. What a client made of the answers comes back as one JSON object; the tests read it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import model_server
import numpy as np
import pytest
import serving_bundles

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
CLIENTS = ("triton http", "triton grpc", "kserve v1", "kserve v2", "kserve grpc")
TRITON, V2 = CLIENTS[:2], CLIENTS[3:]
EXAMPLES = 20
PATIENCE_S = 500

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@dataclass(frozen=True)
class Subject:
    """The server under test, and what its models answer by their own libraries."""

    http: int
    grpc: int
    plain: serving_bundles.Bundle
    flights: list[float]


@pytest.fixture(scope="session")
def environment() -> Path:
    """The clients' environment, made where it is not there; workers of pytest-xdist wait for each other."""
    place = ROOT / ".tools" / "conformance"
    lock = ROOT / "requirements" / "conformance.lock"
    command = [sys.executable, ROOT / "requirements" / "environment.py", "--lock", lock, "--venv", place]
    subprocess.run(command, check=True)
    return place / "bin"


@pytest.fixture(scope="session")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    folder = tmp_path_factory.mktemp("conformance")
    plain = serving_bundles.plain(folder / "plain")
    features = serving_bundles.with_features(folder / "features")
    serving_bundles.write_store(folder / "online.db")
    for version in ("1", "2"):
        serving_bundles.plain(folder / "repository" / "spare" / version, "spare", version)
    bundles = (plain.folder, features.folder, serving_bundles.tensors(folder / "tensors"))
    with model_server.running(
        *(argument for bundle in bundles for argument in ("--bundle", str(bundle))),
        *("--online", f"sqlite:{folder / 'online.db'}", "--repository", str(folder / "repository")),
        *("--replay-clock", "--as-of", str(serving_bundles.NOW)),
    ) as ports:
        yield Subject(ports.http, ports.grpc, plain, _flights(features))
        assert not [line for line in ports.errors if "Traceback" in line]


@pytest.fixture(scope="session")
def told(environment: Path, subject: Subject) -> Any:
    """What a client was told, by the client's name; each asks once."""

    @cache
    def ask(client: str) -> dict[str, Any]:
        whose, protocol = client.split()
        port = subject.grpc if protocol == "grpc" else subject.http
        scheme = "http://" if whose == "kserve" and protocol != "grpc" else ""
        questions = {
            "address": f"{scheme}127.0.0.1:{port}",
            "rows": subject.plain.rows.tolist(),
            "token": model_server.TOKEN,
        }
        asked = subprocess.run(
            [environment / "python", HERE / "clients" / f"ask_{whose}.py", protocol],
            input=json.dumps(questions),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert asked.returncode == 0, asked.stderr[-4000:]
        answers: dict[str, Any] = json.loads(asked.stdout)
        return answers

    return ask


def _flights(features: serving_bundles.Bundle) -> list[float]:
    """The scores of the three rows that every client sends, by XGBoost itself."""
    import xgboost

    booster = xgboost.Booster(model_file=features.folder / "model.ubj")
    stored = list(serving_bundles.STORED.values())
    rows = [[*stored, -0.5, 0.0], [*stored, 0.25, 1.0], [*stored, 1.5, 1.0]]
    scores: list[float] = booster.predict(xgboost.DMatrix(np.array(rows, dtype=np.float32))).tolist()
    return scores


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_finds_the_server_and_its_model_alive(told: Any, client: str) -> None:
    """Verify that health and readiness read as true."""
    answers = told(client)
    assert answers["live"] is answers["model ready"] is answers.get("ready", True) is True


@pytest.mark.parametrize(
    ("client", "ways"),
    [
        pytest.param(
            "triton http", ("raw", "JSON", "FP64", "version", "output named", "timeout"), id="triton-http"
        ),
        pytest.param("triton http", ("gzip", "deflate"), id="triton-http-compressed"),
        pytest.param("triton grpc", ("raw", "FP64", "version", "output named", "timeout"), id="triton-grpc"),
        pytest.param("triton grpc", ("gzip", "deflate"), id="triton-grpc-compressed"),
        pytest.param("kserve v1", ("rows",), id="kserve-v1"),
        pytest.param("kserve v2", ("raw", "typed", "FP64"), id="kserve-v2"),
        pytest.param("kserve grpc", ("raw", "typed", "FP64"), id="kserve-grpc"),
    ],
)
def test_a_client_gets_the_scores_of_the_model(
    told: Any, subject: Subject, client: str, ways: tuple[str, ...]
) -> None:
    """Verify that each encoding of the rows gives what the model's own library gives."""
    for way in ways:
        scores = told(client)[way]
        if isinstance(scores, dict):
            scores = scores["outputs"]["probability"]
        assert scores == pytest.approx(subject.plain.scores, abs=1e-6), way


@pytest.mark.parametrize(
    ("client", "ways"),
    [
        *((client, ("features",)) for client in CLIENTS[:3]),
        *((client, ("features raw", "features typed")) for client in V2),
    ],
)
def test_features_come_from_the_store(
    told: Any, subject: Subject, client: str, ways: tuple[str, ...]
) -> None:
    """Verify that a client sends keys and fields, and the score is that of the stored features."""
    for way in ways:
        scores = told(client)[way]
        if isinstance(scores, dict):
            scores = scores["outputs"]["probability"]
        assert scores == pytest.approx(subject.flights, abs=1e-6), way


@pytest.mark.parametrize("client", TRITON)
@pytest.mark.parametrize("way", ["kinds raw", "kinds JSON"])
def test_values_of_every_kind_survive_the_way_of_triton(told: Any, client: str, way: str) -> None:
    """Verify texts beyond ASCII, whole numbers beyond a double's and doubles beyond a float's, there and back."""
    assert told(client)[way] == {
        "text_out": ["a", "ü", "", "b c"],
        "count_out": [2, 3, -2, 2**62 + 1],
        "amount_out": [0.25, 5e299, -1.0, 1.5],
    }


@pytest.mark.parametrize("client", V2)
@pytest.mark.parametrize("way", ["kinds raw", "kinds typed"])
def test_values_of_every_kind_survive_the_way_of_kserve(told: Any, client: str, way: str) -> None:
    """Verify the same, and that KServe's client reads shapes and names."""
    found = told(client)[way]
    expected = {"text_out": ["a", "ü"], "count_out": [2, 3], "amount_out": [0.25, 5e299]}
    assert found["outputs"] == expected
    assert found["shapes"] == {name: [1, 2] for name in expected}
    assert (found["id"], found["model_name"]) == ("request-7", "kinds")
    assert told(client)["one output"]["outputs"] == {"count_out": [2, 3]}


def test_kserve_v1_reads_several_outputs(told: Any) -> None:
    """Verify that a prediction of several outputs is an object of their names."""
    expected = {"text_out": ["a", "ü"], "count_out": [2, 3], "amount_out": [0.25, 5e299]}
    assert told("kserve v1")["kinds"] == [expected]


@pytest.mark.parametrize("client", TRITON)
def test_metadata_names_what_a_model_takes(told: Any, client: str) -> None:
    """Verify that a caller who knows only the model's name can write a request."""
    found = told(client)["metadata"]

    def tensors(model: str, of: str) -> list[tuple[str, str, list[int]]]:
        return [(t["name"], t["datatype"], [int(n) for n in t["shape"]]) for t in found[model][of]]

    assert tensors("tumours", "inputs") == [("features", "FP32", [-1, 30])]
    assert tensors("tumours", "outputs") == [("probability", "FP32", [-1])]
    assert tensors("flights", "inputs") == [
        ("carrier", "BYTES", [-1]),
        ("distance", "FP64", [-1]),
        ("origin", "BYTES", [-1]),
    ]
    assert tensors("kinds", "inputs") == [
        ("text", "BYTES", [-1, 2]),
        ("count", "INT64", [-1, 2]),
        ("amount", "FP64", [-1, 2]),
    ]
    assert {found[m]["platform"] for m in ("tumours", "kinds")} == {"xgboost_ubj", "onnxruntime_onnx"}
    assert told(client)["server"]["name"] == "windlass"


@pytest.mark.parametrize("client", TRITON)
def test_an_answer_says_whose_it_is(told: Any, client: str) -> None:
    """Verify model, version, the request's id and the parameters of an answer."""
    answer = told(client)["answer"]
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("tumours", "1", "request-7")
    parameters = {n: v["string_param"] if isinstance(v, dict) else v for n, v in answer["parameters"].items()}
    assert parameters == {"feature_source": "online", "answered_by": "model"}


@pytest.mark.parametrize("client", TRITON)
def test_models_come_and_go_while_the_server_runs(told: Any, subject: Subject, client: str) -> None:
    """Verify the index, and that the newest version is loaded, answers, and is gone after unload."""
    index = told(client)["index"]
    entries = index["models"] if isinstance(index, dict) else index
    states = {(e["name"], e["version"]): e["state"] for e in entries}
    assert states[("tumours", "1")] == states[("kinds", "1")] == "READY"
    assert states[("spare", "1")] == states[("spare", "2")] == "UNAVAILABLE"
    ready, scores = told(client)["loaded"]
    assert ready is True
    assert scores == pytest.approx(subject.plain.scores, abs=1e-6)


def test_kserves_own_load_request_is_understood(told: Any) -> None:
    """Verify load and unload by KServe's messages, in which the model's name is another field than in Triton's."""
    assert told("kserve grpc")["loaded"] == [True, True, True]


HTTP = {"bad": "400", "missing": "404", "token": "401", "unknown": "404"}
GRPC = {
    "bad": "StatusCode.INVALID_ARGUMENT",
    "missing": "StatusCode.NOT_FOUND",
    "token": "StatusCode.UNAUTHENTICATED",
    "unknown": "StatusCode.UNIMPLEMENTED",
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("request_", "kind", "names"),
    [
        pytest.param("model", "missing", "'nobody'", id="unknown-model"),
        pytest.param("shape", "bad", "30", id="wrong-shape"),
        pytest.param("key", "bad", "carrier", id="missing-entity-key"),
    ],
)
def test_a_client_raises_what_the_server_said(
    told: Any, client: str, request_: str, kind: str, names: str
) -> None:
    """Verify that the error which a client raises has the right status and names what is wrong."""
    found = told(client)["refused"][request_]
    assert found["status"] == (GRPC if client.endswith("grpc") else HTTP)[kind]
    assert names in found["message"]


@pytest.mark.parametrize("client", TRITON)
@pytest.mark.parametrize(
    ("request_", "kind", "names"),
    [
        pytest.param("version", "missing", "'9'", id="unknown-version"),
        pytest.param("unloaded", "missing", "'spare'", id="unloaded-model"),
        pytest.param("datatype", "bad", "inputs[0] 'features'.datatype", id="text-for-numbers"),
        pytest.param("output", "bad", "outputs[0].name", id="unknown-output"),
        pytest.param("timeout", "bad", "parameters.timeout", id="negative-timeout"),
        pytest.param("no token", "token", "authorization", id="no-token"),
        pytest.param("wrong token", "token", "authorization", id="wrong-token"),
        pytest.param("load", "missing", "'nobody'", id="load-of-an-unknown-model"),
        pytest.param("config", "unknown", "", id="tritons-own-configuration"),
    ],
)
def test_triton_raises_what_the_server_said(
    told: Any, client: str, request_: str, kind: str, names: str
) -> None:
    """Verify the same of what only Triton's clients ask."""
    found = told(client)["refused"][request_]
    assert found["status"] == (GRPC if client.endswith("grpc") else HTTP)[kind]
    assert names in found["message"]


def test_the_openapi_document_is_what_the_server_does(
    environment: Path, subject: Subject, tmp_path: Path
) -> None:
    """Verify with schemathesis that no request made from the document gets an answer that it does not describe."""
    judged = subprocess.run(
        [
            *(environment / "st", "--config-file", HERE / "schemathesis.toml", "run"),
            *("--max-examples", str(EXAMPLES), "--seed", "1", "--no-color"),
            *("--header", f"Authorization: Bearer {model_server.TOKEN}"),
            f"http://127.0.0.1:{subject.http}/openapi.json",
        ],
        cwd=tmp_path,  # where it leaves its notes
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert judged.returncode == 0, judged.stdout[-8000:] + judged.stderr[-2000:]
