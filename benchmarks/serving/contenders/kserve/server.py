"""KServe's Python ModelServer: a custom model, V1 and V2 over REST and gRPC, request logs off."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.logging import trace_logger
from kserve.utils.utils import generate_uuid

from benchmarks.serving.contenders.classifier import NAME, Classifier, arguments


class Served(Model):  # type: ignore[misc]
    def __init__(self, classifier: Classifier) -> None:
        super().__init__(NAME)
        self._classifier = classifier
        self.ready = True

    def predict(self, payload: Any, headers: dict[str, str] | None = None) -> Any:
        if not isinstance(payload, InferRequest):
            rows = np.array(payload["instances"], dtype=np.float32)
            return {"predictions": self._classifier(rows).tolist()}
        scores = self._classifier(payload.inputs[0].as_numpy())
        output = InferOutput("probability", list(scores.shape), "FP32")
        # raw bytes where the caller speaks gRPC, numbers in JSON
        output.set_data_from_numpy(scores, binary_data=payload.from_grpc)
        return InferResponse(payload.id or generate_uuid(), NAME, [output], from_grpc=payload.from_grpc)


if __name__ == "__main__":
    told = arguments()
    server = ModelServer(
        http_port=told.port, grpc_port=told.grpc_port, workers=1, enable_latency_logging=False
    )
    for log in (trace_logger, logging.getLogger("uvicorn.access"), logging.getLogger("kserve")):
        log.setLevel(logging.ERROR)
    server.start([Served(Classifier(told.model))])
