"""What every engine promises: named tensors in, named tensors out, rows on the first axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from windlass.errors import WindlassError

Array = NDArray[Any]

# The Open Inference Protocol's names; BYTES is an object array of str or bytes.
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),
}


class ModelError(WindlassError):
    """The model ran and gave something that is no answer, or failed."""


class UnavailableError(WindlassError):
    """This machine cannot run the form: its library is not installed, or its file is for another machine."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor that a model takes or gives.

    Attributes:
        datatype: a key of `DTYPES`.
        shape: with -1 for a free dimension; the first one counts rows.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]


class Engine(Protocol):
    """A loaded model.

    Attributes:
        format: what runs, as the bundle names it ("onnx", "xgboost", …).
        inputs, outputs: in the order in which `run` takes and gives them.
    """

    format: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, arrays: Sequence[Array]) -> Sequence[Array]:
        """Run the rows of `arrays`, one array for each of `inputs`; safe to call from one thread at a time.

        Raises:
            ModelError: the model failed, or gave arrays that are not `outputs` of the same number of rows.
        """
        ...


def conform(given: Array, spec: TensorSpec, rows: int, title: str) -> Array:
    """Return what a library gave as the tensor `spec` of `rows` rows; a column [N, 1] counts as [N] and back.

    Args:
        title: model and version, for the message.

    Raises:
        ModelError: it has another shape.
    """
    want, dtype = (rows, *spec.shape[1:]), DTYPES[spec.datatype]
    if given.shape == want and given.dtype == dtype:  # nearly always
        return given
    if len(given.shape) != len(want) and given.shape in ((rows,), (rows, 1)) and want in ((rows,), (rows, 1)):
        given = given.reshape(want)
    if len(given.shape) != len(want) or any(n not in (-1, g) for n, g in zip(want, given.shape, strict=True)):
        raise ModelError(
            f"{title} gave {spec.name!r} of shape {given.shape} for {rows} rows, expected {want}"
        )
    return given.astype(dtype, copy=False)


def of_positive_class(probabilities: Array, spec: TensorSpec) -> Array:
    """Probabilities [N, 2] of a binary classifier as the [N] of its second class that `spec` asks for."""
    binary = probabilities.ndim == 2 and probabilities.shape[1] == 2 and len(spec.shape) == 1
    return probabilities[:, 1] if binary else probabilities
