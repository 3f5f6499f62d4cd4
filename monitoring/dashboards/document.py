"""All dashboards as files."""

from __future__ import annotations

import json

from monitoring.dashboards.collector import COLLECTOR
from monitoring.dashboards.model import MODEL
from monitoring.dashboards.overview import OVERVIEW
from monitoring.dashboards.panel import Dashboard
from monitoring.dashboards.retraining import RETRAINING

DASHBOARDS: tuple[Dashboard, ...] = (OVERVIEW, MODEL, RETRAINING, COLLECTOR)
FOLDER = "monitoring/dashboards/generated"


def files() -> dict[str, str]:
    """The files by their place in the project; the same at every call."""
    return {f"{FOLDER}/{d.uid}.json": json.dumps(d.document(), indent=2) + "\n" for d in DASHBOARDS}
