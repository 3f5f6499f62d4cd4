"""The forms that may apply to a model of scikit-learn, XGBoost or LightGBM, and how each is written."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.export import graph, lightgbm_forest, sklearn_forest, xgboost_forest
from components.export.forest import Forest, NotExportableError
from components.export.subject import Subject

FOREST_TOLERANCE = 1e-5
TOLERANCE = 1e-4
INT8_TOLERANCE = 5e-2
"""Largest differences of an output within [-1, 1]: sums of float32 leaves, float32 arithmetic, 8-bit weights."""

TREES_A_UNIT = 25
TRUSTED_ROOTS = ("sklearn", "numpy", "scipy", "lightgbm", "xgboost")


@dataclass(frozen=True)
class Candidate:
    """A form to try.

    Attributes:
        write: writes it to a path, or raises NotExportableError.
        precision: "float32" or "int8".
        native: whether it is the library's own file, which must agree to the last bit.
    """

    format: str
    file: str
    tolerance: float
    write: Callable[[Path], None]
    precision: str = "float32"
    native: bool = False


def of(subject: Subject, *, int8: bool, rows: Sequence[Any]) -> list[Candidate]:
    """The forms to try, in no particular order; `rows`, one array for each input, set the scales of 8-bit ones."""
    if subject.library == "pyfunc":
        return [pyfunc(subject)]
    if subject.library == "onnx":
        from components.export import onnx_subject

        return onnx_subject.candidates(subject, int8=int8)
    if subject.library == "keras":
        from components.export import keras_forms

        return keras_forms.candidates(subject, int8=int8, rows=rows)
    found = [
        Candidate("onnx", "model.onnx", _onnx_tolerance(subject), lambda path: _write_onnx(subject, path)),
        Candidate("tl2cgen", "model.so", FOREST_TOLERANCE, lambda path: _compile(subject, path)),
    ]
    if int8:
        found.append(
            Candidate(
                "onnx",
                "model.int8.onnx",
                INT8_TOLERANCE,
                lambda path: _write_int8(subject, path),
                precision="int8",
            )
        )
    write: dict[str, tuple[str, str, Callable[[Path], None]]] = {
        "xgboost": ("xgboost", "model.ubj", lambda path: subject.model.save_model(path)),
        "lightgbm": ("lightgbm", "model.txt", lambda path: _write_text(subject.model, path)),
        "sklearn": ("skops", "model.skops", lambda path: _write_skops(subject.model, path)),
    }
    known, file, writer = write[subject.library]
    return [*found, Candidate(known, file, 0.0, writer, native=True)]


def forest_of(subject: Subject) -> Forest | None:
    """The trees that decide on the served values themselves; None where there are none.

    Raises:
        NotExportableError: there are, and a forest of float32 splits cannot say them.
    """
    if subject.library == "xgboost":
        return xgboost_forest.read(subject.model)
    if subject.library == "lightgbm":
        return lightgbm_forest.read(subject.model)
    return sklearn_forest.read(subject.model) if subject.library == "sklearn" else None


def pyfunc(subject: Subject) -> Candidate:
    """The MLflow folder itself: the general case, and the last resort."""
    return Candidate("pyfunc", "pyfunc", 0.0, lambda path: _copy(subject, path), native=True)


def trusted_types(content: bytes) -> tuple[str, ...]:
    """The types of a skops file that its reader must be told to trust, all of them of numerical libraries.

    Raises:
        NotExportableError: there is one of another package.
    """
    import skops.io  # type: ignore[import-untyped]

    types = sorted(skops.io.get_untrusted_types(data=content))
    foreign = [t for t in types if t.partition(".")[0] not in TRUSTED_ROOTS]
    if foreign:
        raise NotExportableError(f"it holds {foreign[0]}, a type of none of {', '.join(TRUSTED_ROOTS)}")
    return tuple(types)


def _onnx_tolerance(subject: Subject) -> float:
    try:
        return TOLERANCE if forest_of(subject) is None else FOREST_TOLERANCE
    except NotExportableError:
        return TOLERANCE


def _write_onnx(subject: Subject, path: Path) -> None:
    import onnx

    from components.export import skl2onnx_graph

    _probabilities_only(subject)
    forest = forest_of(subject)
    width, output = subject.inputs[0].shape[1], subject.outputs[0].name
    if forest is not None:
        onnx.save(graph.of_forest(forest, width, output), path)
    else:
        onnx.save(skl2onnx_graph.of(subject.model, width, subject.outputs[0]), path)


def _write_int8(subject: Subject, path: Path) -> None:
    from components.export.onnx_subject import quantize

    exact = path.with_suffix(".float32")
    try:
        _write_onnx(subject, exact)
        quantize(exact, path)
    finally:
        exact.unlink(missing_ok=True)


def _compile(subject: Subject, path: Path) -> None:
    if shutil.which("gcc") is None:
        raise NotExportableError("no gcc is installed to compile it with")
    _probabilities_only(subject)
    if forest_of(subject) is None:
        raise NotExportableError("it is no ensemble of trees over the served values")
    import tl2cgen
    import treelite

    read: dict[str, Callable[[Any], Any]] = {
        "xgboost": treelite.frontend.from_xgboost,
        "lightgbm": treelite.frontend.from_lightgbm,
        "sklearn": treelite.sklearn.import_model,
    }
    try:
        trees = read[subject.library](subject.model)
        # gcc's time grows faster than a function's length; and what the compiler says is no part of our output
        units = 1 + trees.num_tree // TREES_A_UNIT
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            tl2cgen.export_lib(
                trees, toolchain="gcc", libpath=path, params={"parallel_comp": units}, nthread=1
            )
    except Exception as error:  # neither library has one base for what it refuses
        raise NotExportableError(f"treelite and tl2cgen cannot compile it: {_line(error)}") from error


def _probabilities_only(subject: Subject) -> None:
    if subject.outputs[0].name == "prediction" and hasattr(subject.model, "classes_"):
        raise NotExportableError("it gives probabilities, and the predicted class was asked for")


def _write_text(booster: Any, path: Path) -> None:
    path.write_text(booster.model_to_string())


def _write_skops(estimator: Any, path: Path) -> None:
    import skops.io

    try:
        content = skops.io.dumps(estimator)
    except Exception as error:  # an object that has no rule is refused in many ways
        raise NotExportableError(f"skops cannot write it: {_line(error)}") from error
    trusted_types(content)
    path.write_bytes(content)


def _copy(subject: Subject, path: Path) -> None:
    """Copy the model folder; a scikit-learn classifier's is told to give probabilities."""
    import yaml

    shutil.copytree(subject.logged.folder, path)
    flavors = yaml.safe_load((path / "MLmodel").read_text())
    if "python_function" not in flavors["flavors"]:
        raise NotExportableError("it was logged without MLflow's python_function flavor")
    if subject.outputs[0].name.startswith("probabilit") and "sklearn" in flavors["flavors"]:
        flavors["flavors"]["python_function"]["predict_fn"] = "predict_proba"
        (path / "MLmodel").write_text(yaml.safe_dump(flavors))


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:200]
