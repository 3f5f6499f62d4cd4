"""Bringing together again what gRPC takes apart: requests that arrived together reach the lane together.

grpc.aio accepts one call in a turn of the event loop and reads its message in a later one, so that requests that lay in
one packet come a few turns apart, and a lane that runs at the end of a turn would run each of them alone. Held until a
few turns bring no more, they are one run. Turns follow each other at once, no timer is in it, and a request that is
alone waits for microseconds.
"""

from __future__ import annotations

import asyncio

from serving.runtime.flow.call import Call
from serving.runtime.flow.lane import Lane

QUIET_TURNS = 6
"""Measured: with 4 most runs of 16 callers are of several requests, with 3 hardly any; 8 win no more than 6."""
MOST_HELD = 64


class Turns:
    """Requests of all models on their way to their lanes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._held: list[tuple[Lane, Call]] = []
        self._seen = 0
        self._quiet = 0

    def submit(self, lane: Lane, call: Call) -> None:
        """Take a request that was admitted; see `Lane.submit`."""
        self._held.append((lane, call))
        if len(self._held) == 1:
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        count = len(self._held)
        self._quiet = self._quiet + 1 if count == self._seen else 0
        self._seen = count
        if self._quiet < QUIET_TURNS and count < MOST_HELD:
            self._loop.call_soon(self._turn)
            return
        held, self._held = self._held, []
        self._seen = self._quiet = 0
        for lane, call in held:
            lane.submit(call)
