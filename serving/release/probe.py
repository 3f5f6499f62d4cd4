"""Asking one version's server directly, before it gets any traffic: warm-up and smoke requests of blue-green."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from serving.release.evidence import Smoke
from serving.release.release import SmokeRequest
from serving.release.route_header import ROUTE_HEADER

#: Seconds that one answer may take where the smoke request states no limit.
PATIENCE_S = 10.0
#: The last warm-up requests, which a server that is warm answers.
WARM = 3
#: Warm-up requests in a row that fail before no more are sent.
GIVE_UP = 20

NOTHING = "nothing could be sent: no request of the model was seen yet and smoke[].body is not stated"


class DirectProber:
    """Asks one server at its own address.

    Args:
        address: `host:port`.
        example: a prediction request for the model, where one was seen; None where none was.
    """

    def __init__(self, model: str, address: str, example: dict[str, Any] | None) -> None:
        self._model = model
        self._host, _, self._port = address.rpartition(":")
        self._example = example

    def smoke(
        self, requests: Sequence[SmokeRequest], warm_up: int, stop: threading.Event | None = None
    ) -> Smoke:
        """Warm the version up, then send the smoke requests; each failure is counted, the first one told.

        A warm-up whose last answers fail is a failure too: that is what every caller would get. Where there is
        nothing to send, nothing has passed and nothing has failed, and `detail` says so.

        Args:
            stop: no further warm-up is sent once it is set.
        """
        usual = self._usual(requests)
        warmed, passed, failures = 0, 0, []
        if usual is None:
            if requests or warm_up:
                return Smoke(detail=NOTHING)
        elif warm_up:
            warmed, cold = self._warm_up(usual, warm_up, stop or threading.Event())
            failures += [] if cold is None else [cold]
        for index, request in enumerate(requests):
            filled = (
                request if request.body is not None or usual is None else replace(request, body=usual.body)
            )
            failure = self._hold(filled)
            if failure is None:
                passed += 1
            else:
                failures.append(f"smoke[{index}]: {failure}")
        if not requests and (failure := self._ready()) is not None:
            failures.append(failure)
        return Smoke(passed, len(failures), failures[0] if failures else "", warmed)

    def _usual(self, requests: Sequence[SmokeRequest]) -> SmokeRequest | None:
        """What is sent where no body is stated: one that is to succeed, if any is known."""
        stated = [request for request in requests if request.body is not None]
        good = [request for request in stated if request.status == 200]
        if not good and self._example is not None:
            good = [SmokeRequest(self._example)]
        return next(iter(good or stated), None)

    def _warm_up(self, usual: SmokeRequest, count: int, stop: threading.Event) -> tuple[int, str | None]:
        """How many were answered, and what is wrong with the last ones."""
        answered = sent = failing = 0
        last: deque[str | None] = deque(maxlen=WARM)
        while sent < count and failing < GIVE_UP and not stop.is_set():
            status, _, said = self._ask(usual.body)
            good = status == usual.status
            sent += 1
            answered += good
            failing = 0 if good else failing + 1
            last.append(None if good else f"status {status}: {said[:200]}")
        wrong = [reason for reason in last if reason is not None]
        if not wrong:
            return answered, None
        return answered, (
            f"warm-up: {len(wrong)} of the last {len(last)} requests failed, {sent - answered} of {sent} in all; "
            f"{wrong[-1]}"
        )

    def _hold(self, request: SmokeRequest) -> str | None:
        status, seconds, said = self._ask(request.body)
        if status != request.status:
            return f"status {status} instead of {request.status}: {said[:200]}"
        limit = request.max_latency
        if limit is not None and seconds > limit.total_seconds():
            return f"took {seconds * 1000:.0f} ms, at most {limit.total_seconds() * 1000:.0f} ms are allowed"
        return None

    def _ready(self) -> str | None:
        status, _, said = self._request("GET", f"/v2/models/{self._model}/ready", None)
        return None if status == 200 else f"the server is not ready: status {status}: {said[:200]}"

    def _ask(self, body: Any) -> tuple[int, float, str]:
        v2 = isinstance(body, dict) and "inputs" in body
        path = f"/v2/models/{self._model}/infer" if v2 else f"/v1/models/{self._model}:predict"
        return self._request("POST", path, json.dumps(body))

    def _request(self, method: str, path: str, body: str | None) -> tuple[int, float, str]:
        connection = http.client.HTTPConnection(self._host, int(self._port), timeout=PATIENCE_S)
        begun = time.perf_counter()
        try:
            # known as a copy by its Host: a smoke request is nobody's prediction; and as chosen by its route, so that
            # what servers answer while they are cold is no evidence
            headers = {
                "content-type": "application/json",
                "host": "windlass-smoke-shadow",
                ROUTE_HEADER: "match",
            }
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            said = answer.read().decode(errors="replace")
            return answer.status, time.perf_counter() - begun, said
        except (OSError, http.client.HTTPException) as error:
            return 0, time.perf_counter() - begun, f"{type(error).__name__}: {error}"
        finally:
            connection.close()


class Probing:
    """One smoke run beside everything else: a server that does not answer must hold up no command and no look."""

    def __init__(self, prober: DirectProber, requests: Sequence[SmokeRequest], warm_up: int) -> None:
        self._stop = threading.Event()
        self._found: Smoke | None = None
        self._thread = threading.Thread(
            target=self._run, args=(prober, requests, warm_up), name="smoke", daemon=True
        )
        self._thread.start()

    @property
    def found(self) -> Smoke | None:
        """What came of it; None while it runs."""
        return self._found

    def stop(self) -> None:
        """Send no more; returns at once."""
        self._stop.set()

    def _run(self, prober: DirectProber, requests: Sequence[SmokeRequest], warm_up: int) -> None:
        try:
            self._found = prober.smoke(requests, warm_up, self._stop)
        except Exception as error:  # whatever it is, a release that waits for ever would not tell
            self._found = Smoke(failed=1, detail=f"the smoke requests cannot be sent: {error}")
