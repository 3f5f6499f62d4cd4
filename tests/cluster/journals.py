"""Makes an API server of the tests ready for journals."""

from __future__ import annotations

import time
from pathlib import Path

from tests.cluster.api_server import ApiServer
from windlass.errors import WindlassError

CRD = Path(__file__).parents[2] / "manifests" / "crds" / "releasejournals.yaml"
SERVED_S = 60.0


def ready(server: ApiServer, namespace: str) -> None:
    """Install the definition of ReleaseJournals, and create a namespace."""
    server.kubectl("apply", "-f", CRD)
    server.kubectl("create", "namespace", namespace)
    until = time.monotonic() + SERVED_S
    while True:
        try:
            server.request("GET", f"/apis/windlass.dev/v1alpha1/namespaces/{namespace}/releasejournals")
            return
        except WindlassError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
