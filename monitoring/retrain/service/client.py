"""Speaking to a trigger that runs elsewhere, as a person's command does: CloudEvents in, its decisions back."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from windlass.errors import UsageError, WindlassError

PATIENCE_S = 30.0


def post(url: str, token: str, event_type: str, identity: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Send one event, once, and return the answer: `signals` with a decision each, or `words`.

    Args:
        url: the trigger's, without a path.
        token: that of its senders.
        identity: the event's id; what is sent again under the same one counts once.

    Raises:
        UsageError: it is no address, the token is not the trigger's, or the trigger refuses what is said.
        WindlassError: it does not answer, or cannot take anything now.
    """
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"trigger {url!r} is no address; use for example http://127.0.0.1:8080")
    event = {
        "specversion": "1.0",
        "id": identity,
        "source": "/windlass/retrain",
        "type": event_type,
        "datacontenttype": "application/json",
        "data": dict(data),
    }
    headers = {"Content-Type": "application/cloudevents+json", "Authorization": f"Bearer {token}"}
    # a proxy for the outside world is never the way to it
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        request = urllib.request.Request(  # noqa: S310 - http and https alone, above
            f"{url.rstrip('/')}/events", json.dumps(event).encode(), headers, method="POST"
        )
        with opener.open(request, timeout=PATIENCE_S) as answer:
            found = json.loads(answer.read())
    except urllib.error.HTTPError as refused:
        with refused:
            said = _message(refused.read(10_000))
        if refused.code == 401:
            raise UsageError(
                f"trigger {url} does not take this token ({said}); name the file with its own"
            ) from None
        if refused.code < 500 and refused.code != 429:
            raise UsageError(f"trigger {url}: {said}") from None
        raise WindlassError(f"trigger {url} cannot take it now ({refused.code}): {said}; try again") from None
    except (OSError, http.client.HTTPException) as error:
        raise WindlassError(
            f"trigger {url} does not answer: {getattr(error, 'reason', error)}; nothing is known of what it took"
        ) from error
    except ValueError as error:
        raise UsageError(
            f"trigger {url}: {error}; is it a retrain trigger, and its token a line of text?"
        ) from error
    if not isinstance(found, dict):
        raise UsageError(f"trigger {url} answers {found!r}: it is no retrain trigger")
    return found


def _message(body: bytes) -> str:
    """What an error's body says."""
    try:
        found = json.loads(body)
        return str(found["error"] if isinstance(found, dict) and "error" in found else found)
    except (ValueError, KeyError):
        return body[:300].decode(errors="replace") or "no reason given"
