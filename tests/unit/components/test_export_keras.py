"""Keras models, in an environment of their own: TensorFlow is no dependency of the platform."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# the environment is made where it is not there yet: hundreds of megabytes, after whatever else is being installed
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PROJECT = Path(__file__).parents[3]
VENV = PROJECT / ".tools" / "keras"

# Run inside that environment; prints one JSON object of what was found.
SCRIPT = """
import json, sys
from pathlib import Path

import keras
import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from components import logged_model
from components.export import rows, subject, writing
from serving.runtime import bundle
from serving.runtime.engines.opening import open_form

place, kind = Path(sys.argv[1]), sys.argv[2]
keras.utils.set_random_seed(3)
rng = np.random.default_rng(0)
shape = (8, 8, 1) if kind == "image" else (12,)
asked = rng.normal(size=(600, *shape)).astype("float32")
score = asked.reshape(600, -1)[:, :3].sum(axis=1)
if kind == "image":
    body, labels, last = [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten()], score, (2, None)
    labels = np.stack([score, -score], axis=1)
elif kind == "classes":
    body, labels, last = [keras.layers.Dense(64, activation="relu")], np.digitize(score, [-1, 1]), (3, "softmax")
else:
    body, labels, last = [keras.layers.Dense(64, activation="relu")], (score > 0) * 1.0, (1, "sigmoid")
model = keras.Sequential([keras.layers.Input(shape, name="pixels"), *body, keras.layers.Dense(last[0], last[1])])
loss = {"binary": "binary_crossentropy", "classes": "sparse_categorical_crossentropy", "image": "mse"}[kind]
model.compile("adam", loss)
model.fit(asked, labels, epochs=3, verbose=0)
signature = ModelSignature(Schema([TensorSpec(np.dtype("float32"), (-1, *shape))]))
mlflow.tensorflow.save_model(model, str(place / "net"), signature=signature, pip_requirements=["tensorflow-cpu"])
np.save(place / "rows.npy", asked)

exported = subject.of_logged(logged_model.read(place / "net"), None)
report = writing.export(exported, "net", "1", rows.read(exported, place / "rows.npy"), place / "bundle", int8=True)
loaded = bundle.load(place / "bundle")
unseen = rng.normal(size=(50, *shape)).astype("float32")
expected = model.predict(unseen, verbose=0)
if kind == "binary":
    expected = expected.reshape(-1)
away = {}
for form in loaded.forms:
    engine = open_form(loaded, form)
    one, many = engine.run([unseen[:1]])[0], engine.run([unseen])[0]
    assert one.dtype == many.dtype == np.float32 and many.shape == expected.shape, (form, many.shape)
    np.testing.assert_allclose(one[0], many[0], atol=1e-5)
    away[form.file] = float(np.abs(many - expected).max())
print(json.dumps({
    "away": away,
    "scale": float(np.abs(expected).max()),
    "output": [loaded.tensor_outputs[0].name, list(loaded.tensor_outputs[0].shape)],
    "classes": list(loaded.classes),
    "tried": {f.file: [f.precision, f.form.size_bytes, f.form.parity.holds] for f in report.forms},
    "picked": [f.file for f in report.forms if f.picked],
}))
"""


@pytest.fixture(scope="session")
def keras_python() -> Path:
    """The interpreter of the environment of requirements/keras.lock; its maker locks it against a second one."""
    subprocess.run(
        [
            sys.executable,
            str(PROJECT / "requirements" / "environment.py"),
            *("--lock", str(PROJECT / "requirements" / "keras.lock"), "--venv", str(VENV)),
        ],
        check=True,
        timeout=1200,
    )
    return VENV / "bin" / "python"


def exported(python: Path, place: Path, kind: str) -> Any:
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    # the repository itself is installed there, and so is nothing of this interpreter's environment
    done = subprocess.run(
        [str(python), "-c", SCRIPT, str(place), kind],
        cwd=place,
        env={**os.environ, **quiet},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("kind", "output", "classes"),
    [
        pytest.param("binary", ["probability", [-1]], ["0", "1"], id="one-sigmoid"),
        pytest.param("classes", ["probabilities", [-1, 3]], ["0", "1", "2"], id="softmax-of-three"),
        pytest.param("image", None, [], id="an-image-in-two-numbers-out"),
    ],
)
def test_a_keras_model_is_served_as_onnx_as_litert_and_by_itself(
    keras_python: Path, tmp_path: Path, kind: str, output: list[Any] | None, classes: list[str]
) -> None:
    """Verify that each form answers as Keras on rows never seen, and the 8-bit one within its own bound."""
    found = exported(keras_python, tmp_path, kind)
    assert set(found["away"]) >= {"model.onnx", "model.tflite", "model.keras"}
    scale = max(1.0, found["scale"])
    assert {f: d for f, d in found["away"].items() if "int8" not in f and d > 1e-5 * scale} == {}
    assert output is None or found["output"] == output
    assert found["classes"] == classes
    precision, size, holds = found["tried"]["model.int8.tflite"]
    assert precision == "int8"
    assert size < found["tried"]["model.keras"][1]
    # 8 bits cost what they cost: the form is there where it holds, and then it is near on rows never seen as well
    assert holds == ("model.int8.tflite" in found["away"])
    assert found["away"].get("model.int8.tflite", 0.0) <= 0.1 * scale
    assert found["picked"] != ["model.keras"]
