"""CloudEvents 1.0 over HTTP in each of its content modes: binary, structured and batched.

As KServe's payload logger sends them (`ce-…` headers, binary mode) and our own runtime (also batched). HTTP protocol
binding 1.0.2, section 3; JSON format 1.0.2.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import orjson

from windlass.errors import UsageError

MOST_EVENTS = 10_000
LONGEST_NAME = 512
#: what is kept of the attributes; the last is KServe's own
ATTRIBUTES = ("specversion", "id", "source", "type", "time", "inferenceservicename")
HEADERS = tuple((name, f"ce-{name}") for name in ATTRIBUTES)


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        at: its time, epoch seconds; None where it states none.
        service: KServe's InferenceService, empty where none is named.
        data: the decoded JSON of its body.
    """

    source: str
    type: str
    id: str
    at: float | None
    service: str
    data: Any


def parse(headers: Mapping[str, str], body: bytes) -> list[Event]:
    """Read the events of a POST.

    Args:
        headers: by names in lower case.

    Raises:
        UsageError: it is no CloudEvent; the message names what is wrong and where.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/cloudevents-batch+json":
        found = _json(body, "the body")
        if not isinstance(found, list):
            raise UsageError(
                "the body is no list of events; send a JSON array, or one event as cloudevents+json"
            )
        if len(found) > MOST_EVENTS:
            raise UsageError(f"the body lists {len(found)} events; send at most {MOST_EVENTS} at once")
        return [_structured(event, f"[{i}].") for i, event in enumerate(found)]
    if kind == "application/cloudevents+json":
        return [_structured(_json(body, "the body"), "")]
    if "ce-specversion" not in headers:
        raise UsageError(
            "the request is no CloudEvent: send ce-specversion, ce-id, ce-source and ce-type as headers, or the "
            "content type application/cloudevents+json or application/cloudevents-batch+json"
        )
    attributes = {name: _unescaped(headers[header]) for name, header in HEADERS if header in headers}
    return [_event(attributes, _json(body, "the body"), "ce-")]


def _unescaped(value: str) -> str:
    return unquote(value) if "%" in value else value


def _structured(event: object, place: str) -> Event:
    if not isinstance(event, Mapping):
        raise UsageError(
            f"{place.rstrip('.') or 'the body'} is no event; send an object with specversion, id, …"
        )
    if "data_base64" in event:
        try:
            content = base64.b64decode(event["data_base64"], validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise UsageError(f"'{place}data_base64' is no base64 ({error}); send data as JSON") from None
        data = _json(content, f"'{place}data_base64'")
    else:
        data = event.get("data")
        if isinstance(data, str):
            data = _json(data.encode(), f"'{place}data'")
    return _event(event, data, place)


def _event(attributes: Mapping[str, Any], data: Any, place: str) -> Event:
    if attributes.get("specversion") != "1.0":
        raise UsageError(f"'{place}specversion' is {attributes.get('specversion')!r}; send CloudEvents 1.0")
    return Event(
        source=text(attributes.get("source"), f"{place}source"),
        type=text(attributes.get("type"), f"{place}type"),
        id=text(attributes.get("id"), f"{place}id"),
        at=_moment(attributes.get("time"), f"{place}time"),
        service=text(attributes.get("inferenceservicename") or "-", f"{place}inferenceservicename").strip(
            "-"
        ),
        data=data,
    )


def text(value: object, name: str) -> str:
    """A name or id: text without control characters, as keys are made of it.

    Raises:
        UsageError: it is none.
    """
    if isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable():
        return value
    shown = repr(value)[:60]
    raise UsageError(f"'{name}' is {shown}; send 1 to {LONGEST_NAME} printable characters")


def _moment(value: object, name: str) -> float | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)  # type: ignore[arg-type] # what it is, it says
        if moment.tzinfo is not None:
            return moment.timestamp()
    except (TypeError, ValueError, OverflowError):
        pass
    raise UsageError(f"'{name}' is {repr(value)[:60]}; send a time with its zone: 2013-02-01T06:00:00Z")


def _json(content: bytes, name: str) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{name} is not JSON ({error}); payloads of other kinds are not logged") from None
