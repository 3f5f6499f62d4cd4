"""LightGBM's own model; the only importer of lightgbm among the engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serving.runtime.bundle import Bundle, Form
from serving.runtime.engines.engine import Array, ModelError, TensorSpec, conform
from windlass.errors import UsageError


class LightgbmEngine:
    """A Booster on one thread; NaN is a missing value where the model saw one."""

    format = "lightgbm"

    def __init__(self, booster: Any, bundle: Bundle) -> None:
        self.inputs: tuple[TensorSpec, ...] = bundle.tensor_inputs
        self.outputs: tuple[TensorSpec, ...] = bundle.tensor_outputs
        self._predict = booster.predict
        self._title = bundle.title

    def run(self, arrays: Sequence[Array]) -> Sequence[Array]:
        """See `Engine.run`."""
        (rows,) = arrays
        try:
            given = self._predict(rows, num_threads=1)
        except Exception as error:  # whatever the library raises is this request's failure
            raise ModelError(f"{self._title} failed: {error}") from error
        return [conform(given, self.outputs[0], len(rows), self._title)]


def load(bundle: Bundle, form: Form) -> LightgbmEngine:
    """Open a form from its verified text.

    Raises:
        UsageError: the text is no model that this LightGBM reads.
    """
    import lightgbm

    try:
        booster = lightgbm.Booster(model_str=bundle.read(form.file).decode())
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
        raise UsageError(f"{bundle.title}: LightGBM cannot load {form.file!r}: {error}") from error
    width = bundle.tensor_inputs[0].shape[1]
    if booster.num_feature() != width:
        raise UsageError(
            f"{bundle.title}: {form.file!r} takes {booster.num_feature()} features, the bundle states {width}"
        )
    return LightgbmEngine(booster, bundle)
