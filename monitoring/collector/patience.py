"""How long a connection may say nothing: the time that a head may take, and that nothing may happen."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

#: Longer than the 90 s after which Go's clients, KServe's logger among them, hang up by themselves: who hangs up first
#: never sends into a connection that has just been closed.
IDLE_S = 100.0
HEAD_S = 10.0
#: How long whoever was refused may go on sending before the answer counts as read.
LINGER_S = 2.0
#: Two minutes until a client whose machine is gone is known to be, though an answer is still being made for it.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))


def keep_alive(server: asyncio.Server) -> None:
    """Let the kernel probe connections that a server accepts from now on: they inherit it from their listener."""
    for listener in server.sockets:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            listener.setsockopt(socket.IPPROTO_TCP, option, value)


class Patience:
    """The timers of one connection.

    Args:
        stirred: asked once `idle_s` have passed without a word of `heard`, whether the connection is at work all the
            same.
        idle: told where it is not.
        late: told where a head did not end.
    """

    def __init__(
        self,
        idle_s: float,
        head_s: float,
        *,
        stirred: Callable[[], bool],
        idle: Callable[[], None],
        late: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle_s, self._head_s = idle_s, head_s
        self._stirred, self._idle, self._late = stirred, idle, late
        self._heard_at = self._loop.time()
        self._idle_timer = self._loop.call_later(idle_s, self._check)
        self._head_timer: asyncio.TimerHandle | None = None

    def heard(self) -> None:
        """Something arrived, or was taken."""
        self._heard_at = self._loop.time()

    def head_begins(self) -> None:
        if self._head_timer is None:
            self._head_timer = self._loop.call_later(self._head_s, self._late)

    def head_ends(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def end(self) -> None:
        self._idle_timer.cancel()
        self.head_ends()

    def _check(self) -> None:
        # one timer for all that is heard: it looks again where it was set too early
        if self._stirred():
            self._heard_at = self._loop.time()
        left = self._heard_at + self._idle_s - self._loop.time()
        if left > 0:
            self._idle_timer = self._loop.call_later(left, self._check)
        else:
            self._idle()
