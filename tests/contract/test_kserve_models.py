"""What we hand to KServe, read by the classes of its own Python package (0.21) and written out again by its client."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import serving_variants
import yaml

from serving.release.cluster import inference_service, serving_runtime
from serving.release.cluster.serving_options import parse

ROOT = Path(__file__).parents[2]
READER = Path(__file__).parent / "clients" / "read_kserve.py"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="session")
def python() -> Path:
    """The interpreter of the environment that KServe's package is in, made where it is not there yet."""
    place = ROOT / ".tools" / "conformance"
    lock = ROOT / "requirements" / "conformance.lock"
    command = [sys.executable, ROOT / "requirements" / "environment.py", "--lock", lock, "--venv", place]
    subprocess.run(command, check=True)
    return place / "bin" / "python"


def read(python: Path, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [python, READER], input=json.dumps(documents), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def documents() -> list[dict[str, Any]]:
    """Everything of KServe's that we render or show."""
    rendered = [
        inference_service.render("flights", "12", parse(stated), namespace="prod")[0]
        for stated in serving_variants.STATED.values()
    ]
    samples = [
        document
        for path in sorted((ROOT / "manifests/samples/kserve").glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if document["apiVersion"].startswith("serving.kserve.io/")
    ]
    return [*rendered, *serving_runtime.documents(), *samples]


def test_kserves_own_classes_lose_nothing(python: Path) -> None:
    """Verify that no field is unknown to them, and that what they write is what they were given."""
    given = documents()
    answers = read(python, given)
    assert len(answers) == len(given) > len(serving_variants.STATED)
    for document, answer in zip(given, answers, strict=True):
        assert answer["unknown"] == []
        written = answer["document"]
        if document["kind"] == "InferenceService":
            # a container's name is required by the class, and stands empty where the runtime states it
            assert written["spec"]["predictor"]["model"].pop("name") == ""
        assert written == document


def test_a_field_that_they_lack_is_found(python: Path) -> None:
    """Verify that the check above can fail: an invented field is named with its path, and is not written."""
    (document,) = inference_service.render("flights", "12", parse({"storage": serving_variants.STORAGE}))[:1]
    document["spec"]["predictor"]["model"]["resources"]["wishes"] = {"cpu": "1"}
    (answer,) = read(python, [document])
    assert answer["unknown"] == ["InferenceService.spec.predictor.model.resources.wishes"]
    assert "wishes" not in json.dumps(answer["document"])
