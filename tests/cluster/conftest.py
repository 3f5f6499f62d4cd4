"""One API server for the tests of a worker that disturb nobody in it: each has namespaces of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.api_server import ApiServer

CRDS = Path(__file__).parents[2] / "manifests" / "crds"
ESTABLISHED_S = 60.0


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A running server that knows our definitions. Who stops it, or changes what is not of a namespace, starts one of
    its own."""
    with ApiServer(tmp_path_factory.mktemp("api-server")) as running:
        running.kubectl("apply", "--server-side", "-f", CRDS)
        established(running)
        yield running


def established(server: ApiServer) -> None:
    """Wait until every definition is served; `kubectl wait` fails on one that has no conditions yet."""
    until = time.monotonic() + ESTABLISHED_S
    while True:
        found = server.request("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions")["items"]
        states = [
            {c["type"]: c["status"] for c in (crd.get("status") or {}).get("conditions") or ()}
            for crd in found
        ]
        if all(each.get("Established") == "True" for each in states):
            return
        assert time.monotonic() < until, f"definitions are not served after {ESTABLISHED_S:g} s: {states}"
        time.sleep(0.05)
