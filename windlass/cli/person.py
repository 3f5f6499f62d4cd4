"""Who gives a command, as journals and annotations have it."""

from __future__ import annotations


def name() -> str:
    """The user's name; in a container, whose user has none as a rule, just that it is a person."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "a person"
