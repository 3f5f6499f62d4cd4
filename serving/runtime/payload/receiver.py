"""An HTTP receiver: one kept connection, and retries that end.

Delivery is at least once: an event whose answer was lost is sent again under the same id.
"""

from __future__ import annotations

import http.client
import random
import threading
from collections.abc import Mapping
from urllib.parse import SplitResult

ATTEMPTS = 5
FIRST_WAIT_S = 0.1
TIMEOUT_S = 2.0
LONGEST_ANSWER = 64 * 1024
# the receiver asks for another try, beside every 5xx: request timeout, too early, too many requests
RETRIED = (408, 425, 429)


class Receiver:
    """Takes POSTs at `url` (http or https); used by one thread.

    Args:
        timeout_s: for the connection, and for each wait on it.
    """

    def __init__(self, url: SplitResult, *, timeout_s: float = TIMEOUT_S) -> None:
        connection = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        self._connection = connection(url.hostname or "", url.port, timeout=timeout_s)
        self._target = (url.path or "/") + (f"?{url.query}" if url.query else "")

    def post(self, headers: Mapping[str, str], body: bytes, give_up: threading.Event) -> str | None:
        """Send a message until it is accepted (2xx); returns why it was not, or None."""
        problem = None
        for attempt in range(ATTEMPTS):
            # waits of 0.1, 0.2, 0.4, … s, each shortened by up to a half so that senders do not come in step
            wait = FIRST_WAIT_S * 2 ** (attempt - 1) * random.uniform(0.5, 1)  # noqa: S311 - no secret
            if attempt and give_up.wait(wait):
                break
            try:
                status = self._exchange(headers, body)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                problem = str(error) or type(error).__name__
                continue
            if 200 <= status < 300:
                return None
            problem = f"answered {status}"
            if status < 500 and status not in RETRIED:
                break
        return problem or "closed before all was written"

    def close(self) -> None:
        self._connection.close()

    def _exchange(self, headers: Mapping[str, str], body: bytes) -> int:
        self._connection.request("POST", self._target, body, headers)
        response = self._connection.getresponse()
        response.read(LONGEST_ANSWER)
        if not response.isclosed():  # the rest of a long answer would be taken for the next one
            self._connection.close()
        return response.status
