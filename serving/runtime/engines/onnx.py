"""The model: an ONNX Runtime session that scores rows; the only importer of onnxruntime.

One thread and no spinning: a row of a tabular model costs some microseconds, and a thread pool would cost
more in wake-ups than it saves, and would take the core that the event loop needs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from windlass.errors import UsageError, WindlassError

INPUT = "features"


class ModelError(WindlassError):
    """The model ran and gave something that is no score."""


class Model:
    """Scores rows of `width` float32 features.

    Raises:
        UsageError: the bytes are no ONNX model, or its inputs and outputs are not what the bundle states.
    """

    def __init__(self, content: bytes, *, width: int, output: str, name: str) -> None:
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a class for each status and no common base
            raise UsageError(f"model {name}: ONNX Runtime cannot load it: {error}") from error
        inputs, outputs = session.get_inputs(), session.get_outputs()
        stated = [(i.name, i.type, len(i.shape)) for i in inputs]
        if stated != [(INPUT, "tensor(float)", 2)]:
            raise UsageError(
                f"model {name}: its inputs are {stated}, expected one float {INPUT!r} of [N, {width}]"
            )
        if inputs[0].shape[1] not in (width, None) and not isinstance(inputs[0].shape[1], str):
            raise UsageError(
                f"model {name}: it takes {inputs[0].shape[1]} features, the bundle states {width}"
            )
        if output not in [o.name for o in outputs]:
            raise UsageError(f"model {name}: it has no output {output!r}; it has {[o.name for o in outputs]}")
        self._run = session.run
        self._outputs = [output]
        self._name = name
        # the first run allocates and may fail on an operator: better now than at the first request
        self.predict(np.full((1, width), np.nan, dtype=np.float32))
        self.predict(np.zeros((2, width), dtype=np.float32))

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score `features` of shape [N, width]; returns shape [N].

        Raises:
            ModelError: the result is not one finite number a row.
        """
        scores: Any = self._run(self._outputs, {INPUT: features})[0]
        if scores.shape != (len(features),):
            if scores.shape != (len(features), 1):
                raise ModelError(f"model {self._name} gave shape {scores.shape} for {len(features)} rows")
            scores = scores.reshape(-1)
        result: NDArray[np.float32] = scores
        return result
