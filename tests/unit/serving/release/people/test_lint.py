"""Faults of documents with the place where they stand."""

from __future__ import annotations

import pytest

from serving.release import spec
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


BOMB = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9 if i else ['x'] * 9)}]\n" for i in range(9))


@pytest.mark.parametrize(
    ("content", "line", "remedy"),
    [
        pytest.param(
            "a: 1\nb: &b [*b]\n", 2, "an anchor that holds itself has no end", id="anchor-in-itself"
        ),
        pytest.param("a: 1\nb: " + "[" * 3000, 2, "levels deep", id="open-brackets"),
        pytest.param("a: 1\nb: " + "[" * 3000 + "]" * 3000, 2, "levels deep", id="nested"),
        pytest.param(BOMB, 5, "values once its aliases are written out", id="aliases-of-aliases"),
        pytest.param(
            "\n".join(["a0: &a0 [x]", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 100))]),
            50,
            "levels once its aliases are written out",
            id="a-chain-of-aliases",
        ),
        pytest.param("a: 1\nb: 2024-13-01\n", 2, "is written like timestamp and is none", id="month-13"),
        pytest.param(f"a: 1\nb: {'1' * 5000}\n", 2, "is written like int and is none", id="long-number"),
    ],
)
def test_a_text_that_no_release_is_has_its_line(content, line, remedy):
    """Verify that what would exhaust a reader is refused with its place, by lint and by whoever applies it."""
    (fault,) = lint.text(content).faults
    assert (fault.path, fault.line) == ("document", line)
    assert remedy in fault.remedy
    with pytest.raises(spec.SpecError, match=f"line {line}"):
        spec.loads(content)


@pytest.mark.parametrize("number", ["010", "0x1F", "1_000", "+13", "0b11", "190:20:30"])
def test_a_number_that_yaml_reads_as_another_is_refused(number):
    """Verify that `candidate: 010` does not silently become version 8."""
    content = GOOD.replace("candidate: 13", f"candidate: {number}")
    (fault,) = lint.text(content).faults
    assert (fault.path, fault.value, fault.line) == ("spec.candidate", number, 5)
    with pytest.raises(spec.SpecError, match="put it in quotes"):
        spec.loads(content)
    quoted = GOOD.replace("candidate: 13", f'candidate: "{number}"')
    named = [fault.value for fault in lint.text(quoted).faults]
    assert named == [] or named == [repr(number)]  # a plus or a colon is no part of a name


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        pytest.param("weight: 50", "weight: true", "true", id="a-flag"),
        pytest.param("candidate: 13", "candidate: 2024-01-01", "2024-01-01", id="a-date"),
        pytest.param("weight: 50", "weight: [null, {a: false}]", "[null, {'a': false}]", id="nested"),
        pytest.param("weight: 50", f"weight: {'x' * 300}", f"'{'x' * 199}…", id="long"),
    ],
)
def test_a_value_is_shown_as_yaml_writes_it(old, new, value):
    """Verify that nobody has to read Python, nor thousands of characters."""
    assert [fault.value for fault in lint.text(GOOD.replace(old, new)).faults] == [value]


@pytest.mark.parametrize("duration", ["9" * 26 + "d", "9" * 400 + "h", "36501d", "1000000h"])
def test_a_duration_without_end_is_a_fault(duration):
    """Verify that it is named with path and line, and that the longest one is none."""
    (fault,) = lint.text(GOOD.replace("minSamples: 500", f"minDuration: {duration}")).faults
    assert (fault.path, fault.line) == ("spec.strategy.steps[0].minDuration", 10)
    assert lint.text(GOOD.replace("minSamples: 500", "minDuration: 36500d")).valid
