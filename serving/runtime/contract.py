"""What a served model takes and gives, as the protocols need to know it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import orjson

from serving.runtime.engines.engine import TensorSpec
from serving.runtime.refusal import FieldError
from serving.runtime.signature import Signature

PLATFORMS = {
    "onnx": "onnxruntime_onnx",
    "xgboost": "xgboost_ubj",
    "lightgbm": "lightgbm_text",
    "tl2cgen": "treelite_shared_object",
    "skops": "sklearn_skops",
    "litert": "tensorflow_tflite",
    "keras": "tensorflow_keras",
    "pyfunc": "mlflow_pyfunc",
    "ensemble": "ensemble",
}
ROW_DATATYPES = {"string": "BYTES", "int64": "INT64", "int32": "INT32"}


@dataclass(frozen=True)
class Contract:
    """One model version, as callers see it.

    Attributes:
        signature: of a model of rows; None for a model of tensors.
        inputs: of a model of tensors, in the engine's order.
        outputs: what is answered, in order; a model of rows has one.
        form: the format that runs.
        parameters: more for the metadata.
    """

    name: str
    version: str
    signature: Signature | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    form: str
    parameters: dict[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def head(self) -> bytes:
        """How every V2 answer begins."""
        names = orjson.dumps({"model_name": self.name, "model_version": self.version})
        return names[:-1] + b","

    @functools.cached_property
    def output_head(self) -> bytes:
        """How the only output of a V2 answer begins."""
        output = orjson.dumps({"name": self.outputs[0].name, "datatype": self.outputs[0].datatype})
        return b'"outputs":[' + output[:-1] + b","

    @functools.cached_property
    def head_of_record(self) -> bytes:
        """How every record of the payload log begins."""
        return orjson.dumps({"model": self.name, "version": self.version})[:-1] + b","

    @functools.cached_property
    def version_header(self) -> bytes:
        """The response header that names the version."""
        return b"x-windlass-version: %s\r\n" % self.version.encode()

    def wanted(self, name: object, where: str) -> str:
        """Check the name of an output that is asked for.

        Raises:
            FieldError: there is no such output.
        """
        if any(o.name == name for o in self.outputs):
            return str(name)
        known = [o.name for o in self.outputs]
        text = f"the only output, {known[0]!r}" if len(known) == 1 else f"one of {', '.join(known)}"
        raise FieldError(where, name, text)

    def metadata(self) -> dict[str, Any]:
        """Describe the model as V2's model metadata."""
        inputs = [{"name": i.name, "datatype": i.datatype, "shape": list(i.shape)} for i in self.inputs]
        if (signature := self.signature) is not None and signature.plain:
            inputs = [{"name": "features", "datatype": "FP32", "shape": [-1, signature.width]}]
        elif signature is not None:
            datatypes = {name: ROW_DATATYPES[kind] for name, kind in signature.entities}
            for f in signature.fields:
                datatypes.setdefault(f.name, "FP64" if f.categories is None else "BYTES")
            inputs = [{"name": n, "datatype": d, "shape": [-1]} for n, d in datatypes.items()]
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": PLATFORMS.get(self.form, self.form),
            "inputs": inputs,
            "outputs": [
                {"name": o.name, "datatype": o.datatype, "shape": list(o.shape)} for o in self.outputs
            ],
            "parameters": {**self.parameters, "form": self.form},
        }
