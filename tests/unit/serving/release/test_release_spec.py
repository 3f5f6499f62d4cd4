"""The Release document: what is read, and what is refused with path, value and remedy."""

from __future__ import annotations

import copy
from datetime import timedelta

import pytest
import yaml

from serving.release import durations, spec
from serving.release.release import Canary, Step


def put(document, path, value):
    """A copy of `document` with `value` at the dotted path; ... removes it."""
    changed = copy.deepcopy(document)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place = changed
    for parent in parents:
        place = place[parent]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return changed


def test_a_valid_document_becomes_values(document):
    release = spec.parse(document)
    assert (release.name, release.model, release.candidate, release.champion) == (
        "flights-13",
        "flights",
        "13",
        "12",
    )
    assert release.strategy == Canary((Step(10, 50, timedelta(minutes=10)), Step(50, 100)), mirror=True)
    errors, p99, skew, brier = release.checks
    assert (errors.bound, errors.relative_to_champion, errors.alpha) == (None, True, 0.01)
    assert (p99.bound, skew.bound) == (50.0, 0.02)
    assert (brier.kind, brier.margin, brier.alpha, brier.min_samples) == ("decision", 0.01, 0.05, 100)


def test_written_and_read_again_it_is_the_same(document):
    release = spec.parse(document)
    assert spec.parse(spec.document(release)) == release
    assert spec.loads(yaml.safe_dump(spec.document(release))) == release


def test_a_bare_number_is_a_version(document):
    assert spec.parse(put(document, "spec.candidate", 13)).candidate == "13"


def test_a_workloads_block_is_completed(document):
    block = {
        "strategy": document["spec"]["strategy"],
        "checks": document["spec"]["checks"],
        "inconclusiveAfter": "30d",
    }
    release = spec.for_candidate(block, name="r", model="flights", candidate="13", champion=None)
    assert (release.champion, release.inconclusive_after) == (None, timedelta(days=30))


BAD = [
    ("kind", "Deployment", "kind = 'Deployment'", "use one of Release"),
    ("apiVersion", "v1", "apiVersion = 'v1'", "windlass.dev/v1alpha1"),
    ("metadata.name", ..., "metadata.name = missing", "name the release"),
    ("metadata.labl", {}, "metadata.labl", "unknown field"),
    ("spec", ..., "spec = missing", "state it"),
    ("spec", "canary", "spec = 'canary'", "mapping"),
    ("spec.model", "", "spec.model = ''", "name the registered model"),
    ("spec.candidate", ..., "spec.candidate = missing", "version"),
    ("spec.candidate", "12", "spec.candidate = '12'", "champion itself"),
    ("spec.candidates", ["13", "14"], "spec.candidates", "one candidate"),
    ("spec.backend", "nomad", "spec.backend = 'nomad'", "use one of local"),
    ("spec.backend", "gateway", "spec.strategy.mirror = true", "cannot copy each version's requests"),
    ("spec.backend", "gateway", "spec.checks[0].source = 'envoy'", "use prometheus"),
    ("spec.gateway", {"name": "g"}, "spec.gateway = 'g'", "has no Gateway"),
    ("spec.onConflict", "wait", "spec.onConflict = 'wait'", "refuse, queue"),
    ("spec.inconclusiveAfter", "1y", "spec.inconclusiveAfter = '1y'", "10m, 24h"),
    ("spec.inconclusiveAfter", 24, "spec.inconclusiveAfter = 24", "duration"),
    ("spec.whenInconclusive", "promote", "spec.whenInconclusive", "hold, abort"),
    ("spec.weight", 5, "spec.weight = 5", "unknown field"),
    ("spec.strategy.type", "rolling", "spec.strategy.type = 'rolling'", "use one of canary"),
    ("spec.strategy.type", "bandit", "spec.strategy.steps", "unknown field"),
    ("spec.strategy.type", "blueGreen", "spec.strategy.steps", "unknown field"),
    ("spec.strategy.steps", [], "spec.strategy.steps = []", "at least one step"),
    ("spec.strategy.steps", "10", "spec.strategy.steps = '10'", "at least one step"),
    ("spec.strategy.steps.0.weight", 0, "spec.strategy.steps[0].weight = 0", "1..100"),
    ("spec.strategy.steps.1.weight", 101, "spec.strategy.steps[1].weight = 101", "1..100"),
    ("spec.strategy.steps.1.weight", 5, "spec.strategy.steps[1].weight = 5", "weights must rise"),
    ("spec.strategy.steps.1.weight", 10, "spec.strategy.steps[1].weight = 10", "weights must rise"),
    ("spec.strategy.steps.1.weight", 50.5, "spec.strategy.steps[1].weight = 50.5", "whole number"),
    ("spec.strategy.steps.1.weight", True, "spec.strategy.steps[1].weight = true", "whole number"),
    ("spec.strategy.steps.0.weight", ..., "spec.strategy.steps[0].weight = missing", "1..100"),
    ("spec.strategy.steps.0.minSamples", 0, "spec.strategy.steps[0].minSamples = 0", "1 or more"),
    ("spec.strategy.steps.0.minDuration", "10", "spec.strategy.steps[0].minDuration = '10'", "10m"),
    ("spec.strategy.steps.0.pause", "1m", "spec.strategy.steps[0].pause", "unknown field"),
    ("spec.strategy.steps.1.weight", 100, "spec.strategy.steps = [10, 100]", "no champion traffic"),
    ("spec.strategy.mirror", "yes", "spec.strategy.mirror = 'yes'", "true or false"),
    ("spec.strategy.mirror", False, "spec.checks[3].metric = 'brier'", "set strategy.mirror to true"),
    ("spec.checks", [], "spec.checks = []", "at least one guardrail"),
    ("spec.checks", ..., "spec.checks = missing", "at least one guardrail"),
    ("spec.checks.0", "errors", "spec.checks[0] = 'errors'", "mapping"),
    ("spec.checks.0.name", "p99", "spec.checks[0].name = 'p99'", "two checks"),
    ("spec.checks.0.metric", "successRate", "spec.checks[0].metric = 'successRate'", "errorRate"),
    ("spec.checks.0.kind", "decision", "spec.checks[0].kind = 'decision'", "errorRate is a guardrail"),
    ("spec.checks.0.source", ..., "spec.checks[0].source = missing", "envoy"),
    ("spec.checks.0.source", "feedback", "spec.checks[0].source = 'feedback'", "use one of envoy"),
    ("spec.checks.0.alpha", 0, "spec.checks[0].alpha = 0", "between 0 and 1"),
    ("spec.checks.0.alpha", 1.0, "spec.checks[0].alpha = 1.0", "between 0 and 1"),
    ("spec.checks.0.alpha", "1%", "spec.checks[0].alpha = '1%'", "between 0 and 1"),
    ("spec.checks.0.margin", 0.1, "spec.checks[0].margin", "unknown field"),
    ("spec.checks.0.relativeToChampion", False, "spec.checks[0].bound = missing", "relativeToChampion: true"),
    ("spec.checks.1.bound", "50", "spec.checks[1].bound = '50'", "50ms"),
    ("spec.checks.1.relativeToChampion", "no", "spec.checks[1].relativeToChampion = 'no'", "true or false"),
    ("spec.checks.2.bound", 0, "spec.checks[2].bound = 0", "cannot be judged"),
    ("spec.checks.2.bound", 120, "spec.checks[2].bound = 120", "percentage"),
    ("spec.checks.2.relativeToChampion", True, "spec.checks[2].relativeToChampion", "unknown field"),
    ("spec.checks.3.margin", -0.1, "spec.checks[3].margin = -0.1", "0.01"),
    ("spec.checks.3.direction", "increase", "spec.checks[3].direction = 'increase'", "decrease"),
    ("spec.checks.3.method", "ttest", "spec.checks[3].method = 'ttest'", "betting, asymptotic"),
    ("spec.checks.3.minSamples", 0, "spec.checks[3].minSamples = 0", "1 or more"),
]


@pytest.mark.parametrize(
    ("path", "value", "place", "remedy"), [pytest.param(*row, id=f"{row[0]}={row[1]}"[:60]) for row in BAD]
)
def test_a_bad_document_is_refused_with_place_and_remedy(document, path, value, place, remedy):
    with pytest.raises(spec.SpecError) as caught:
        spec.parse(put(document, path, value))
    assert any(place in str(p) and remedy in str(p) for p in caught.value.problems), str(caught.value)
    assert caught.value.exit_code == 2


def test_a_release_without_a_guardrail_is_refused(document):
    only_decision = put(document, "spec.checks", document["spec"]["checks"][3:])
    with pytest.raises(spec.SpecError, match="no guardrail"):
        spec.parse(only_decision)


def test_a_release_with_two_decisions_is_refused(document):
    second = {**document["spec"]["checks"][3], "name": "brier-again"}
    with pytest.raises(spec.SpecError, match="more than one decision"):
        spec.parse(put(document, "spec.checks", [*document["spec"]["checks"], second]))


def test_all_problems_are_told_at_once(document):
    bad = put(put(document, "spec.candidate", ...), "spec.checks.0.alpha", 7)
    with pytest.raises(spec.SpecError) as caught:
        spec.parse(bad)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("text", ["[1,", "", "- a", "42"])
def test_a_text_that_is_no_document_is_refused(text):
    with pytest.raises(spec.SpecError):
        spec.loads(text)


def test_a_step_of_100_is_fine_where_nothing_needs_the_champion(document):
    alone = put(
        put(document, "spec.strategy.steps.1.weight", 100), "spec.checks", document["spec"]["checks"][2:3]
    )
    assert spec.parse(alone).strategy.steps[-1].weight == 100


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("50ms", 0.05),
        ("30s", 30),
        ("10m", 600),
        ("1h30m", 5400),
        ("24h", 86400),
        ("3d", 259200),
        ("1.5s", 1.5),
    ],
)
def test_durations_are_read_as_kubernetes_writes_them(text, seconds):
    duration = durations.parse(text)
    assert duration == timedelta(seconds=seconds)
    assert durations.parse(durations.format(duration)) == duration


@pytest.mark.parametrize("text", ["", "10", "10x", "m", "10m ", "-5m", "1h 30m", "ten minutes"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="is no duration"):
        durations.parse(text)
