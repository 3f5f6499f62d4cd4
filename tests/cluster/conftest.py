"""One API server for the tests of a worker that disturb nobody in it: each has namespaces of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.rules.watch import watching
from tests.cluster.api_server import ApiServer, established
from tests.cluster.operator_stage import Traffic

CRDS = Path(__file__).parents[2] / "manifests" / "crds"


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A running server that knows our definitions. Who stops it, or changes what is not of a namespace, starts one of
    its own."""
    with ApiServer(tmp_path_factory.mktemp("api-server")) as running:
        running.kubectl("apply", "--server-side", "-f", CRDS)
        established(running)
        yield running


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    """Users of the models, and the page of the servers that answer them."""
    return Traffic()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, traffic: Traffic) -> Iterator[str]:
    """A real Prometheus that scrapes that page; its address."""
    folder = tmp_path_factory.mktemp("prometheus")
    with traffic.served() as page, watching(folder, {"windlass-serving": [page]}, groups=()) as watch:
        yield watch.prometheus
