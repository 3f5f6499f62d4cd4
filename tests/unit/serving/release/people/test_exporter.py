"""Metrics of each transition, read as Prometheus reads them."""

from __future__ import annotations

import urllib.request
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families
from release_stories import BANDIT, CANARY, Arm, Story, failing_canary, promoted_canary

from serving.release.envoy.process import free_port
from serving.release.people import exporter
from serving.release.people.exporter import Exporter, Families
from windlass.errors import WindlassError


def samples(text):
    """(name, labels) -> value."""
    return {
        (sample.name.removeprefix("windlass_release_"), *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def written(exported, tmp_path):
    path = tmp_path / "metrics" / "releases.prom"
    exported.write(path)
    return samples(path.read_text())


MODEL = ("model", "flights")


def test_every_decision_is_counted_and_the_end_shown(tmp_path):
    """Verify counters by action, the phase, the weights and the verdicts of a release that was promoted."""
    exported = Exporter()
    promoted_canary(tmp_path, listener=exported)
    found = written(exported, tmp_path)
    for action, times in (("start", 1), ("advance", 1), ("promote", 1), ("hold", 10)):
        assert found["decisions_total", ("action", action), ("check", ""), MODEL] == times
    assert found["phase", MODEL, ("phase", "Promoted")] == 1
    assert found["phase", MODEL, ("phase", "Progressing")] == 0
    assert found["weight_percent", MODEL, ("version", "13")] == 100
    assert ("weight_percent", MODEL, ("version", "12")) not in found
    assert found["alert", MODEL] == 0
    assert found["verdict_observations", ("check", "p99"), MODEL, ("version", "13")] > 1000


def test_a_failing_check_is_named(tmp_path):
    """Verify that a rollback is counted under its check, with estimate, interval and evidence as gauges."""
    exported = Exporter()
    story = failing_canary(tmp_path, listener=exported)
    found = written(exported, tmp_path)
    assert found["decisions_total", ("action", "roll_back"), ("check", "errors"), MODEL] == 1
    verdict = (("check", "errors"), MODEL, ("version", "13"))
    assert found["verdict_outcome", ("check", "errors"), MODEL, ("outcome", "FAIL"), ("version", "13")] == 1
    assert (
        found["verdict_lower", *verdict]
        < found["verdict_estimate", *verdict]
        < found["verdict_upper", *verdict]
    )
    assert found["verdict_evidence", *verdict] > 100
    assert found["last_decision_timestamp_seconds", MODEL] == story.clock.now().timestamp()


def test_what_is_unknown_has_no_series(tmp_path):
    """Verify that a check without an estimate shows none, least of all a zero."""
    exported = Exporter()
    Story(tmp_path, CANARY, {"12": Arm(), "13": Arm()}, listener=exported).start()
    found = written(exported, tmp_path)
    assert not [key for key in found if key[0].startswith("verdict")]
    assert found["weight_percent", MODEL, ("version", "13")] == 10


def test_a_version_that_is_out_disappears(tmp_path):
    """Verify that a dropped candidate leaves no weight behind."""
    exported = Exporter()
    arms = {"12": Arm(), "13": Arm(errors=0.5), "14": Arm()}
    story = Story(tmp_path, BANDIT, arms, listener=exported, rate=60).start()
    while not story.controller.newest("flights").dropped:
        story.look()
    versions = {dict(key[1:])["version"] for key in written(exported, tmp_path) if key[0] == "weight_percent"}
    assert versions == {"12", "14"}


def test_an_engine_that_starts_again_shows_where_it_stands(tmp_path):
    """Verify that the gauges are there before the next decision."""
    story = promoted_canary(tmp_path)
    exported = Exporter()
    exported.show(story.controller.newest("flights"))
    assert written(exported, tmp_path)["weight_percent", MODEL, ("version", "13")] == 100


def test_who_does_not_decide_any_longer_shows_no_release(tmp_path):
    """Verify that only counters are left, and that a release is shown again by who leads again."""
    exported = Exporter()
    story = failing_canary(tmp_path, listener=exported)
    exported.forget()
    assert {key[0] for key in written(exported, tmp_path)} == {"decisions_total"}
    exported.show(story.controller.newest("flights"))
    assert written(exported, tmp_path)["phase", MODEL, ("phase", "RolledBack")] == 1


def test_models_of_one_name_in_two_namespaces_are_two(tmp_path):
    """Verify that one registry shows both, each where it stands, and that who gives up one still shows the other."""
    families = Families(namespaces=True)
    ours, theirs = Exporter(families, "team-a"), Exporter(families, "team-b")
    promoted_canary(tmp_path / "a", listener=ours)
    failing_canary(tmp_path / "b", listener=theirs)
    found = written(ours, tmp_path)
    a, b = ("namespace", "team-a"), ("namespace", "team-b")
    assert found["phase", MODEL, a, ("phase", "Promoted")] == 1
    assert found["phase", MODEL, b, ("phase", "Promoted")] == 0
    assert found["phase", MODEL, b, ("phase", "RolledBack")] == 1
    assert found["weight_percent", MODEL, a, ("version", "13")] == 100
    assert found["weight_percent", MODEL, b, ("version", "12")] == 100
    assert found["decisions_total", ("action", "roll_back"), ("check", "errors"), MODEL, b] == 1
    ours.forget()
    left = [key for key in written(theirs, tmp_path) if key[0] != "decisions_total"]
    assert left and all(b in key for key in left)


@pytest.mark.parametrize(("namespaces", "namespace"), [(True, None), (False, "team-a")])
def test_a_namespace_is_stated_where_series_have_one(namespaces, namespace):
    """Verify that no series can be shown as nobody's, or under labels that there are not."""
    with pytest.raises(ValueError, match="whose series have"):
        Exporter(Families(namespaces=namespaces), namespace)


def test_a_release_that_nothing_decides_rings(tmp_path):
    """Verify that checks which stay INCONCLUSIVE beyond `inconclusiveAfter` are no silence: the alert is on."""
    exported = Exporter()
    story = Story(tmp_path, CANARY, {"12": Arm(), "13": Arm()}, listener=exported, rate=0).start()
    assert written(exported, tmp_path)["alert", MODEL] == 0
    while story.clock.now() - story.controller.newest("flights").step_started_at < timedelta(hours=23):
        story.look()
    assert written(exported, tmp_path)["alert", MODEL] == 0
    while story.clock.now() - story.controller.newest("flights").step_started_at <= timedelta(hours=25):
        story.look()
    found = written(exported, tmp_path)
    assert found["alert", MODEL] == 1
    assert found["phase", MODEL, ("phase", "Progressing")] == 1
    outcome = ("check", "errors"), MODEL, ("outcome", "INCONCLUSIVE"), ("version", "13")
    assert found["verdict_outcome", *outcome] == 1


def test_metrics_are_served_until_they_are_stopped(tmp_path):
    """Verify the page on the loopback address, the port that is taken, and that stopping frees it."""
    exported = Exporter()
    promoted_canary(tmp_path, listener=exported)
    port = free_port()
    stop = exporter.serve(exported, port)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert samples(answer.read().decode())["phase", MODEL, ("phase", "Promoted")] == 1
        with pytest.raises(WindlassError, match="choose another port"):
            exporter.serve(exported, port)
    finally:
        stop()
    exporter.serve(exported, port)()
