"""When the platform's clock stands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from windlass import catalog, settings
from windlass.local.standing import standing_clock

FLIGHTS = catalog.load("flights", settings.load({}).project)


def test_historical_data_is_served_at_the_end_of_what_was_learned() -> None:
    """Verify that a model of 2013 is asked as of the end of its evaluation window."""
    trained_to = datetime(2013, 3, 25, tzinfo=UTC)
    assert standing_clock(FLIGHTS, trained_to, datetime(2026, 1, 1, tzinfo=UTC)) == datetime(
        2013, 4, 1, tzinfo=UTC
    )


def test_fresh_data_is_served_in_the_present() -> None:
    """Verify that a model trained last week runs on the real clock."""
    now = datetime(2013, 4, 2, tzinfo=UTC)
    assert standing_clock(FLIGHTS, now - timedelta(days=8), now) is None
