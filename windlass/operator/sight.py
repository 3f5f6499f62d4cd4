"""Whether this process sees what it is to watch.

kopf asks again and again where it may not list, and says nothing; a kind that the cluster lacks at the start it never
looks for again. Without this, a Role that lacks a verb would leave an operator that leads, is healthy, and is blind.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from serving.release.backend import RejectedError
from serving.release.cluster.api import KubernetesApi
from windlass.errors import WindlassError
from windlass.operator.reconciler import Watched

LOG = logging.getLogger(__name__)

#: Seconds until it is tried again while something cannot be seen, and until it is looked at while all can.
BLIND_EVERY_S = 10.0
SEEING_EVERY_S = 300.0


class Sight:
    """Looks whether each kind can be listed in each namespace.

    Args:
        api: not fenced: a standby must see as well.
    """

    def __init__(
        self,
        api: KubernetesApi,
        namespaces: Sequence[str],
        *,
        blind_every_s: float = BLIND_EVERY_S,
        seeing_every_s: float = SEEING_EVERY_S,
    ) -> None:
        self._api = api
        self._namespaces = namespaces
        self._blind_every_s = blind_every_s
        self._seeing_every_s = seeing_every_s
        self._said: set[str] = set()
        self._silent: set[str] = set()
        self._fault: str | None = None

    def fault(self) -> str | None:
        """Why this process is of no use, None where it is not known to be; asked by /readyz, from any thread."""
        return self._fault

    def wait(self, watched: Sequence[Watched], stop: threading.Event) -> None:
        """Return once all that is required can be seen, or `stop` is set."""
        while not stop.is_set() and not self.look(watched):
            stop.wait(self._blind_every_s)

    def keep(self, watched: Sequence[Watched], stop: threading.Event) -> None:
        """Go on looking until `stop`: a Role may be changed."""
        while not stop.wait(self._seeing_every_s if self._fault is None else self._blind_every_s):
            self.look(watched)

    def look(self, watched: Sequence[Watched]) -> bool:
        """Whether all that is required can be seen; what cannot is logged once."""
        faults, unknown, found = [], False, set[str]()
        silent: dict[str, str] = {}
        for each in watched:
            for namespace in self._namespaces:
                try:
                    self._api.all(
                        each.kind, namespace, labels=each.label or "", metadata_only=True, kept=lambda _: {}
                    )
                except RejectedError as error:
                    found.add(str(error))
                    if each.required:
                        faults.append(str(error))
                    if str(error) not in self._said:
                        LOG.log(
                            logging.ERROR if each.required else logging.WARNING,
                            "%s of namespace %s cannot be watched: %s",
                            each.kind.plural,
                            namespace,
                            error,
                        )
                except WindlassError as error:
                    # an API server that is down says nothing of what may be seen; of a kind that we can do without,
                    # whoever converts or serves it may be down alone
                    unknown = unknown or each.required
                    silent[f"{namespace}/{each.kind.plural}"] = str(error)
        news = [place for place in silent if place not in self._silent]
        if news:
            LOG.warning("%s: nobody says what there is: %s", ", ".join(news), silent[news[0]])
        self._silent = set(silent)
        if not unknown:
            self._said, self._fault = found, "; ".join(faults) or None
        return not unknown and not faults
