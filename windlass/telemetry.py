"""No telemetry, ours or a dependency's, leaves the machine.

Set before any of these packages is imported; children inherit the environment. Each name was read in the source of
the version that we pin: a switch that its package no longer reads protects nobody, so a test reads them again.
"""

from __future__ import annotations

import os

SWITCHES = {
    # evidently (any value), mlflow (exactly "true"), and others that follow the convention
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # the legacy half of evidently, and the library that it and dvc report through
    "EVIDENTLY_DISABLE_TELEMETRY": "1",
    "ITERATIVE_DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    # onnxruntime's wheels for Linux send session and model events by themselves, from native code
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # the feast that we pin reports nothing any more; for a feature repository that is run with an older one
    "FEAST_USAGE": "False",
}


def switch_off() -> None:
    """Switch off every known telemetry of our dependencies in this process and its children."""
    os.environ.update(SWITCHES)
