"""Ten days of real flights, enough for every window shorter than the long history."""

from __future__ import annotations

import pandas as pd
import pytest

from workloads.flights import source

DAYS = 10


@pytest.fixture(scope="session")
def flights() -> pd.DataFrame:
    """Flights of early February 2013, with a snow storm that cancelled hundreds of them on the 8th and 9th."""
    frame = source.load(None)
    return frame[(frame["month"] == 2) & frame["day"].between(3, 3 + DAYS - 1)].reset_index(drop=True)
