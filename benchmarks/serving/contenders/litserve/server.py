"""LitServe: one worker behind one API server, joined by ZeroMQ as its docs advise for small models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import litserve
import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.contenders.classifier import Classifier, arguments


class Served(litserve.LitAPI):  # type: ignore[misc]
    def __init__(self, model: Path) -> None:
        super().__init__()
        self._model = model

    def setup(self, device: str) -> None:
        self._classifier = Classifier(self._model)

    # LitServe takes an annotation for a schema to validate against; without one the body arrives as parsed JSON
    def decode_request(self, request) -> NDArray[np.float32]:  # type: ignore[no-untyped-def]
        return np.array(request["instances"], dtype=np.float32)

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._classifier(rows)

    def encode_response(self, scores: NDArray[np.float32]) -> dict[str, Any]:
        return {"predictions": scores.tolist()}


if __name__ == "__main__":
    told = arguments()
    server = litserve.LitServer(Served(told.model), accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1", port=told.port, num_api_servers=1, log_level="error", generate_client_file=False
    )
