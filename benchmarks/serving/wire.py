"""What the contenders are asked and what they answer: each one's own protocol, the same rows.

Runs in the load generator's environment. A format is a protocol's name; `message` writes a request, `scores`
reads an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from benchmarks.serving.contenders.classifier import NAME

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Format:
    """A protocol.

    Attributes:
        path: where to post to; of gRPC the method.
        encode: rows [n, F] to the request's body.
        decode: an answer's body to its n scores.
    """

    path: str
    encode: Callable[[Rows], bytes]
    decode: Callable[[bytes], list[float]]


def message(format: Format, rows: Rows) -> bytes:
    """Write one HTTP/1.1 request."""
    body = format.encode(rows)
    head = (
        f"POST {format.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _matrix(rows: Rows) -> bytes:
    tensor = {
        "name": "features",
        "datatype": "FP32",
        "shape": list(rows.shape),
        "data": rows.ravel().tolist(),
    }
    return orjson.dumps({"inputs": [tensor]})


def _tensor(body: bytes) -> list[float]:
    data: list[float] = orjson.loads(body)["outputs"][0]["data"]
    return data


def _named(field: str) -> Callable[[Rows], bytes]:
    return lambda rows: orjson.dumps({field: rows.tolist()})


def _predictions(body: bytes) -> list[float]:
    found: list[float] = orjson.loads(body)["predictions"]
    return found


def _outputs(body: bytes) -> list[float]:
    found: list[float] = orjson.loads(body)["predictions"]["probability"]
    return found


def _infer_request(rows: Rows) -> bytes:
    tensor = service_pb2.ModelInferRequest.InferInputTensor(
        name="features", datatype="FP32", shape=list(rows.shape)
    )
    request = service_pb2.ModelInferRequest(
        model_name=NAME, inputs=[tensor], raw_input_contents=[rows.tobytes()]
    )
    text: bytes = request.SerializeToString()
    return text


def _infer_response(body: bytes) -> list[float]:
    answer: Any = service_pb2.ModelInferResponse.FromString(body)
    if answer.raw_output_contents:
        raw: list[float] = np.frombuffer(answer.raw_output_contents[0], np.float32).tolist()
        return raw
    return list(answer.outputs[0].contents.fp32_contents)


def _keys(rows: Rows) -> bytes:
    # a row of keys is a customer and a merchant, by number
    named = [{"customer": f"c{int(row[0])}", "merchant": f"m{int(row[1])}"} for row in rows]
    return orjson.dumps({"instances": named})


V1_PATH = f"/v1/models/{NAME}:predict"

FORMATS = {
    "v2": Format(f"/v2/models/{NAME}/infer", _matrix, _tensor),
    "v1": Format(V1_PATH, _named("instances"), _predictions),
    "grpc": Format("/inference.GRPCInferenceService/ModelInfer", _infer_request, _infer_response),
    "keys": Format(V1_PATH, _keys, _predictions),
    "bentoml": Format("/predict", _named("features"), orjson.loads),
    "litserve": Format("/predict", _named("instances"), _predictions),
    "mlflow": Format("/invocations", _named("inputs"), _outputs),
    "ray": Format("/", _named("instances"), _predictions),
}
