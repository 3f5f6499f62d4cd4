"""The Kubernetes API as a leader may use it: every request is counted, and none is sent by who leads no more.

Before each request and not once a turn: a turn asks several times, each of which may take long, and a process may be
stopped for an hour between two lines. What a deposed leader has already sent cannot be called back; where it writes
decisions, the store's own versions refuse it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from serving.release.cluster.api import KubernetesApi
from windlass.errors import WindlassError


class DeposedError(WindlassError):
    """This process leads no more; whoever leads now does the rest."""


class FencedApi(KubernetesApi):
    """See above; without `fence` it is as any other.

    The lease itself is kept through another one: who must not write must still be able to become the leader.
    """

    _may_act: Callable[[], bool] | None = None
    _asked: Callable[[str, str], None] | None = None

    def fence(self, may_act: Callable[[], bool], asked: Callable[[str, str], None]) -> None:
        """Ask `may_act` before each request, and tell `asked` its verb and the answer's code."""
        self._may_act = may_act
        self._asked = asked

    def check(self) -> None:
        """To be asked right before an act that goes to somebody else than the API server.

        Raises:
            DeposedError: who asks leads no more.
        """
        self._check("an act")

    def within(self, timeout_s: float) -> FencedApi:
        found = FencedApi(self._client, timeout_s=timeout_s, sleep=self._sleep)
        found._may_act, found._asked = self._may_act, self._asked
        return found

    def _send(self, method: str, path: str, *rest: Any) -> tuple[int, bytes]:
        self._check(f"{method} {path}")
        code = "none"
        try:
            status, content = super()._send(method, path, *rest)
            code = str(status)
            return status, content
        finally:
            if self._asked is not None:
                self._asked(method.lower(), code)

    def _check(self, act: str) -> None:
        if self._may_act is not None and not self._may_act():
            raise DeposedError(f"{act} was not sent: this replica does not lead any more")
