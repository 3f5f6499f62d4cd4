"""The page about custom resources states the limits that are generated."""

from __future__ import annotations

import re

from windlass.crds import limits, release_rules


def test_the_page_states_the_limits(project):
    """Verify each row of the table, and the lengths below it."""
    page = (project / "docs" / "custom-resources.md").read_text()
    table = page.partition("## Limits")[2].partition("## Defaults")[0]
    assert {
        name: int(most) for name, most in re.findall(r"^\| `(\w+)` \| (\d+) \|$", table, re.M)
    } == limits.MOST
    assert f"A duration has {limits.DURATION} characters" in table
    assert f"a header's value {limits.LONGEST['value']}" in table
    assert f"a header's or cookie's name {limits.LONGEST['header']}" in table
    assert set(limits.LONGEST.values()) == {63, 253, limits.LONGEST["header"], limits.LONGEST["value"]}
    names = f"the model {release_rules.LONGEST_MODEL} characters, {release_rules.LONGEST_TOGETHER} with the version"
    assert names in page
