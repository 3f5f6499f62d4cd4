"""XGBoost's own model, predicted in place; the only importer of xgboost among the engines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from serving.runtime.bundle import Bundle, Form
from serving.runtime.engines.engine import Array, ModelError, TensorSpec, conform
from windlass.errors import UsageError


class XgboostEngine:
    """A Booster on one thread; NaN is a missing value."""

    format = "xgboost"

    def __init__(self, booster: Any, bundle: Bundle) -> None:
        self.inputs: tuple[TensorSpec, ...] = bundle.tensor_inputs
        self.outputs: tuple[TensorSpec, ...] = bundle.tensor_outputs
        self._predict = booster.inplace_predict
        self._title = bundle.title

    def run(self, arrays: Sequence[Array]) -> Sequence[Array]:
        """See `Engine.run`."""
        (rows,) = arrays
        try:
            given = self._predict(rows, missing=math.nan, validate_features=False)
        except Exception as error:  # whatever the library raises is this request's failure
            raise ModelError(f"{self._title} failed: {error}") from error
        return [conform(given, self.outputs[0], len(rows), self._title)]


def load(bundle: Bundle, form: Form) -> XgboostEngine:
    """Open a form from its verified bytes.

    Raises:
        UsageError: the bytes are no model that this XGBoost reads.
    """
    import xgboost

    booster = xgboost.Booster({"nthread": 1})
    try:
        booster.load_model(bytearray(bundle.read(form.file)))
    except xgboost.core.XGBoostError as error:
        raise UsageError(f"{bundle.title}: XGBoost cannot load {form.file!r}: {error}") from error
    # a model saved with more threads brings their number along
    booster.set_param({"nthread": 1})
    width = bundle.tensor_inputs[0].shape[1]
    if booster.num_features() != width:
        raise UsageError(
            f"{bundle.title}: {form.file!r} takes {booster.num_features()} features, the bundle states {width}"
        )
    return XgboostEngine(booster, bundle)
