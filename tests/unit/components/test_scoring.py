"""A parquet file scored by a real model server, and by one that answers otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import local_http
import model_server
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import serving_bundles
import yaml

from components import scoring
from serving.runtime import __main__ as runtime
from windlass.cli import app
from windlass.cli.app import run
from windlass.errors import DataError, UsageError, WindlassError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> serving_bundles.Bundle:
    return serving_bundles.plain(tmp_path_factory.mktemp("plain") / "bundle")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, bundle: serving_bundles.Bundle) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    features = serving_bundles.with_features(folder / "features")
    serving_bundles.write_store(folder / "online.db")
    with model_server.running(
        *("--bundle", str(bundle.folder), "--bundle", str(features.folder)),
        *("--online", f"sqlite:{folder / 'online.db'}"),
        *("--replay-clock", "--as-of", str(serving_bundles.NOW)),
    ) as ports:
        yield f"http://127.0.0.1:{ports.http}"


def tumours(path: Path, bundle: serving_bundles.Bundle, **more: list[Any]) -> Path:
    columns: dict[str, Any] = {f"f{i}": bundle.rows[:, i] for i in range(bundle.rows.shape[1])}
    pq.write_table(pa.table({**columns, **more}), path)
    return path


def test_each_row_gets_the_score_of_the_model(
    tmp_path: Path, url: str, bundle: serving_bundles.Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify that the scores are those of the model's own library, in the order of the rows, over several batches."""
    source = tumours(tmp_path / "rows.parquet", bundle, patient=[f"p{i}" for i in range(len(bundle.rows))])
    target = tmp_path / "scored.parquet"
    arguments = ["--from", str(source), "--to", str(target), "--url", url, "--batch", "7", "--json"]
    assert run(["score", "tumours", *arguments]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "rows": 50,
        "requests": 8,
        "versions": ["1"],
        "path": str(target),
    }
    found = pq.read_table(target).to_pydict()
    assert found["prediction"] == pytest.approx(bundle.scores, abs=1e-6)
    assert found["patient"] == [f"p{i}" for i in range(50)]
    assert set(found["answered_by"]) == {"model"}


def test_features_come_from_the_online_store(tmp_path: Path, url: str) -> None:
    """Verify that rows name entities only, that a null is a missing value, and that the rung is written down."""
    rows = pa.table(
        {
            "carrier": ["UA", "UA"],
            "distance": pa.array([0.25, None], pa.float64()),
            "origin": pa.array(["LGA", "LGA"]).dictionary_encode(),
            "ignored": pa.array([b"1", b"2"]),
        }
    )
    pq.write_table(rows, tmp_path / "rows.parquet")
    done = scoring.score(tmp_path / "rows.parquet", tmp_path / "scored.parquet", url, "flights")
    found = pq.read_table(done.path).to_pydict()
    assert found["prediction"][0] == pytest.approx(0.6915586, abs=1e-6)
    assert found["prediction"][0] != found["prediction"][1]
    assert found["feature_source"] == ["online", "online"]
    assert done.versions == ("3",)


def test_features_of_a_store_that_is_away_are_no_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify that a real server without its online store fails the job, unless defaults are what is meant."""
    features = serving_bundles.with_features(tmp_path / "features")
    rows, scored = tmp_path / "rows.parquet", tmp_path / "scored.parquet"
    pq.write_table(pa.table({"carrier": ["UA"], "distance": [0.25], "origin": ["LGA"]}), rows)
    nobody = "redis://127.0.0.1:1/0"
    with model_server.running("--bundle", str(features.folder), "--online", nobody) as ports:
        url = f"http://127.0.0.1:{ports.http}"
        words = [
            "score",
            "flights",
            "--from",
            str(rows),
            "--to",
            str(scored),
            "--url",
            url,
        ]
        # a busy server may shed a request or two, and that is another answer
        assert run([*words, "--patience", "3"]) == 1
        assert "--allow-defaults" in capsys.readouterr().err and not scored.exists()
        assert run([*words, "--allow-defaults"]) == 0
    assert pq.read_table(scored)["feature_source"].to_pylist() == ["default"]


def test_rows_that_are_too_much_for_one_request_are_split(
    tmp_path: Path, url: str, bundle: serving_bundles.Bundle
) -> None:
    """Verify that a body over the server's limit goes in parts, with nothing lost or doubled."""
    source = tumours(tmp_path / "rows.parquet", bundle, note=["x" * 150_000] * len(bundle.rows))
    done = scoring.score(source, tmp_path / "scored.parquet", url, "tumours")
    assert (done.rows, done.requests) == (50, 2)
    assert pq.read_table(done.path)["prediction"].to_pylist() == pytest.approx(bundle.scores, abs=1e-6)


@pytest.mark.parametrize(
    ("columns", "model", "error", "words"),
    [
        pytest.param(
            {"carrier": ["UA"]}, "flights", DataError, "lacks distance, origin", id="missing-columns"
        ),
        pytest.param({"f0": ["a"]}, "tumours", DataError, "refuses rows 0 to 0", id="refused-row"),
        pytest.param(
            {"f0": [1.0], "prediction": [1.0]}, "tumours", DataError, "rename it", id="name-that-is-ours"
        ),
        pytest.param({"f0": [1.0]}, "churn", UsageError, "name a model that it serves", id="unknown-model"),
        pytest.param({"f0": pa.array([], pa.float64())}, "tumours", DataError, "no rows", id="empty"),
        pytest.param(
            {"carrier": ["UA"], "distance": [[1.0]], "origin": ["LGA"]},
            "flights",
            DataError,
            "list<",
            id="a-list",
        ),
    ],
)
def test_what_cannot_be_scored_leaves_no_file(
    tmp_path: Path, url: str, columns: dict[str, Any], model: str, error: type[Exception], words: str
) -> None:
    """Verify that the message names what is wrong, and that nothing half-written is left."""
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    with pytest.raises(error, match=words):
        scoring.score(tmp_path / "rows.parquet", tmp_path / "scored.parquet", url, model)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


class Time:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def now(self) -> float:
        return sum(self.slept)


def answers(*given: tuple[int, dict[str, Any], dict[str, str]]) -> type[BaseHTTPRequestHandler]:
    """A server that says the model's metadata, then these answers to predictions, the last one for ever."""
    left = list(given)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._say(200, {"inputs": [{"name": "a", "datatype": "FP64", "shape": [-1]}]}, {})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self._say(*(left.pop(0) if len(left) > 1 else left[0]))

        def _say(self, status: int, document: dict[str, Any], headers: dict[str, str]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    return Handler


def answer(by: str, source: str = "online") -> tuple[int, dict[str, Any], dict[str, str]]:
    return (
        200,
        {"predictions": [0.5], "feature_source": source, "answered_by": by},
        {"x-windlass-version": "2"},
    )


SHED = (503, {"error": "shed"}, {"retry-after": "3"})


@pytest.mark.parametrize(
    ("given", "taken", "slept", "kept"),
    [
        pytest.param(
            [SHED, SHED, answer("model")], {}, [3.0, 3.0], ("model", "online"), id="shed-and-asked-again"
        ),
        pytest.param(
            [answer("static"), answer("cache")], {}, [1.0], ("cache", "online"), id="the-model-came-back"
        ),
        pytest.param(
            [answer("static")], {"any_answer": True}, [], ("static", "online"), id="whatever-answers"
        ),
        pytest.param(
            [answer("model", "default"), answer("model", "cached")],
            {},
            [1.0],
            ("model", "cached"),
            id="the-store-came-back",
        ),
        pytest.param(
            [answer("model", "default")],
            {"allow_defaults": True},
            [],
            ("model", "default"),
            id="whatever-features",
        ),
    ],
)
def test_a_server_that_cannot_now_is_asked_again(
    tmp_path: Path, given: list[Any], taken: dict[str, bool], slept: list[float], kept: tuple[str, str]
) -> None:
    """Verify that a shed request waits as the server says, and that a constant or defaults are taken only if meant."""
    pq.write_table(pa.table({"a": [1.0]}), tmp_path / "rows.parquet")
    time = Time()
    with local_http.serving(answers(*given)) as url:
        scoring.score(
            tmp_path / "rows.parquet",
            tmp_path / "scored.parquet",
            url,
            "m",
            clock=time.now,
            sleep=time.sleep,
            **taken,
        )
    assert time.slept == slept
    (row,) = pq.read_table(tmp_path / "scored.parquet").to_pylist()
    assert (row["answered_by"], row["feature_source"]) == kept


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param([SHED], "did not answer within 10 s: shed", id="always-shed"),
        pytest.param(
            [answer("fallback")],
            "answers rows 0 to 0 by its fallback, not by the model",
            id="never-the-model",
        ),
        pytest.param(
            [answer("model", "default")],
            "rows 0 to 0 with the training defaults of features.*--allow-defaults",
            id="never-the-store",
        ),
    ],
)
def test_patience_ends(tmp_path: Path, given: list[Any], words: str) -> None:
    """Verify that the job fails once its patience is over, and leaves no file."""
    pq.write_table(pa.table({"a": [1.0]}), tmp_path / "rows.parquet")
    time = Time()
    with local_http.serving(answers(*given)) as url, pytest.raises(WindlassError, match=words):
        scoring.score(
            tmp_path / "rows.parquet",
            tmp_path / "scored.parquet",
            url,
            "m",
            patience_s=10.0,
            clock=time.now,
            sleep=time.sleep,
        )
    assert time.now() <= 11.0
    assert not (tmp_path / "scored.parquet").exists()


@pytest.mark.parametrize(
    ("url", "batch", "words"),
    [
        pytest.param("localhost:8080", 10, "give http://HOST:PORT", id="no-address"),
        pytest.param("http://localhost:1", 0, "1 to 4096", id="no-batch"),
    ],
)
def test_what_cannot_be_asked(tmp_path: Path, url: str, batch: int, words: str) -> None:
    """Verify that it is refused before anything is read."""
    pq.write_table(pa.table({"a": [1.0]}), tmp_path / "rows.parquet")
    with pytest.raises(UsageError, match=words):
        scoring.score(tmp_path / "rows.parquet", tmp_path / "scored.parquet", url, "m", batch=batch)


def test_a_server_that_is_away_is_waited_for(tmp_path: Path) -> None:
    """Verify that a refused connection is asked again within the patience, and then told as what it is."""
    pq.write_table(pa.table({"a": [1.0]}), tmp_path / "rows.parquet")
    time = Time()
    with pytest.raises(WindlassError, match=r"did not answer within 5 s: .*refused"):
        scoring.score(
            tmp_path / "rows.parquet",
            tmp_path / "scored.parquet",
            "http://127.0.0.1:1",
            "m",
            patience_s=5.0,
            clock=time.now,
            sleep=time.sleep,
        )
    assert len(time.slept) == 5


def test_a_file_that_is_none_is_named(tmp_path: Path, url: str) -> None:
    """Verify the message for a file that is not there and one that is no parquet."""
    (tmp_path / "text.parquet").write_text("no parquet")
    for name in ("absent.parquet", "text.parquet"):
        with pytest.raises(UsageError, match=f"{name}.*name a parquet file"):
            scoring.score(tmp_path / name, tmp_path / "scored.parquet", url, "tumours")


def test_the_samples_job_gives_arguments_that_are_taken() -> None:
    """Verify that the server and `windlass score` read the command lines of the batch sample."""
    sample = Path(__file__).parents[3] / "manifests/samples/kserve/batch.yaml"
    spec = yaml.safe_load(sample.read_text())["spec"]["template"]["spec"]
    (server,), (client,) = spec["initContainers"], spec["containers"]
    folders, options = runtime.parse(["--port", "8080", *server["args"]])
    assert folders == [Path("/mnt/models")] and options.require_signature
    assert client["command"][:3] == ["python3", "-m", "windlass"]
    said = app.build_parser().parse_args([*client["command"][3:], *client["args"]])
    assert said.url.endswith(f":{options.port}")
