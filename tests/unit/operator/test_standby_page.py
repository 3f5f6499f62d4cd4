"""What the metrics of a replica say of releases, once it does not lead any more."""

from __future__ import annotations

from tests.unit.operator.model_stage import Stage
from windlass.operator.releases import Releases


def shown(stage: Stage) -> set[str]:
    """Names of the series of releases on the page, counters aside."""
    return {
        sample.name
        for metric in stage.metrics.registry.collect()
        for sample in metric.samples
        if sample.name.startswith("windlass_release_") and not sample.name.endswith(("_total", "_created"))
    }


def test_who_leads_no_more_shows_no_release() -> None:
    """Verify that an alert of a release does not ring for ever at a replica that hears nothing more of it."""
    stage = Stage()
    stage.apply("flights-13")
    for _ in range(3):
        stage.model.turn()
    assert stage.phase("flights-13") == "Progressing"
    assert {"windlass_release_alert", "windlass_release_weight_percent"} <= shown(stage)
    releases = Releases(stage.objects, {"team": stage.place})
    releases.close()
    assert shown(stage) == set()
    # and who leads again shows it again
    stage.restarted().turn()
    assert "windlass_release_phase" in shown(stage)
