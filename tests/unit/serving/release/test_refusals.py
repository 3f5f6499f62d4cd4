"""What a platform refused after it was handed over is kept until its name comes again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from serving.release.journal import refusals
from windlass import settings as settings_module

AT = datetime(2013, 3, 1, 8, tzinfo=UTC)


@pytest.fixture
def home(tmp_path):
    return settings_module.load({"WINDLASS_HOME": str(tmp_path), "WINDLASS_PROJECT": str(tmp_path)})


def test_refusals_are_found_newest_first_and_cleared(home):
    """Verify order, the choice by name, that a name is kept once, and that clearing what is not there is nothing."""
    refusals.record(home, "flights", "a", "no bundle", AT + timedelta(hours=1))
    refusals.record(home, "flights", "b", "not served", AT)
    refusals.record(home, "taxis", "a", "other", AT)
    refusals.record(home, "flights", "b", "still not served", AT + timedelta(hours=2))
    found = refusals.find(home, "flights")
    assert [(r.name, r.reason) for r in found] == [("b", "still not served"), ("a", "no bundle")]
    assert [r.reason for r in refusals.find(home, "flights", "a")] == ["no bundle"]
    assert refusals.models(home) == ["flights", "taxis"]
    refusals.clear(home, "flights", "b")
    refusals.clear(home, "flights", "none")
    refusals.clear(home, "taxis", "a")
    assert [r.name for r in refusals.find(home, "flights")] == ["a"]
    assert refusals.models(home) == ["flights"]


def test_what_is_no_refusal_hides_no_other(home):
    """Verify that a damaged file is left out."""
    path = refusals.record(home, "flights", "a", "no bundle", AT)
    for name, text in (
        ("torn", "{"),
        ("other", "{}"),
        ("timeless", path.read_text().replace("2013", "then")),
    ):
        path.with_name(f"{name}.json").write_text(text)
    assert [r.name for r in refusals.find(home, "flights")] == ["a"]
