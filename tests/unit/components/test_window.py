"""What `--from` and `--to` mean."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from components import window
from windlass.errors import UsageError


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        pytest.param(
            "2013-01-01",
            "2013-03-31",
            (datetime(2013, 1, 1), datetime(2013, 4, 1)),
            id="a-bare-end-includes-its-day",
        ),
        pytest.param("2013-01-01", "2013-01-01", (datetime(2013, 1, 1), datetime(2013, 1, 2)), id="one-day"),
        pytest.param(
            "2013-01-01T06:00:00",
            "2013-03-31T05:30:00+00:00",
            (datetime(2013, 1, 1, 6), datetime(2013, 3, 31, 5, 30)),
            id="times-are-exact",
        ),
        pytest.param(
            "2013-01-01",
            "2013-02-01T00:00:00-05:00",
            (datetime(2013, 1, 1), datetime(2013, 2, 1, 5)),
            id="another-zone-is-converted",
        ),
    ],
)
def test_ends_are_read(start: str, end: str, expected: tuple[datetime, datetime]) -> None:
    assert window.parse(start, end) == window.Window(*(e.replace(tzinfo=UTC) for e in expected))


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        pytest.param("2013-04-01", "2013-03-31", "is reversed or empty; swap the two", id="reversed"),
        pytest.param("2013-01-01T06:00", "2013-01-01T06:00", "reversed or empty", id="empty"),
        pytest.param("1.1.2013", "2013-03-31", "--from '1.1.2013' is not a date", id="no-iso"),
        pytest.param("2013-01-01", "2013-02-30", "--to '2013-02-30' is not a date", id="no-such-day"),
    ],
)
def test_what_cannot_be_meant_is_refused(start: str, end: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        window.parse(start, end)
