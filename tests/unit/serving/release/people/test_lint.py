"""Faults of documents with the place where they stand."""

from __future__ import annotations

import pytest

from serving.release.people import lint

GOOD = """\
kind: Release
metadata: {name: flights-13}
spec:
  model: flights
  candidate: 13
  champion: "12"
  strategy:
    type: canary
    steps:
    - {weight: 10, minSamples: 500}
    - weight: 50
  checks:
  - {name: errors, kind: guardrail, metric: errorRate, source: envoy, bound: 2}
"""


def test_a_good_document_has_no_fault():
    """Verify that what the engine takes, lint takes."""
    found = lint.text(GOOD)
    assert (found.valid, found.documents, [release.name for release in found.releases]) == (
        True,
        1,
        ["flights-13"],
    )


@pytest.mark.parametrize(
    ("old", "new", "path", "line", "column"),
    [
        pytest.param("weight: 50", "weight: 5", "spec.strategy.steps[1].weight", 11, 7, id="a-step-down"),
        pytest.param(
            "weight: 10", "weight: 110", "spec.strategy.steps[0].weight", 10, 8, id="in-a-flow-mapping"
        ),
        pytest.param("bound: 2", "buond: 2", "spec.checks[0].buond", 13, 71, id="an-unknown-field"),
        pytest.param("type: canary", "type: cannary", "spec.strategy.type", 8, 5, id="an-unknown-strategy"),
        pytest.param("  model: flights\n", "", "spec.model", 3, 1, id="a-missing-field-stands-at-its-parent"),
        pytest.param('champion: "12"', 'champion: "13"', "spec.candidate", 5, 3, id="found-by-a-rule"),
        pytest.param("name: flights-13", "name:", "metadata.name", 2, 12, id="an-empty-value"),
    ],
)
def test_a_fault_is_found_at_its_line_and_column(old, new, path, line, column):
    """Verify that a path of a problem leads to the place in the text."""
    faults = lint.text(GOOD.replace(old, new)).faults
    assert (path, line, column) in {(fault.path, fault.line, fault.column) for fault in faults}


def test_every_document_of_a_file_is_looked_at():
    """Verify that faults of a later document count its own lines from the top of the file."""
    bad = GOOD.replace("weight: 50", "weight: 5")
    found = lint.text(f"{GOOD}---\n---\n{bad}")
    assert found.documents == 2
    assert [release.name for release in found.releases] == ["flights-13"]
    assert [(fault.path, fault.line) for fault in found.faults] == [
        ("spec.strategy.steps[1].weight", len(GOOD.splitlines()) + 2 + 11)
    ]


def test_what_is_no_yaml_hides_no_fault_before_it():
    """Verify that the rest of a file is judged although one document cannot be read."""
    found = lint.text(GOOD.replace("weight: 50", "weight: 5") + "---\na: [b\n")
    assert [fault.path for fault in found.faults] == ["spec.strategy.steps[1].weight", "document"]
    assert "is not YAML" in found.faults[1].remedy


def test_a_key_stated_twice_is_a_fault():
    """Verify that YAML's silent choice of the last one is reported with both lines."""
    (fault,) = lint.text(GOOD + "  model: other\n").faults
    assert (fault.path, fault.line, fault.remedy) == (
        "spec.model",
        14,
        "is stated in line 4 already; keep one of the two",
    )


def test_a_missing_block_is_one_fault():
    """Verify that its absence is not reported once more for each field inside it."""
    faults = lint.text("kind: Release\nmetadata: {name: a}\n").faults
    assert [fault.path for fault in faults] == ["spec"]


@pytest.mark.parametrize(
    "text", [pytest.param("", id="empty"), pytest.param("---\n# nothing\n", id="comment-only")]
)
def test_a_file_without_a_document_is_a_fault(text):
    """Verify that nothing is not taken for fine."""
    assert not lint.text(text).valid


def test_a_version_with_a_dot_is_found_in_the_allocation():
    """Verify that a key that holds a dot does not lead the path astray."""
    text = GOOD.replace("candidate: 13", 'candidates: ["1.3"]').replace("type: canary", "type: experiment")
    steps = "    steps:\n    - {weight: 10, minSamples: 500}\n    - weight: 50\n"
    allocation = "    unit: {header: x-user}\n    allocation:\n      '1.2': 50\n      '1.3': 500\n"
    text = text.replace(steps, allocation)
    fault = next(
        fault for fault in lint.text(text).faults if fault.path.startswith("spec.strategy.allocation")
    )
    assert (fault.path, fault.line) == ("spec.strategy.allocation.1.3", 12)
