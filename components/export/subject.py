"""What is exported: a library's model with its inputs, its outputs, and its own public prediction as the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from components.logged_model import LoggedModel
from serving.runtime.engines.engine import DTYPES, TensorSpec
from windlass.errors import UsageError

Method = Literal["predict_proba", "predict"]
DATATYPES = {str(dtype): name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Subject:
    """A model and what it says.

    Attributes:
        library: "sklearn", "xgboost", "lightgbm", "keras", "onnx" or "pyfunc".
        model: the library's own object; of XGBoost and LightGBM the Booster.
        names: the inputs of a model of rows, in order; empty for a model of tensors.
        classes: of a classifier whose probabilities are served.
        predict: the library's own prediction: one array for each input in, one for each output out.
    """

    library: str
    model: Any
    logged: LoggedModel
    names: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    classes: tuple[str, ...]
    predict: Callable[[Sequence[Any]], tuple[Any, ...]]


def of_logged(logged: LoggedModel, method: Method | None) -> Subject:
    """Load a logged model, and find what it takes and gives.

    Args:
        method: None takes the probabilities of a classifier that has them.

    Raises:
        UsageError: it cannot be served by such rows or by that method.
    """
    model = logged.load()
    if logged.flavor == "onnx":
        from components.export import onnx_subject

        return onnx_subject.of(logged, model)
    if logged.flavor == "tensorflow":
        from components.export import keras_forms

        return keras_forms.subject(logged, model)
    if logged.flavor == "python_function":
        return _of_pyfunc(logged, model)
    return _of_estimator(logged, model, method)


def row_specs(
    width: int, output: str, classes: Sequence[str] = ()
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of a model of rows, as every server states them."""
    shape = (-1, len(classes)) if len(classes) > 2 else (-1,)
    return (TensorSpec("features", "FP32", (-1, width)),), (TensorSpec(output, "FP32", shape),)


def names_of(logged: LoggedModel, width: int, known: Sequence[str] | None = None) -> tuple[str, ...]:
    """Names of a model's columns: its signature's, what the pipeline wrote down, the library's own, or f0, f1, ….

    Raises:
        UsageError: the signature has another number of columns than the model.
    """
    columns = [c.name for c in logged.signature if c.shape is None]
    if columns and len(columns) != width:
        raise UsageError(
            f"model {logged.folder}: its signature has {len(columns)} columns, the model takes {width}; "
            "log it again with a signature of its own inputs"
        )
    for stated in (columns, logged.metadata.get("inputs"), known):
        names = [] if stated is None else [str(n) for n in stated if n]
        if len(names) == len(set(names)) == width:
            return tuple(names)
    return tuple(f"f{i}" for i in range(width))


def _of_estimator(logged: LoggedModel, model: Any, method: Method | None) -> Subject:
    """A scikit-learn estimator, or a Booster of XGBoost or LightGBM, bare or in their scikit-learn classes."""
    library = _library(model)
    booster, width = _booster(library, model)
    call, classes = _public_predict(logged, library, model, method)
    labels = classes is None and hasattr(model, "classes_")
    if any(c.dtype == "object" for c in logged.signature):
        return _of_columns(logged, model, call)
    # a class's number is an answer that the libraries' own files do not give
    library = "pyfunc" if labels and library != "sklearn" else library
    known = getattr(model, "feature_names_in_", None)
    names = names_of(logged, width, known if known is not None else getattr(booster, "feature_names", None))

    def predict(arrays: Sequence[Any]) -> tuple[Any, ...]:
        (rows,) = arrays
        given = np.asarray(call(_table(model, rows)), dtype=np.float32)
        return (given[:, 1] if classes is not None and given.shape[1:] == (2,) else given,)

    output = "prediction" if classes is None else "probability" if len(classes) == 2 else "probabilities"
    inputs, outputs = row_specs(width, output, classes or ())
    (shape,) = {a.shape[1:] for a in predict([np.zeros((2, width), dtype=np.float32)])}
    if classes is None and shape not in ((), (1,)):
        return Subject(
            library, booster, logged, (), inputs, (TensorSpec(output, "FP32", (-1, *shape)),), (), predict
        )
    return Subject(library, booster, logged, names, inputs, outputs, tuple(classes or ()), predict)


def _library(model: Any) -> str:
    root = type(model).__module__.partition(".")[0]
    return root if root in ("xgboost", "lightgbm") else "sklearn"


def _booster(library: str, model: Any) -> tuple[Any, int]:
    """What is written down, and how many features it takes."""
    if library == "xgboost":
        booster = model
        if hasattr(model, "get_booster"):
            booster = model.get_booster()
            # trained with early stopping: the class predicts with the best part alone
            best = booster.attr("best_iteration")
            booster = booster if best is None else booster[: int(best) + 1]
        return booster, booster.num_features()
    if library == "lightgbm":
        booster = getattr(model, "booster_", model)
        return booster, booster.num_feature()
    return model, int(getattr(model, "n_features_in_", 0))


def _public_predict(
    logged: LoggedModel, library: str, model: Any, method: Method | None
) -> tuple[Callable[[Any], Any], list[str] | None]:
    """The call that users of the library make, and the classes where it gives their probabilities."""
    if hasattr(model, "predict_proba") and method != "predict":
        return model.predict_proba, [str(c) for c in model.classes_]
    if method == "predict_proba":
        raise UsageError(
            f"model {logged.folder}: {type(model).__name__} has no predict_proba; use --method predict"
        )
    if hasattr(model, "classes_") and not np.issubdtype(np.asarray(model.classes_).dtype, np.number):
        raise UsageError(
            f"model {logged.folder}: its classes {list(model.classes_)[:3]} are texts, which no FP32 output gives; "
            "leave --method out to serve their probabilities"
        )
    if type(model).__name__ != "Booster":
        return model.predict, None
    if library == "xgboost":
        import xgboost

        kind = _objective(model)
        if kind.startswith("multi:"):
            # softmax would give the class; its probabilities are the same trees
            model.set_param({"objective": "multi:softprob"})
        classes = _numbered(kind.startswith("multi:"), kind == "binary:logistic", _class_count(model))
        return lambda rows: model.predict(xgboost.DMatrix(rows, feature_names=model.feature_names)), classes
    kind = model.dump_model(num_iteration=1).get("objective", "")
    classes = _numbered(
        kind.startswith("multiclass"), kind.startswith("binary"), model.num_model_per_iteration()
    )
    return model.predict, classes


def _numbered(several: bool, two: bool, count: int) -> list[str] | None:
    return [str(i) for i in range(count if several else 2)] if several or two else None


def _objective(booster: Any) -> str:
    import json

    return str(json.loads(booster.save_config())["learner"]["objective"]["name"])


def _class_count(booster: Any) -> int:
    import json

    return int(json.loads(booster.save_config())["learner"]["learner_model_param"]["num_class"])


def _table(model: Any, rows: Any) -> Any:
    """The rows as the model was trained: a table where it knows names."""
    known = getattr(model, "feature_names_in_", None)
    if known is None or len(known) != rows.shape[1]:
        return rows
    import pandas as pd

    return pd.DataFrame(rows, columns=list(known))


def _of_pyfunc(logged: LoggedModel, model: Any) -> Subject:
    if logged.signature and all(c.shape is None for c in logged.signature):
        if any(c.dtype == "object" for c in logged.signature) or not all(c.name for c in logged.signature):
            return _of_columns(logged, model, model.predict)
        import pandas as pd

        types = {str(c.name): c.dtype for c in logged.signature}
        names: tuple[str, ...] = tuple(types)

        def call(rows: Any) -> Any:
            return model.predict(pd.DataFrame(rows, columns=list(types)).astype(types))

    else:
        shape = logged.signature[0].shape if logged.signature else np.shape(logged.example)
        if len(logged.signature) > 1 or not shape or len(shape) != 2 or shape[1] < 1:
            raise UsageError(
                f"model {logged.folder}: neither its signature nor its input example says how many numbers a row has; "
                "log it with a signature (mlflow.models.infer_signature)"
            )
        names = names_of(logged, shape[1])
        dtype = logged.signature[0].dtype if logged.signature else "float32"

        def call(rows: Any) -> Any:
            return model.predict(rows.astype(dtype, copy=False))

    def predict(arrays: Sequence[Any]) -> tuple[Any, ...]:
        return (np.asarray(call(arrays[0]), dtype=np.float32).reshape(len(arrays[0]), -1).squeeze(axis=1),)

    inputs, outputs = row_specs(len(names), "prediction")
    return Subject("pyfunc", model, logged, names, inputs, outputs, (), predict)


def _of_columns(logged: LoggedModel, model: Any, call: Callable[[Any], Any]) -> Subject:
    """A model that takes texts: one tensor a column, and MLflow's own way to call it."""
    import pandas as pd

    named = [
        (c.name or "", DATATYPES.get("object" if c.dtype == "object" else c.dtype)) for c in logged.signature
    ]
    unknown = [
        c.dtype
        for c, (name, datatype) in zip(logged.signature, named, strict=True)
        if not (name and datatype)
    ]
    if unknown:
        raise UsageError(
            f"model {logged.folder}: a column of its signature has no name or the type {unknown[0]}, "
            f"which is none of {', '.join(DTYPES)}; change the model's signature"
        )
    if logged.example is None:
        raise UsageError(f"model {logged.folder} takes texts and has no input example; log it with one")

    def predict(arrays: Sequence[Any]) -> tuple[Any, ...]:
        table = pd.DataFrame({name: a for (name, _), a in zip(named, arrays, strict=True)})
        given = np.asarray(call(table))
        return (given.astype(np.float32) if given.dtype.kind in "biuf" else given.astype(object),)

    inputs = tuple(TensorSpec(name, str(datatype), (-1,)) for name, datatype in named)
    (sample,) = predict([np.asarray(logged.example[name]) for name, _ in named])
    output = "probabilities" if sample.ndim == 2 else "prediction"
    datatype = "BYTES" if sample.dtype == object else "FP32"
    outputs = (TensorSpec(output, datatype, (-1, *sample.shape[1:])),)
    return Subject("pyfunc", model, logged, (), inputs, outputs, (), predict)
