"""The operator put together: what is missing is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from kubernetes_server import KubernetesServer
from kubernetes_wire import Wire

from windlass.errors import UsageError
from windlass.operator import composition
from windlass.operator.composition import Context
from windlass.operator.fenced_api import FencedApi
from windlass.operator.metrics import Metrics
from windlass.operator.releases import Releases
from windlass.operator.settings import Settings


def test_without_serving_options_the_variable_is_named() -> None:
    """Verify that whoever starts the process by hand learns what to set."""
    api = FencedApi(Wire(KubernetesServer()), sleep=lambda s: None)
    with pytest.raises(UsageError, match="WINDLASS_SERVING_OPTIONS is not set"):
        composition.releases(Context(Settings(("team",), "team", "one"), api, Metrics()))


def test_each_namespace_has_its_own_collector(tmp_path: Path) -> None:
    (tmp_path / "serving.yaml").write_text("storage: s3://models/{model}/{version}\n")
    settings = Settings(
        ("a", "b"),
        "system",
        "one",
        collector_url="http://collector.{namespace}:8088",
        serving_options=tmp_path / "serving.yaml",
    )
    api = FencedApi(Wire(KubernetesServer()), sleep=lambda s: None)
    made = composition.releases(Context(settings, api, Metrics()))
    assert isinstance(made, Releases)
    asked = {name: place.collector.url for name, place in made._places.items() if place.collector}
    assert asked == {"a": "http://collector.a:8088", "b": "http://collector.b:8088"}
