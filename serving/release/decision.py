"""What the engine decides, as a value: what to do, why, and the state after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from serving.release.evidence import Evidence
from serving.release.state import ReleaseState
from serving.release.traffic import Traffic
from serving.release.verdict import Verdict

Action = Literal[
    "start", "hold", "advance", "update", "drop", "promote", "roll_back", "pause", "resume", "abort"
]
Command = Literal["pause", "resume", "abort", "rollback", "promote"]

#: Actions after which the router is told something, or the champion's alias moves.
ACTS: tuple[Action, ...] = ("start", "advance", "update", "drop", "promote", "roll_back", "abort")


@dataclass(frozen=True)
class Decision:
    """What to do, and why.

    Attributes:
        check: name of the check that decided; None where none did.
        champion: the version that shall hold the champion alias; None leaves it.
        requests: requests that the candidates had answered.
        alert: news for a person; None where there are none.
        evidence: what was looked at; None where nothing was.
        state: the state after this decision; its traffic is what the router shall do from now on.
    """

    action: Action
    reason: str
    at: datetime
    state: ReleaseState
    check: str | None = None
    verdicts: tuple[Verdict, ...] = ()
    champion: str | None = None
    requests: int = 0
    alert: str | None = None
    evidence: Evidence | None = None

    @property
    def traffic(self) -> Traffic:
        return self.state.traffic

    @property
    def weights(self) -> Mapping[str, int]:
        return self.state.traffic.weights

    @property
    def mirror_to(self) -> str | None:
        return self.state.traffic.mirror_to

    @property
    def acts(self) -> bool:
        return self.action in ACTS
