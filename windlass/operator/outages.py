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
        self._since: dict[str, float] = {}

    def look(self, versions: Iterable[str]) -> None:
        """Ask Kubernetes; where it cannot be asked, what is known stays."""
        for version in versions:
            try:
                answers = self._servers.answering(self._model, version)
            except (DeposedError, OvertakenError):
                raise
            except WindlassError:
                continue
            if answers is False:
                self._since.setdefault(version, self._clock())
            else:
                self._since.pop(version, None)

    def forget(self) -> None:
        self._since.clear()

    def told(self, arms: Mapping[str, ArmEvidence], reason: str | None) -> dict[str, ArmEvidence]:
        """The evidence of each version with whether it is down.

        Args:
            reason: what is wrong with the servers, where that is known.
        """
        found = {version: replace(arm, down="") for version, arm in arms.items()}
        for version, since in self._since.items():
            if self._clock() - since >= DOWN_S:
                words = f"none of its servers has answered for {DOWN_S:g} s" + (
                    f": {reason}" if reason else ""
                )
                found[version] = replace(found.get(version, ArmEvidence()), down=words)
        return found
