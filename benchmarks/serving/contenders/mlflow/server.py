"""`mlflow models serve` of what `prepare.py` wrote: a pyfunc over the ONNX flavour, one worker."""

from __future__ import annotations

import os
import sys

from benchmarks.serving.contenders.classifier import arguments

if __name__ == "__main__":
    told = arguments()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "--workers", "1"]
    command += ["--model-uri", str(told.scratch / "model"), "--host", "127.0.0.1"]
    os.execv(command[0], [*command, "--port", str(told.port)])  # noqa: S606 - a list of ours, no shell
