"""Names that are over, in little memory."""

from __future__ import annotations

import random

import pytest

from monitoring.release_evidence import ended
from monitoring.release_evidence.ended import Ended


def test_it_knows_what_was_added_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify membership over many merges, of names in any order."""
    monkeypatch.setattr(ended, "MOST_NEW", 16)
    names = [f"{n:016x}" for n in range(3000)]
    random.Random(5).shuffle(names)
    found = Ended()
    for count, name in enumerate(names[:2000]):
        assert name not in found
        found.add(name)
        assert len(found) == count + 1
    assert all(name in found for name in names[:2000])
    assert not any(name in found for name in names[2000:])
    assert sum(map(len, found._runs)) == 2000
    assert len(found._runs) <= 8


def test_a_name_takes_eight_bytes() -> None:
    found = Ended()
    for n in range(10 * ended.MOST_NEW):
        found.add(str(n))
    assert sum(run.nbytes for run in found._runs) == 8 * len(found)
