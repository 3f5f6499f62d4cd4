"""A Keras model by Keras itself, as one traced function; the only importer of keras among the engines."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Any

from serving.runtime.bundle import Bundle, Form
from serving.runtime.engines.engine import DTYPES, Array, ModelError, TensorSpec, conform
from windlass.errors import UsageError


class KerasEngine:
    """A Keras model; `predict` of one row would build a data pipeline, so the model is called, traced once."""

    format = "keras"

    def __init__(self, model: Any, bundle: Bundle) -> None:
        import tensorflow  # type: ignore[import-untyped]

        self.inputs: tuple[TensorSpec, ...] = bundle.tensor_inputs
        self.outputs: tuple[TensorSpec, ...] = bundle.tensor_outputs
        self._title = bundle.title
        signature = [
            tensorflow.TensorSpec([None if n == -1 else n for n in s.shape], DTYPES[s.datatype])
            for s in self.inputs
        ]
        single = len(signature) == 1
        self._call = tensorflow.function(
            lambda *tensors: model(tensors[0] if single else list(tensors), training=False),
            input_signature=signature,
        )
        self._constant = tensorflow.constant

    def run(self, arrays: Sequence[Array]) -> Sequence[Array]:
        """See `Engine.run`."""
        try:
            given = self._call(*map(self._constant, arrays))
        except Exception as error:  # whatever the library raises is this request's failure
            raise ModelError(f"{self._title} failed: {error}") from error
        answers = list(given.values()) if isinstance(given, dict) else given
        answers = answers if isinstance(answers, list | tuple) else [answers]
        rows = len(arrays[0])
        return [conform(a.numpy(), s, rows, self._title) for a, s in zip(answers, self.outputs, strict=True)]


def load(bundle: Bundle, form: Form) -> KerasEngine:
    """Open a form through a private copy of its verified bytes; a Lambda layer, which is code, is refused.

    Raises:
        UsageError: Keras cannot load it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow
    from keras.saving import load_model  # type: ignore[import-not-found]

    # TensorFlow takes it before its first operation only; a process that has run one keeps its threads
    with contextlib.suppress(RuntimeError):
        tensorflow.config.threading.set_intra_op_parallelism_threads(1)
    with bundle.extracted(form.file) as path:
        try:
            model = load_model(path, compile=False, safe_mode=True)
        except (ValueError, TypeError, OSError) as error:
            raise UsageError(f"{bundle.title}: Keras cannot load {form.file!r}: {error}") from error
    return KerasEngine(model, bundle)
