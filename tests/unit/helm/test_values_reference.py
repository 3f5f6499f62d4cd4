"""The page about the chart's values is made of values.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from manifests import values_reference
from manifests.values_reference import BEGIN, END, Value
from windlass.errors import UsageError

TEXT = """
# A page about the file.

# What it is called,
# in all places.
name: "a|b"

# A part.
part:
  # Whether it runs.
  enabled: true
  # What it may use.
  resources:
    requests: {cpu: 1}
"""


def test_keys_have_their_comments_and_defaults() -> None:
    """Verify nesting, a comment of two lines, and that a value whose keys say nothing is one value."""
    assert values_reference.read(TEXT) == [
        Value("name", "What it is called, in all places.", '"a|b"'),
        Value("part", "A part.", None),
        Value("part.enabled", "Whether it runs.", "true"),
        Value("part.resources", "What it may use.", '{"requests": {"cpu": 1}}'),
    ]


def test_a_value_without_a_comment_is_refused() -> None:
    """Verify that nobody adds a value and says nothing of it."""
    with pytest.raises(UsageError, match=r"part\.other has no comment"):
        values_reference.read(TEXT + "  other: 1\n")
    with pytest.raises(UsageError, match=r"two has no comment"):
        values_reference.read("# One.\none: 1\n\ntwo: 2\n")


def test_the_tables_stand_between_the_marks() -> None:
    """Verify that the rest of the page stays, and that a table's cells hold what they should."""
    page = f"before\n{BEGIN}old{END}after\n"
    found = values_reference.put(page, values_reference.read(TEXT))
    assert found.startswith(f"before\n{BEGIN}") and found.endswith(f"{END}after\n") and "old" not in found
    assert '| `name` | `"a\\|b"` | What it is called, in all places. |' in found
    assert "### part\n\nA part.\n\n| value" in found and "| `enabled` | `true` | Whether it runs. |" in found
    assert values_reference.put(found, values_reference.read(TEXT)) == found
    with pytest.raises(UsageError, match="has no lines"):
        values_reference.put("before\n", [])


def test_every_value_of_the_chart_is_on_the_page(project: Path) -> None:
    """Verify that the page is up to date; this needs no helm."""
    values = values_reference.read((project / "helm/windlass/values.yaml").read_text())
    page = (project / "docs/helm.md").read_text()
    assert len(values) > 150 and values_reference.put(page, values) == page
