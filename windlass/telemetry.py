"""No telemetry, ours or a dependency's, leaves the machine.

Set before any of these packages is imported; children inherit the environment.
"""

from __future__ import annotations

import os

SWITCHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "FEAST_USAGE": "False",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DVC_NO_ANALYTICS": "true",
    "KFP_DISABLE_TELEMETRY": "true",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "ANONYMIZED_TELEMETRY": "False",
}


def switch_off() -> None:
    """Switch off every known telemetry of our dependencies in this process and its children."""
    os.environ.update(SWITCHES)
