"""TensorFlow Lite models through LiteRT, or TensorFlow's own interpreter where only that is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serving.runtime.bundle import Bundle, Form
from serving.runtime.engines.engine import Array, ModelError, TensorSpec, conform
from windlass.errors import UsageError


class LitertEngine:
    """An interpreter on one thread, driven through the model's signature; a batch of another size resizes it.

    Args:
        names: the signature's name of each input and of each output.
    """

    format = "litert"

    def __init__(self, runner: Any, names: tuple[list[str], list[str]], bundle: Bundle) -> None:
        self.inputs: tuple[TensorSpec, ...] = bundle.tensor_inputs
        self.outputs: tuple[TensorSpec, ...] = bundle.tensor_outputs
        self._runner = runner
        self._inputs, self._outputs = names
        self._title = bundle.title

    def run(self, arrays: Sequence[Array]) -> Sequence[Array]:
        """See `Engine.run`."""
        try:
            given = self._runner(**dict(zip(self._inputs, arrays, strict=True)))
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{self._title} failed: {error}") from error
        rows = len(arrays[0])
        return [
            conform(given[n], s, rows, self._title) for n, s in zip(self._outputs, self.outputs, strict=True)
        ]


def load(bundle: Bundle, form: Form) -> LitertEngine:
    """Open a form from its verified bytes.

    Raises:
        UsageError: the bytes are no model, or its inputs and outputs are not what the bundle states.
    """
    try:
        interpreter = _interpreter()(model_content=bundle.read(form.file), num_threads=1)
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"{bundle.title}: LiteRT cannot load {form.file!r}: {error}") from error
    signatures = interpreter.get_signature_list()
    if len(signatures) != 1:
        raise UsageError(f"{bundle.title}: {form.file!r} has {len(signatures)} signatures, expected one")
    (signature,) = signatures.values()
    names = (
        _matched(bundle, "inputs", bundle.tensor_inputs, signature["inputs"]),
        _matched(bundle, "outputs", bundle.tensor_outputs, signature["outputs"]),
    )
    return LitertEngine(interpreter.get_signature_runner(), names, bundle)


def _interpreter() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-not-found]
    except ImportError:
        from tensorflow.lite import Interpreter  # type: ignore[import-untyped]
    return Interpreter


def _matched(bundle: Bundle, what: str, specs: tuple[TensorSpec, ...], found: list[str]) -> list[str]:
    names = [s.name for s in specs]
    if sorted(names) == sorted(found):
        return names
    if len(names) == len(found) == 1:
        return found
    raise UsageError(f"{bundle.title}: its {what} are {sorted(found)}, the bundle states {names}")
