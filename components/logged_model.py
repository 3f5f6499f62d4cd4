"""A model folder as MLflow logs it: its flavors, its signature, its example, and the library's own object inside.

Loading the object runs what the model's author pickled, as every MLflow client does: an export is the step that turns
such a model into one that is loaded without.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windlass import telemetry
from windlass.errors import UsageError

FLAVORS = ("sklearn", "xgboost", "lightgbm", "tensorflow", "onnx", "python_function")
"""Those that are read natively, the general case last."""


@dataclass(frozen=True)
class Column:
    """A column, or a tensor, of the signature.

    Attributes:
        name: None where the signature names none.
        dtype: numpy's name ("float64", "object" for a text).
        shape: of a tensor; None for a column.
    """

    name: str | None
    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class LoggedModel:
    """An MLflow model folder.

    Attributes:
        flavor: the most native of `FLAVORS` that it has.
        signature: the inputs; empty where none was logged.
        example: the logged input example (table or array), None where there is none.
    """

    folder: Path
    flavor: str
    signature: tuple[Column, ...]
    example: Any
    metadata: Mapping[str, Any]

    def load(self) -> Any:
        """Return the library's own object; an MLflow `PyFuncModel` in the general case.

        Raises:
            UsageError: a library is missing, or it cannot be loaded.
        """
        name = "pyfunc" if self.flavor == "python_function" else self.flavor
        try:
            return importlib.import_module(f"mlflow.{name}").load_model(str(self.folder))
        except ImportError as error:
            raise UsageError(f"model {self.folder}: {error}; install the library that made it") from error
        except Exception as error:  # unpickling may raise anything
            raise UsageError(
                f"model {self.folder}: its flavor {self.flavor!r} cannot be loaded: {error}"
            ) from error


def read(folder: Path) -> LoggedModel:
    """Read the folder's description, without loading the model.

    Raises:
        UsageError: it is no MLflow model, or one of flavors that are not known.
    """
    telemetry.switch_off()
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    if not (folder / "MLmodel").is_file():
        raise UsageError(
            f"{folder} is no MLflow model: it holds no MLmodel; give models:/…, runs:/… or a model folder"
        )
    try:
        model = Model.load(str(folder))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            example = model.load_input_example(str(folder)) if model.saved_input_example_info else None
    except (MlflowException, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"model {folder}: MLflow cannot read it: {error}") from error
    known = [f for f in FLAVORS if f in model.flavors]
    if not known:
        raise UsageError(
            f"model {folder} has the flavors {sorted(model.flavors)}; known are {', '.join(FLAVORS)}"
        )
    schema = model.signature.inputs if model.signature is not None else None
    return LoggedModel(
        folder, known[0], () if schema is None else _columns(schema), example, dict(model.metadata or {})
    )


def _columns(schema: Any) -> tuple[Column, ...]:
    if schema.is_tensor_spec():
        return tuple(Column(t.name, _name(t.type), tuple(t.shape)) for t in schema.inputs)
    return tuple(Column(c.name, _name(c.type.to_numpy()), None) for c in schema.inputs)


def _name(dtype: Any) -> str:
    # numpy's texts have a length each
    return "object" if dtype.kind in "US" else str(dtype)
