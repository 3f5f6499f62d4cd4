"""One API server for the tests of a worker that disturb nobody in it: each has namespaces of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.api_server import ApiServer

CRDS = Path(__file__).parents[2] / "manifests" / "crds"


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A running server that knows our definitions. Who stops it, or changes what is not of a namespace, starts one of
    its own."""
    with ApiServer(tmp_path_factory.mktemp("api-server")) as running:
        running.kubectl("apply", "--server-side", "-f", CRDS)
        running.kubectl("wait", "--for=condition=Established", "crd", "--all")
        yield running
