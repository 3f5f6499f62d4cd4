"""One scratch folder for all drills of a process: its model is trained once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from windlass.drill.stage import Stage


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drill")


@pytest.fixture
def stage(folder: Path) -> Iterator[Stage]:
    """A platform that serves, with its champion and a candidate that waits; it ends with the test."""
    found = Stage(folder)
    found.prepare()
    try:
        found.up()
        yield found
    finally:
        found.down()
