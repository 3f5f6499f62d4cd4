"""A person's command: the annotation's value."""

from __future__ import annotations

import pytest

from windlass.errors import UsageError
from windlass.operator.orders import Wanted, parse


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        pytest.param("pause", Wanted("pause"), id="pause"),
        pytest.param(" resume ", Wanted("resume"), id="blanks-around-it"),
        pytest.param("rollback", Wanted("rollback"), id="rollback-to-the-champion"),
        pytest.param("rollback:12", Wanted("rollback", "12"), id="rollback-to-a-version"),
        pytest.param("promote:14", Wanted("promote", "14"), id="promote-one-of-several"),
    ],
)
def test_a_command_is_read(text: str, wanted: Wanted) -> None:
    """Verify each form that a command has."""
    assert parse(text) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("fly", "use one of pause, resume", id="no-command"),
        pytest.param("pause:12", "only rollback and promote name a version", id="no-version-wanted"),
        pytest.param("rollback:", "name a version, like rollback:12", id="version-missing"),
        pytest.param("", "is no command", id="empty"),
    ],
)
def test_what_is_no_command_says_so(text: str, words: str) -> None:
    """Verify that the message names value and remedy."""
    with pytest.raises(UsageError, match=words):
        parse(text)
