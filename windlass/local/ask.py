"""Asking the running platform for a prediction, as a user's own program would."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from windlass.contract import RequestField
from windlass.errors import UsageError, WindlassError
from windlass.local import state
from windlass.settings import Settings


def pairs(items: Sequence[str], option: str) -> dict[str, str]:
    """Split KEY=VALUE words.

    Raises:
        UsageError: a word without "=", or a key given twice.
    """
    found: dict[str, str] = {}
    for item in items:
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise UsageError(f"{option} {item!r} is not KEY=VALUE, for example {option} carrier=UA")
        if key in found:
            raise UsageError(f"{option} {key} is given twice ({found[key]!r} and {value!r}); leave one")
        found[key] = value
    return found


def predict(
    settings: Settings,
    model: str,
    entities: dict[str, str],
    fields: dict[str, str],
    *,
    request_id: str | None = None,
    at: str | None = None,
) -> dict[str, Any]:
    """POST one instance to the platform (KServe protocol V1).

    Raises:
        UsageError: an unknown model, key or field, a missing key, or a value of the wrong type.
        WindlassError: no platform runs, or it answered with an error.
    """
    from windlass import catalog

    platform = state.read(settings)
    if model not in platform["models"]:
        raise UsageError(f"model {model!r} is not served here; served: {', '.join(platform['models'])}")
    workload = catalog.load(model, settings.project)
    known = {f.name: f for f in workload.request_fields}
    given = {**entities, **fields}
    for key in given:
        if key not in known and key not in workload.entities:
            raise UsageError(
                f"{model} takes no {key!r}; entity keys: {', '.join(workload.entities)}; fields: {', '.join(known)}"
            )
    missing = [key for key in workload.entities if key not in given]
    if missing:
        raise UsageError(f"{model} needs the entity keys {', '.join(missing)}; add --entity {missing[0]}=…")
    instance: dict[str, Any] = {k: _typed(k, v, known.get(k)) for k, v in given.items()}
    headers = {"content-type": "application/json"}
    if request_id:
        headers["x-request-id"] = request_id
    if at:
        headers["x-windlass-at"] = repr(_epoch(at))
    url = platform["predict_url"] if len(platform["models"]) == 1 else platform["predict_urls"][model]
    request = urllib.request.Request(  # noqa: S310 - the platform's own loopback address
        url, json.dumps({"instances": [instance]}).encode(), headers
    )
    started = time.perf_counter()
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            body, received = json.loads(answer.read()), answer.headers
    except urllib.error.HTTPError as error:
        raise WindlassError(
            f"{url} answered {error.code}: {error.read().decode(errors='replace').strip()}"
        ) from error
    except OSError as error:
        raise WindlassError(f"{url} does not answer ({error}); `windlass status` shows what runs") from error
    return {
        "model": model,
        "version": received.get("x-windlass-version"),
        "request_id": received.get("x-request-id"),
        "prediction": float(body["predictions"][0]),
        "feature_source": body.get("feature_source"),
        "latency_ms": round((time.perf_counter() - started) * 1000, 3),
    }


def _typed(key: str, value: str, field: RequestField | None) -> str | float:
    if field is None or field.dtype == "string":
        return value
    try:
        return float(value)
    except ValueError:
        raise UsageError(f"field {key}={value!r} is not a number") from None


def _epoch(text: str) -> float:
    from datetime import UTC

    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--at {text!r} is not a time; use ISO 8601, for example 2013-03-01T12:00:00+00:00"
        ) from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
