"""Whether the access log still says what the proxy does: a log that has stopped looks like a release without faults.

A disk that is full or a file that was taken away costs the proxy nothing: it goes on answering and counting. So its
own counters are asked whether there should have been lines.
"""

from __future__ import annotations

from collections.abc import Callable

from serving.release.envoy_admin import AdminError

#: Seconds within which an answer that was counted stands in the log; the proxy writes many times a second.
WRITTEN_WITHIN_S = 2.0


class Stalled:
    """The two counts of one release, look by look.

    Args:
        counted: answers of the release's versions since the proxy started; raises AdminError.
    """

    def __init__(self, counted: Callable[[], int]) -> None:
        self._counted = counted
        self._lines = -1
        self._count: int | None = None
        self._since: float | None = None

    def reason(self, at: float, lines: int) -> str | None:
        """Why the log cannot be relied on; None where it can.

        Args:
            at: epoch seconds of the look.
            lines: lines of the release's versions that were read so far.
        """
        trouble = ""
        try:
            count: int | None = self._counted()
        except AdminError as error:
            count, trouble = None, f": {error}"
        if lines != self._lines or (
            count is not None and (self._count is None or count < self._count) and self._since is None
        ):
            # it speaks, or the proxy is a new one and begins to count
            self._lines, self._count, self._since = lines, count, None
            return None
        if count is not None and count == self._count:
            self._since = None
            return None
        if self._since is None:
            self._since = at
        if at - self._since < WRITTEN_WITHIN_S:
            return None
        if count is None:
            return f"the access log has no new line, and the proxy does not say whether there should be one{trouble}"
        answers = "answers" if self._count is None else f"{count - self._count} answers"
        return f"the proxy counted {answers} of which the access log says nothing"
