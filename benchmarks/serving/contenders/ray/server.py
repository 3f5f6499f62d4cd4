"""Ray Serve: one replica behind its HAProxy, access log off, with the switches that its docs name for throughput."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from benchmarks.serving.contenders.classifier import Classifier, arguments

# read at the import of ray.serve, by this process and by every one that it starts
os.environ |= {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
}

import numpy as np
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=100)
class Served:
    def __init__(self, model: Path) -> None:
        self._classifier = Classifier(model)

    async def __call__(self, request: Request) -> dict[str, Any]:
        document = await request.json()
        rows = np.array(document["instances"], dtype=np.float32)
        return {"predictions": self._classifier(rows).tolist()}


if __name__ == "__main__":
    told = arguments()
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
    quiet = {"enable_access_log": False, "log_level": "ERROR"}
    serve.start(http_options={"host": "127.0.0.1", "port": told.port}, logging_config=quiet)
    serve.run(Served.options(logging_config=quiet).bind(told.model.absolute()))
    try:
        signal.pause()
    finally:
        serve.shutdown()
        ray.shutdown()
