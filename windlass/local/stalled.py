"""Whether the access log still says what the proxy does: a log that has stopped looks like a release without faults.

A disk that is full or a file that was taken away costs the proxy nothing: it goes on answering and counting. So its
own counters are asked whether there should have been lines.
"""

from __future__ import annotations

from collections.abc import Callable

from serving.release.envoy.admin import AdminError

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
        self._before: int | None = None  # what was counted when the log spoke last
        self._owed = 0
        self._since: float | None = None

    def reason(self, at: float, lines: int) -> str | None:
        """Why the log cannot be relied on; None where it can.

        Args:
            at: epoch seconds of the look.
            lines: lines of the release's versions that were read so far.
        """
        count, trouble = self._count()
        if lines != self._lines:
            self._lines, self._before, self._owed, self._since = lines, count, 0, None
            return None
        if count is not None:
            if self._before is None:
                self._before = count
            elif count < self._before:
                self._before = 0  # another proxy, which counts from nothing
            # what is owed stays so until a line comes, whatever becomes of the proxy
            self._owed = max(self._owed, count - self._before)
        if not self._owed and not trouble:
            self._since = None
            return None
        if self._since is None:
            self._since = at
        if at - self._since < WRITTEN_WITHIN_S:
            return None
        if self._owed:
            return (
                f"the access log has none of {self._owed} answers that the proxy counted since its last line"
            )
        return f"the access log has no new line, and the proxy does not say whether there should be any: {trouble}"

    def _count(self) -> tuple[int | None, str]:
        try:
            return self._counted(), ""
        except AdminError as error:
            return None, str(error) or "no answer"
