"""ONNX through ONNX Runtime; the only importer of onnxruntime among the engines.

One thread and no spinning: a row of a tabular model costs some microseconds, and a thread pool would cost
more in wake-ups than it saves, and would take the core that the event loop needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serving.runtime.bundle import Bundle, Form
from serving.runtime.engines.engine import DTYPES, Array, ModelError, TensorSpec, conform
from windlass.errors import UsageError

TYPES = {
    "tensor(bool)": "BOOL",
    "tensor(float)": "FP32",
    "tensor(float16)": "FP16",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
    **{
        f"tensor({kind}{bits})": f"{kind}{bits}".upper()
        for kind in ("int", "uint")
        for bits in (8, 16, 32, 64)
    },
}


class OnnxEngine:
    """An ONNX Runtime session.

    A model of one input takes it whatever its name is; more are found by name. So are outputs.

    Raises:
        UsageError: the bytes are no ONNX model, or its inputs and outputs are not what the bundle states.
    """

    format = "onnx"

    def __init__(
        self, content: bytes, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], title: str
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._title = title
        session = session_of(content, title)
        taken, given = session.get_inputs(), session.get_outputs()
        single = len(inputs) == len(taken) == 1
        self._inputs = _matched(inputs, [*taken], title, "input", by_position=single)
        self._outputs = _matched(outputs, [*given], title, "output", by_position=False)
        self._run = session.run

    def run(self, arrays: Sequence[Array]) -> Sequence[Array]:
        """See `Engine.run`."""
        rows = len(arrays[0])
        try:
            given = self._run(self._outputs, dict(zip(self._inputs, arrays, strict=True)))
        except Exception as error:  # onnxruntime has a class for each status and no common base
            raise ModelError(f"{self._title} failed: {error}") from error
        return [conform(g, s, rows, self._title) for g, s in zip(given, self.outputs, strict=True)]


def load(bundle: Bundle, form: Form) -> OnnxEngine:
    """Open a form from its verified bytes."""
    return OnnxEngine(bundle.read(form.file), bundle.tensor_inputs, bundle.tensor_outputs, bundle.title)


def session_of(content: bytes, title: str) -> Any:
    """Open a session of one thread.

    Raises:
        UsageError: the bytes are no ONNX model that this ONNX Runtime knows.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise UsageError(f"{title}: ONNX Runtime cannot load it: {error}; export the model again") from error


def _matched(
    specs: tuple[TensorSpec, ...], found: list[Any], title: str, what: str, *, by_position: bool
) -> list[str]:
    """The session's name of each stated tensor, once type and shape agree."""
    named = {f.name: f for f in found}
    names = []
    for spec in specs:
        node = found[0] if by_position else named.get(spec.name)
        if node is None:
            raise UsageError(f"{title}: it has no {what} {spec.name!r}; it has {sorted(named)}")
        datatype = TYPES.get(node.type)
        # a free dimension is None or a name
        shape = tuple(n if isinstance(n, int) else -1 for n in node.shape)
        agree = len(shape) == len(spec.shape) and all(
            -1 in (s, n) or s == n for s, n in zip(spec.shape, shape, strict=True)
        )
        column = (
            what == "output" and {len(shape), len(spec.shape)} == {1, 2} and {*shape, *spec.shape} <= {-1, 1}
        )
        if datatype is None or DTYPES[datatype] != DTYPES[spec.datatype] or not (agree or column):
            raise UsageError(
                f"{title}: its {what} {node.name!r} is {node.type} of {shape}, "
                f"the bundle states {spec.datatype} of {spec.shape}; export the model again"
            )
        names.append(node.name)
    return names
