"""Real promtool for the tests of rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitoring.rules.programs import binary


@pytest.fixture(scope="session")
def promtool(project: Path) -> Path:
    return binary("promtool", project / ".tools")


@pytest.fixture(scope="session")
def amtool(project: Path) -> Path:
    return binary("amtool", project / ".tools")
