"""A local API server, a client of it that waits for nothing, and a clock that only waiting moves."""

from __future__ import annotations

from collections.abc import Iterator

import kubernetes_server
import pytest

from serving.release.cluster.api import KubernetesApi
from serving.release.cluster.waiting import Patience


@pytest.fixture
def server() -> Iterator[kubernetes_server.KubernetesServer]:
    with kubernetes_server.running() as running:
        yield running


@pytest.fixture
def slept() -> list[float]:
    """Every pause that was made, in seconds."""
    return []


@pytest.fixture
def api(server: kubernetes_server.KubernetesServer, slept: list[float]) -> KubernetesApi:
    return KubernetesApi(server.client(), timeout_s=60.0, sleep=slept.append)


@pytest.fixture
def patience(slept: list[float]) -> Patience:
    return Patience(within_s=5.0, refused_for_s=1.0, clock=lambda: sum(slept))
