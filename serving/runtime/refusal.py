"""Why a request is refused: every refusal carries its HTTP status and a message for the caller.

Raised by whatever finds the fault (codec, signature, routes) and turned into a response in one place, so
that nothing but a refusal is ever a 4xx, and nothing but a bug or a broken model a 500.
"""

from __future__ import annotations

LONGEST_VALUE = 60


class Refusal(Exception):  # noqa: N818 - the caller's fault, no error of ours
    """The request cannot be answered as it stands."""

    status = 400


class BadRequest(Refusal):
    """The request is malformed; the message names the field, the value and what was expected."""


class FieldError(BadRequest):
    """One field of one row holds a value that cannot be meant."""

    def __init__(self, where: str, value: object, expected: str) -> None:
        super().__init__(f"{where}: got {shown(value)}, expected {expected}")


class NotFound(Refusal):
    """There is no such path, model or version here."""

    status = 404


class MethodNotAllowed(Refusal):
    """The path exists, for the methods `allowed`."""

    status = 405

    def __init__(self, text: str, allowed: str) -> None:
        super().__init__(text)
        self.allowed = allowed


class TimedOut(Refusal):
    """The request did not arrive completely in time."""

    status = 408


class TooLarge(Refusal):
    """The body is over the limit."""

    status = 413


class TargetTooLong(Refusal):
    """The request target is over the limit."""

    status = 414


class Unauthorized(Refusal):
    """The path asks for a token, and none was given that is known."""

    status = 401


class Forbidden(Refusal):
    """The path is switched off here."""

    status = 403


class UnsupportedEncoding(Refusal):
    """The body is in an encoding that is not read here."""

    status = 415


class HeadersTooLarge(Refusal):
    """The header section is over the limit."""

    status = 431


class Unavailable(Refusal):
    """The server cannot answer now."""

    status = 503
    retry_after_s = 1


class Overloaded(Unavailable):
    """The request is shed: there is more to do than can be done in time.

    Args:
        retry_after_s: whole seconds after which it is worth to ask again.
    """

    def __init__(self, text: str, retry_after_s: int = 1) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(Refusal):
    """The time that the caller gave is over."""

    status = 504


class ModelFailed(Refusal):
    """The model failed on this request, and nothing was stated that answers instead."""

    status = 500


def shown(value: object) -> str:
    """Name a JSON value in a message: shortened, with its type in the caller's words."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, bool):
        return f"{str(value).lower()} (a boolean)"
    text = repr(value)
    if len(text) > LONGEST_VALUE:
        text = f"{text[:LONGEST_VALUE]}…"
    return f"{text} (a string)" if isinstance(value, str) else text
