"""What the release engine asks of whoever routes requests: be told, and be read back.

Local Envoy, Gateway API, KServe and Knative each implement it. What was told is in force when `set_traffic` returns,
and `traffic` reads it from the wire (the proxy, the API server), never from what was last asked for: a split that
nobody obeys must be seen. A backend need not wait for that: it may say that it is not confirmed yet, and be told again.
"""

from __future__ import annotations

from typing import Protocol

from serving.release.traffic import Traffic
from windlass.errors import WindlassError

__all__ = ["RejectedError", "TrafficBackend", "UnconfirmedError", "UnreachableError"]


class RejectedError(WindlassError):
    """The router refused the traffic it was told, or took it and does not obey; what was before is in force."""


class UnreachableError(WindlassError):
    """The router, or the API in front of it, does not answer; nothing is known of what is in force."""


class UnconfirmedError(WindlassError):
    """The router was told, and whether that is in force is not known yet: tell it again to hear of it.

    No failure: whoever is told so does something else meanwhile, and does not tell less or more of the traffic before.
    """


class TrafficBackend(Protocol):
    """Whoever splits the traffic of models."""

    def set_traffic(self, model: str, traffic: Traffic) -> None:
        """Put `traffic` in force; returns once it is, and may be repeated.

        Raises:
            RejectedError: it is refused, or the wire shows something else after a stated time.
            UnconfirmedError: it was told, and that time is not over.
            UnreachableError: nobody can be asked; the caller tries again.
        """
        ...

    def traffic(self, model: str) -> Traffic | None:
        """What is in force; None where the model has no route.

        Raises:
            UnreachableError: nobody can be asked.
        """
        ...
