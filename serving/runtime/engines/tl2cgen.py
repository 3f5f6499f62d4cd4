"""A tree ensemble compiled to machine code, run by tl2cgen's predictor; the only importer of tl2cgen's runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.runtime.bundle import Bundle, Form
from serving.runtime.engines.engine import (
    Array,
    ModelError,
    TensorSpec,
    UnavailableError,
    conform,
    of_positive_class,
)
from windlass.errors import UsageError


class Tl2cgenEngine:
    """A compiled ensemble on one thread; NaN is a missing value.

    Args:
        matrix: tl2cgen's `DMatrix`.
    """

    format = "tl2cgen"

    def __init__(self, predictor: Any, matrix: Any, bundle: Bundle) -> None:
        self.inputs: tuple[TensorSpec, ...] = bundle.tensor_inputs
        self.outputs: tuple[TensorSpec, ...] = bundle.tensor_outputs
        self._predict = predictor.predict
        self._matrix = matrix
        self._title = bundle.title

    def run(self, arrays: Sequence[Array]) -> Sequence[Array]:
        """See `Engine.run`."""
        (rows,) = arrays
        try:
            given = self._predict(self._matrix(np.ascontiguousarray(rows)))
        except Exception as error:  # whatever the library raises is this request's failure
            raise ModelError(f"{self._title} failed: {error}") from error
        # [N, targets, classes]: one target, and one class where the answer is one number
        spec = self.outputs[0]
        return [conform(of_positive_class(given[:, 0], spec), spec, len(rows), self._title)]


def load(bundle: Bundle, form: Form) -> Tl2cgenEngine:
    """Open a form through a private copy of its verified bytes: a shared library is loaded by its path.

    Raises:
        UnavailableError: it was compiled for another machine.
        UsageError: it takes another number of features.
    """
    import tl2cgen

    with bundle.extracted(form.file) as path:
        try:
            predictor = tl2cgen.Predictor(path, nthread=1)
        except tl2cgen.exception.TL2cgenError as error:
            raise UnavailableError(f"{form.file!r} cannot be loaded on this machine: {error}") from error
    width = bundle.tensor_inputs[0].shape[1]
    if predictor.num_feature > width:
        raise UsageError(
            f"{bundle.title}: {form.file!r} takes {predictor.num_feature} features, the bundle states {width}"
        )
    return Tl2cgenEngine(predictor, tl2cgen.DMatrix, bundle)
