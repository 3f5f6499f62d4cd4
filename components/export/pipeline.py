"""The export of the pipeline's own families, and the artifact that its gates judge."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import cache
from components.estimator import Fitted, predict
from components.export import graph, sklearn_forest, xgboost_forest
from components.export.measuring import Question, compare, single_row_us
from serving.runtime.bundle import Bundle, Form, Input
from serving.runtime.engines.engine import TensorSpec
from windlass.errors import WindlassError

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

TOLERANCE = 1e-4
"""Largest difference in probability between the library and the artifact; float32 sums stay far below."""
OUTPUT = "probability"
NATIVE_ROWS = 2_000
"""Rows on which the library's own file, read back, is held to the model in memory: it must agree to the last bit."""


@dataclass(frozen=True)
class ExportReport:
    """What was measured on the written files.

    Attributes:
        forms: those of the serving bundle: the artifact that the gates judge, then the library's own file.
    """

    rows: int
    max_difference: float
    size_bytes: int
    single_row_ms: float
    forms: tuple[Form, ...]


def export(model: Fitted, inputs: int) -> onnx.ModelProto:
    """Write a trained model of `inputs` inputs as ONNX."""
    if model.family == "linear":
        return graph.of_linear(model.native, inputs)
    if model.family == "xgboost":
        return graph.of_forest(xgboost_forest.read(model.native), inputs, OUTPUT)
    forest = sklearn_forest.read(model.native)
    if forest is None:
        raise WindlassError(f"the family {model.family!r} has no ONNX export; add one to components.export")
    return graph.of_forest(forest, inputs, OUTPUT)


def load(path: Path) -> Any:
    """Open an artifact for prediction, on one thread."""
    from serving.runtime.engines.onnx import session_of

    return session_of(path.read_bytes(), f"artifact {path}")


def score(session: Any, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return P(label = 1) of each row by the artifact."""
    import numpy as np

    return np.asarray(session.run([OUTPUT], {"features": inputs})[0], dtype=np.float64)


def single_row_ms(session: Any, rows: NDArray[np.float32], repeats: int = 300) -> float:
    """Median wall time of a prediction of one row, in milliseconds."""
    import numpy as np

    singles = [np.ascontiguousarray(rows[i % len(rows)][None, :]) for i in range(repeats)]
    for single in singles[:20]:
        session.run([OUTPUT], {"features": single})
    times = []
    for single in singles:
        started = time.perf_counter()
        session.run([OUTPUT], {"features": single})
        times.append(time.perf_counter() - started)
    return float(np.median(times) * 1e3)


def check_parity(
    model: Fitted, path: Path, rows: NDArray[np.float32], native: Path | None = None
) -> ExportReport:
    """Hold the written artifact, and the library's own file, to the library's prediction on `rows`.

    Args:
        native: the library's own file beside `path`, where a server can run it.

    Raises:
        WindlassError: they differ by more than float32 sums may.
    """
    expected = predict(model, rows).astype("float32")
    asked = [(Form("onnx", path.name), TOLERANCE, len(rows))]
    if native is not None:
        asked.append((native_form(native), 0.0, NATIVE_ROWS))
    bundle = Bundle(
        folder=path.parent.resolve(),
        model=model.family,
        version="candidate",
        model_file=path.name,
        sha256={f.file: cache.file_digest(path.parent / f.file) for f, _, _ in asked},
        feature_service="",
        feast_project="",
        entities=(),
        entity_types={},
        views=(),
        inputs=tuple(Input(f"f{i}", None, None, 0.0) for i in range(rows.shape[1])),
        output=OUTPUT,
        forms=tuple(f for f, _, _ in asked),
        pickle=False,
        tensor_inputs=(TensorSpec("features", "FP32", (-1, rows.shape[1])),),
        tensor_outputs=(TensorSpec(OUTPUT, "FP32", (-1,)),),
    )
    found = []
    for form, tolerance, count in asked:
        newest, theirs = rows[-count:], expected[-count:]
        question = Question((newest,), (theirs,), len(newest))
        measured = compare(bundle, form, question, tolerance)
        if not measured.parity.holds:
            raise WindlassError(
                f"the {form.format} export of the {model.family} model differs from the library by "
                f"{measured.parity.max_difference:.2e} in probability on {len(newest)} rows (bound {tolerance:.0e}); "
                "the artifact is not used; please report the model's parameters"
            )
        found.append(measured)
    times = single_row_us([m.run for m in found], question)
    artifact = found[0]
    return ExportReport(
        len(rows),
        artifact.parity.max_difference,
        artifact.size_bytes,
        times[0] / 1e3,
        tuple(m.timed(us) for m, us in zip(found, times, strict=True)),
    )


def native_form(path: Path) -> Form:
    """The form of the library's own file that the training step keeps; see `components.training`."""
    if path.suffix != ".skops":
        return Form("xgboost", path.name)
    from components.export.candidates import trusted_types

    return Form("skops", path.name, trusted=trusted_types(path.read_bytes()))
