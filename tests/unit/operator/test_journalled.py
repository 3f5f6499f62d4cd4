"""What is written stands, whoever could not be told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.release.journal.store import DiskStore, Entry, Record
from windlass.operator.fenced_api import DeposedError
from windlass.operator.journalled import Journalled

ENTRY = Entry("flights", 1, "flights-13")


def test_a_listener_that_fails_unwrites_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Verify that a lease which flickers between a record and its Event does not look like a write that failed."""

    def deposed(entry: Entry, record: Record) -> None:
        raise DeposedError("this replica does not lead any more")

    store = Journalled(DiskStore(tmp_path), "flights", deposed)
    store.append(ENTRY, {"kind": "release", "champion": "12"})
    assert [dict(record) for record in store.records(ENTRY)] == [{"kind": "release", "champion": "12"}]
    assert "flights-13" in caplog.text and "does not lead" in caplog.text
    store.close()
