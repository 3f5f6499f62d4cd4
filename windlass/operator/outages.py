"""Candidates none of whose servers answers: what counters cannot tell from a candidate that nobody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from serving.release.cluster.servers import Servers
from serving.release.cluster.store import OvertakenError
from serving.release.evidence import ArmEvidence
from windlass.errors import WindlassError
from windlass.operator.fenced_api import DeposedError

#: Seconds after which a candidate without a server is taken back: a pod that is only moved is there again sooner.
DOWN_S = 120.0


class Outages:
    """Since when each version of one model has no server that answers; a process that takes over counts anew.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, servers: Servers, model: str, clock: Callable[[], float]) -> None:
        self._servers = servers
        self._model = model
        self._clock = clock
        #: version -> when it was first seen down, and when last, without having been up between
        self._seen: dict[str, tuple[float, float]] = {}

    def look(self, versions: Iterable[str]) -> None:
        """Ask Kubernetes; time in which it cannot be asked is no outage."""
        for version in versions:
            try:
                answers = self._servers.answering(self._model, version)
            except (DeposedError, OvertakenError):
                raise
            except WindlassError:
                continue
            now = self._clock()
            if answers is False:
                self._seen[version] = (self._seen.get(version, (now, now))[0], now)
            else:
                self._seen.pop(version, None)

    def forget(self) -> None:
        self._seen.clear()

    def told(self, arms: Mapping[str, ArmEvidence], reason: str | None) -> dict[str, ArmEvidence]:
        """The evidence of each version with whether it is down.

        Args:
            reason: what is wrong with the servers of all versions, where that is known: `version 13: …; version 12: …`.
        """
        found = {version: replace(arm, down="") for version, arm in arms.items()}
        for version, (first, last) in self._seen.items():
            if last - first < DOWN_S:
                continue
            own = [words for words in (reason or "").split("; ") if words.startswith(f"version {version}: ")]
            down = "; ".join((f"none of its servers has answered for {DOWN_S:g} s", *own))
            found[version] = replace(found.get(version, ArmEvidence()), down=down)
        return found
