"""The page of a running platform is there by itself, and its metrics are where it says."""

from __future__ import annotations

import contextlib
import time
import urllib.request
from pathlib import Path

import planes
import pytest

from monitoring.analysis import store

pytestmark = pytest.mark.slow


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310
        text: str = answer.read().decode()
        return text


def test_the_page_shows_a_result_without_being_asked_for(tmp_path: Path) -> None:
    """Verify that an analysis appears at report_url, and that each metrics page of the status is a real one."""
    place = planes.make(tmp_path)
    check = {"name": "featureDrift", "verdict": "FAIL", "reason": "f3 has moved", "evidence": {}}
    document = {"end": time.time(), "checks": [], "versions": [{"version": "1", "checks": [check]}]}
    store.write(place.settings, planes.MODEL, document["end"], document)
    try:
        described = place.up()

        def shown() -> bool:
            with contextlib.suppress(OSError):  # it does not listen yet
                return "f3 has moved" in get(described["report_url"])
            return False

        planes.wait(shown)
        assert "<h1>Feature drift fails.</h1>" in get(described["report_url"])
        expected = {
            "windlass-serving": "windlass_connections",
            "windlass-collector": "windlass_collector_storage_ok",
            "windlass-retrain": "windlass_retrain_escalated",
        }
        _, status = place.windlass("status")
        assert set(status["metrics_urls"]) == set(expected)
        for job, metric in expected.items():
            assert all(f"# TYPE {metric}" in get(url) for url in status["metrics_urls"][job])
    finally:
        planes.end(place)
    assert place.running() == {}
