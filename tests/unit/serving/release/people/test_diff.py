"""What a document changes, field by field."""

from __future__ import annotations

import copy

import pytest
from release_stories import CANARY

from serving.release import spec
from serving.release.people import diff
from serving.release.people.diff import Change


def changed(edit):
    document = copy.deepcopy(CANARY)
    edit(document["spec"])
    return diff.changes(spec.parse(CANARY), spec.parse(document))


def test_the_same_document_changes_nothing():
    """Verify that reading and writing it adds no difference."""
    assert diff.changes(spec.parse(CANARY), spec.parse(spec.document(spec.parse(CANARY)))) == []


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        pytest.param(
            lambda s: s.update(candidate="14"), [Change("spec.candidate", "13", "14")], id="another-version"
        ),
        pytest.param(
            lambda s: s["strategy"]["steps"][1].update(weight=40),
            [Change("spec.strategy.steps[1].weight", 50, 40)],
            id="a-step",
        ),
        pytest.param(
            lambda s: s["checks"].reverse(),
            [],
            id="checks-are-told-apart-by-name",
        ),
        pytest.param(
            lambda s: s["checks"][1].update(bound="80ms"),
            [Change("spec.checks[p99].bound", "50ms", "80ms")],
            id="a-bound",
        ),
        pytest.param(
            lambda s: s["strategy"]["steps"].pop(),
            [
                Change("spec.strategy.steps[1].weight", 50, None),
                Change("spec.strategy.steps[1].minSamples", 1500, None),
                Change("spec.strategy.steps[1].minDuration", "0s", None),
            ],
            id="what-is-gone-comes-last",
        ),
    ],
)
def test_each_change_is_named_by_its_path(edit, expected):
    """Verify path, old and new value of what differs, and nothing else."""
    assert changed(edit) == expected


def test_without_an_older_release_everything_is_new():
    """Verify that a first release is shown whole."""
    found = diff.changes(None, spec.parse(CANARY))
    assert all(change.before is None for change in found)
    assert Change("spec.model", None, "flights") in found
