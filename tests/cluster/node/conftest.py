"""What every test on a node needs of the machine."""

from __future__ import annotations

import pytest

from tests.cluster.node import machine


@pytest.fixture(scope="session", autouse=True)
def able() -> None:
    """Skip where no node can be, and say why; where one can be, what is missing fails."""
    why = machine.no_node()
    if why is not None:
        pytest.skip(why)
