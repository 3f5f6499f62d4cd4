"""A sample of a Release is carried out by the operator, or says in its head that it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from serving.release import spec
from serving.release.release import BlueGreen
from windlass.operator import able
from windlass.operator.settings import Settings

SAMPLES = sorted((Path(__file__).parents[3] / "manifests" / "samples").glob("release-*.yaml"))
SETTINGS = Settings(("team",), "team", "one", prometheus_url="http://prometheus:9090")
REFUSED = "# The operator refuses it so far"


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_says_whether_it_is_carried_out(path: Path) -> None:
    """Verify it with the chart's settings: whoever applies the first sample of a page should not meet a refusal."""
    fault = able.fault(spec.parse(yaml.safe_load(path.read_text())), SETTINGS)
    assert (fault is not None) == any(line.startswith(REFUSED) for line in path.read_text().splitlines()), (
        fault
    )


def test_most_are_carried_out() -> None:
    """Verify that nobody makes the test above pass by saying no everywhere: canary and blue-green on each backend."""
    shown = set()
    for path in SAMPLES:
        release = spec.parse(yaml.safe_load(path.read_text()))
        if able.fault(release, SETTINGS) is None:
            shown.add((release.backend, type(release.strategy).__name__))
    assert shown == {(b, s) for b in ("gateway", "kserve", "knative") for s in ("Canary", "BlueGreen")}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_green_is_warmed_up_by_a_request_that_is_to_succeed(path: Path) -> None:
    """Verify that a blue-green sample has one: the operator has no request of its own, and sends the stated ones."""
    strategy = spec.parse(yaml.safe_load(path.read_text())).strategy
    if isinstance(strategy, BlueGreen):
        assert [request for request in strategy.smoke if request.status == 200 and request.body is not None]
        assert all(request.body is not None for request in strategy.smoke)
