"""Any model that MLflow can load, through its pyfunc interface; the only importer of mlflow in the runtime.

The slowest form, and the only one that may run code of the model's own. `trust.verify` refused the bundle already
where a file of the folder is a pickle and the bundle declares none.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from serving.runtime.bundle import Bundle, Form
from serving.runtime.engines.engine import Array, ModelError, TensorSpec, conform, of_positive_class
from windlass.errors import UsageError


class PyfuncEngine:
    """An MLflow model; a row's values are handed over as the signature's columns, or as one array where it has none.

    Args:
        copy: owns the folder that the model may go on reading.
    """

    format = "pyfunc"

    def __init__(self, model: Any, bundle: Bundle, copy: ExitStack) -> None:
        self.inputs: tuple[TensorSpec, ...] = bundle.tensor_inputs
        self.outputs: tuple[TensorSpec, ...] = bundle.tensor_outputs
        self._title = bundle.title
        self._copy = copy
        self._predict = model.predict
        self._rows = bool(bundle.inputs)
        schema = model.metadata.get_input_schema()
        self._columns = None if schema is None or schema.is_tensor_spec() else _columns(schema, bundle)
        # tensors without names are one array
        named = schema is not None and schema.is_tensor_spec() and schema.has_input_names()
        self._names = [s.name for s in self.inputs] if named else None
        self._dtype = schema.inputs[0].type if schema is not None and schema.is_tensor_spec() else None

    def run(self, arrays: Sequence[Array]) -> Sequence[Array]:
        """See `Engine.run`."""
        try:
            given = self._predict(self._question(arrays))
            answers = _answers(given, self.outputs)
        except Exception as error:  # whatever the model raises is this request's failure
            raise ModelError(f"{self._title} failed: {error}") from error
        rows = len(arrays[0])
        return [
            conform(of_positive_class(a, s), s, rows, self._title)
            for a, s in zip(answers, self.outputs, strict=True)
        ]

    def _question(self, arrays: Sequence[Array]) -> Any:
        if self._columns is not None:
            values = arrays[0].T if self._rows else arrays
            # an integer column has no missing value: NaN cast to one would be an arbitrary number
            with np.errstate(invalid="raise"):
                return {
                    name: _text(value) if value.dtype == object else value.astype(dtype)
                    for (name, dtype), value in zip(self._columns, values, strict=True)
                }
        if self._names is not None:
            return dict(zip(self._names, arrays, strict=True))
        return arrays[0] if self._dtype is None else arrays[0].astype(self._dtype, copy=False)


def load(bundle: Bundle, form: Form) -> PyfuncEngine:
    """Open a form through a private copy of its verified files.

    Raises:
        ImportError: MLflow, or a library of the model's, is not installed.
        UsageError: MLflow cannot load it.
    """
    import mlflow.pyfunc

    with ExitStack() as stack:
        path = stack.enter_context(bundle.extracted(form.file))
        try:
            model = mlflow.pyfunc.load_model(str(path), suppress_warnings=True)
        except ImportError:
            raise
        except Exception as error:  # a model's own code may raise anything
            raise UsageError(f"{bundle.title}: MLflow cannot load {form.file!r}: {error}") from error
        return PyfuncEngine(model, bundle, stack.pop_all())


def _columns(schema: Any, bundle: Bundle) -> list[tuple[str, Any]]:
    """Name and numpy type of each column, in the bundle's order."""
    names = [i.name for i in bundle.inputs] or [s.name for s in bundle.tensor_inputs]
    types = {c.name: c.type.to_numpy() for c in schema.inputs}
    if all(name is None for name in types):
        types = dict(zip(names, [c.type.to_numpy() for c in schema.inputs], strict=True))
    missing = [n for n in schema.required_input_names() if n not in names]
    if missing:
        raise UsageError(
            f"{bundle.title}: its signature needs {missing[0]!r}, which is no input of the bundle"
        )
    return [(name, types[name]) for name in names if name in types]


def _text(values: Array) -> Array:
    return np.array([v.decode() if isinstance(v, bytes) else v for v in values.tolist()], dtype=object)


def _answers(given: Any, outputs: tuple[TensorSpec, ...]) -> list[Array]:
    """The model's answer (array, table, list, or a mapping of them) as one array for each output."""
    names = [s.name for s in outputs]
    if isinstance(given, dict) or (hasattr(given, "columns") and set(names) <= set(given.columns)):
        return [np.asarray(given[n]) for n in names]
    return [np.asarray(given)]
