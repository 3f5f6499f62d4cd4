"""Asking one version's server directly, before it gets any traffic: warm-up and smoke requests of blue-green."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from serving.release.evidence import Smoke
from serving.release.release import SmokeRequest

#: Seconds that one answer may take where the smoke request states no limit.
PATIENCE_S = 10.0


class DirectProber:
    """Asks servers at their own addresses.

    Args:
        address: (model, version) -> `host:port`.
        example: a prediction request for a model, where one was seen; None where none was.
    """

    def __init__(
        self, address: Callable[[str, str], str], example: Callable[[str], dict[str, Any] | None]
    ) -> None:
        self._address = address
        self._example = example

    def smoke(self, model: str, version: str, requests: Sequence[SmokeRequest], warm_up: int) -> Smoke:
        """Warm the version up, then send the smoke requests; each failure is counted, the first one told."""
        body = next((r.body for r in requests if r.body is not None), None) or self._example(model)
        if body is not None:
            for _ in range(warm_up):
                self._ask(model, version, body)
        passed, failures = 0, []
        for index, request in enumerate(requests):
            failure = self._hold(model, version, request, body)
            if failure is None:
                passed += 1
            else:
                failures.append(f"smoke[{index}]: {failure}")
        if not requests and (failure := self._ready(model, version)) is not None:
            failures.append(failure)
        return Smoke(passed, len(failures), failures[0] if failures else "")

    def _hold(self, model: str, version: str, request: SmokeRequest, example: Any) -> str | None:
        body = request.body if request.body is not None else example
        if body is None:
            return "no body is stated and no request of the model was seen yet; state smoke[].body"
        status, seconds, said = self._ask(model, version, body)
        if status != request.status:
            return f"status {status} instead of {request.status}: {said[:200]}"
        limit = request.max_latency
        if limit is not None and seconds > limit.total_seconds():
            return f"took {seconds * 1000:.0f} ms, at most {limit.total_seconds() * 1000:.0f} ms are allowed"
        return None

    def _ready(self, model: str, version: str) -> str | None:
        status, _, said = self._request(model, version, "GET", f"/v2/models/{model}/ready", None)
        return None if status == 200 else f"the server is not ready: status {status}: {said[:200]}"

    def _ask(self, model: str, version: str, body: Any) -> tuple[int, float, str]:
        v2 = isinstance(body, dict) and "inputs" in body
        path = f"/v2/models/{model}/infer" if v2 else f"/v1/models/{model}:predict"
        return self._request(model, version, "POST", path, json.dumps(body))

    def _request(
        self, model: str, version: str, method: str, path: str, body: str | None
    ) -> tuple[int, float, str]:
        host, _, port = self._address(model, version).rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)
        begun = time.perf_counter()
        try:
            # known as a copy by its Host: a smoke request is nobody's prediction
            headers = {"content-type": "application/json", "host": "windlass-smoke-shadow"}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            said = answer.read().decode(errors="replace")
            return answer.status, time.perf_counter() - begun, said
        except (OSError, http.client.HTTPException) as error:
            return 0, time.perf_counter() - begun, f"{type(error).__name__}: {error}"
        finally:
            connection.close()
