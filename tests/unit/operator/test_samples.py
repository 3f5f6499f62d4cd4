"""The samples of Releases are carried out by the operator."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from serving.release import spec
from serving.release.release import BlueGreen, strategy_name
from serving.release.rules import SUPPORTED
from windlass.operator import able
from windlass.operator.settings import Settings

SAMPLES = sorted((Path(__file__).parents[3] / "manifests" / "samples").glob("release-*.yaml"))
SETTINGS = Settings(
    ("team",), "team", "one", prometheus_url="http://prometheus:9090", collector_url="http://collector:8088"
)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_is_carried_out(path: Path) -> None:
    """Verify it with the chart's settings: whoever applies the first sample of a page should not meet a refusal."""
    assert able.fault(spec.parse(yaml.safe_load(path.read_text())), SETTINGS) is None


def test_every_way_is_shown() -> None:
    """Verify that there is a sample of each strategy on each backend that can do it."""
    releases = [spec.parse(yaml.safe_load(path.read_text())) for path in SAMPLES]
    shown = {(release.backend, strategy_name(release.strategy)) for release in releases}
    able_to = {(b, s) for b, strategies in SUPPORTED.items() if b != "local" for s in strategies}
    assert shown == able_to


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_green_is_warmed_up_by_a_request_that_is_to_succeed(path: Path) -> None:
    """Verify that a blue-green sample has one: the operator has no request of its own, and sends the stated ones."""
    strategy = spec.parse(yaml.safe_load(path.read_text())).strategy
    if isinstance(strategy, BlueGreen):
        assert [request for request in strategy.smoke if request.status == 200 and request.body is not None]
        assert all(request.body is not None for request in strategy.smoke)
