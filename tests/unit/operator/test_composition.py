"""The operator put together: what is missing is named."""

from __future__ import annotations

import pytest
from kubernetes_server import KubernetesServer
from kubernetes_wire import Wire

from windlass.errors import UsageError
from windlass.operator import composition
from windlass.operator.composition import Context
from windlass.operator.fenced_api import FencedApi
from windlass.operator.metrics import Metrics
from windlass.operator.settings import Settings


def test_without_serving_options_the_variable_is_named() -> None:
    """Verify that whoever starts the process by hand learns what to set."""
    api = FencedApi(Wire(KubernetesServer()), sleep=lambda s: None)
    with pytest.raises(UsageError, match="WINDLASS_SERVING_OPTIONS is not set"):
        composition.releases(Context(Settings(("team",), "team", "one"), api, Metrics()))
