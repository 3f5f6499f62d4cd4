"""`bentoml serve` of `service.py`."""

from __future__ import annotations

import os
import sys

from benchmarks.serving.contenders.classifier import arguments

SERVICE = "benchmarks.serving.contenders.bentoml.service:Served"

if __name__ == "__main__":
    told = arguments()
    os.environ["BENCH_MODEL"] = str(told.model.absolute())
    command = [sys.executable, "-m", "bentoml", "serve", SERVICE, "--host", "127.0.0.1"]
    os.execv(command[0], [*command, "--port", str(told.port)])  # noqa: S606 - a list of ours, no shell
