"""A store to put entries into."""

from __future__ import annotations

from pathlib import Path

import pytest
from event_store import EventStore, home


@pytest.fixture
def store(tmp_path: Path) -> EventStore:
    return EventStore(home(tmp_path))
