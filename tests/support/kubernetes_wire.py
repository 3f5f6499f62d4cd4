"""A client of `kubernetes_server` without a socket, on which requests and answers get lost, late or refused.

Thousands of schedules can be tried in seconds, each as its seed says; what goes over it is JSON, as on a real one.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from kubernetes_server import Asked, KubernetesServer, answer

#: What becomes of a request: it arrives and is answered; it never arrives; it arrives and the answer is lost; it
#: arrives later and nobody hears of it; the server is busy and does nothing.
FATES = ("through", "lost", "unanswered", "late", "busy")


@dataclass
class Wire:
    """See above; given to `KubernetesApi` in place of its client.

    Attributes:
        fate: decides what becomes of a request.
        late: requests that are still to arrive.
    """

    state: KubernetesServer
    fate: Callable[[Asked], str] = lambda asked: "through"

    def __post_init__(self) -> None:
        self.late: list[Asked] = []
        self.configuration = SimpleNamespace(host="https://wire")

    def arrive(self) -> None:
        """Everything that is late arrives."""
        while self.late:
            self._answer(self.late.pop(0))

    def call_api(self, path: str, method: str, **given: Any) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        headers = given["header_params"]
        body = None if given["body"] is None else json.loads(json.dumps(given["body"]))
        asked = Asked(
            method,
            path,
            dict(given["query_params"]),
            headers["Content-Type"],
            body,
            accept=headers["Accept"],
        )
        self.state.asked.append(asked)
        fate = self.fate(asked)
        if fate in ("lost", "late"):
            if fate == "late":
                self.late.append(asked)
            raise HTTPError("read timed out")
        code, content = (503, b"busy") if fate == "busy" else self._answer(asked)
        if fate == "unanswered":
            raise HTTPError("connection reset")
        if code >= 300:
            error = ApiException(status=code, reason="refused")
            error.body = content
            raise error
        return SimpleNamespace(status=code, data=content), code, {}

    def _answer(self, asked: Asked) -> tuple[int, bytes]:
        code, found = answer(self.state, asked)
        return code, json.dumps(found).encode()


def weather(rng: random.Random, calm: float) -> Callable[[Asked], str]:
    """A share `calm` of the requests goes through; of the others each fate is as likely."""
    return lambda asked: "through" if rng.random() < calm else rng.choice(FATES[1:])
