"""The prediction log as CloudEvents over HTTP, by KServe's payload-logging convention.

A prediction is two events of one id: `org.kubeflow.serving.inference.request` holds what the model was given and
`….response` what it answered, as an Open Inference Protocol request and response. Types and extension attributes
are those of KServe's agent (`pkg/logger/worker.go`); messages are in CloudEvents' HTTP binary content mode or,
where the receiver asks for it, in batches of its JSON format.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, quote

import orjson

from serving.runtime.payload.queue import Written
from serving.runtime.payload.receiver import Receiver
from windlass import prediction_log

REQUEST = "org.kubeflow.serving.inference.request"
RESPONSE = "org.kubeflow.serving.inference.response"
MODES = {"all": (REQUEST, RESPONSE), "request": (REQUEST,), "response": (RESPONSE,)}
BATCH_TYPE = "application/cloudevents-batch+json; charset=utf-8"
DATA_TYPE = "application/json"
# of a record, what has a place of its own in the two bodies; the rest becomes parameters of the response
PLACED = ("request_id", "model", "version", "at", "entities", "request", "features", "score")
# what a header may hold unescaped: visible ASCII but for the double quote and the percent sign
VISIBLE = "".join(map(chr, range(0x21, 0x7F))).translate({ord('"'): None, ord("%"): None})

Event = Mapping[str, Any]
Message = tuple[Mapping[str, str], bytes]


@dataclass(frozen=True, slots=True)
class Origin:
    """Who sends the events.

    Attributes:
        source: a URI reference; no two events of one source, type and id are different ones.
        inference_service: KServe's InferenceService, or what stands for it.
        component: predictor, transformer or explainer.
        endpoint: default or canary.
        output: the model's output that the score is read from.
    """

    source: str
    inference_service: str
    namespace: str = "default"
    component: str = "predictor"
    endpoint: str = "default"
    output: str = "score"

    def attributes(self) -> dict[str, str]:
        """What all its events share."""
        return {
            "specversion": "1.0",
            "source": self.source,
            "inferenceservicename": self.inference_service,
            "namespace": self.namespace,
            "component": self.component,
            "endpoint": self.endpoint,
            "datacontenttype": DATA_TYPE,
        }


def request_body(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the model was given: an inference request of one row, with entities and request fields as parameters.

    A missing value is null; a parameter that is null is left out, since the protocol has none.
    """
    features = record["features"]
    parameters = {"at": record["at"]}
    for place in ("entities", "request"):
        for name, value in (record.get(place) or {}).items():
            if value is not None:
                parameters[f"{place}.{name}"] = value
    tensor = {"name": "features", "datatype": "FP64", "shape": [1, len(features)], "data": features}
    return {"id": record["request_id"], "parameters": parameters, "inputs": [tensor]}


def response_body(record: Mapping[str, Any], output: str) -> dict[str, Any]:
    """What the model answered: an inference response of one row, timing and provenance as its parameters."""
    shape, inner = [1], record["score"]
    while isinstance(inner, list):
        shape.append(len(inner))
        inner = inner[0] if inner else None
    return {
        "id": record["request_id"],
        "model_name": record["model"],
        "model_version": record["version"],
        "parameters": {
            name: value for name, value in record.items() if name not in PLACED and value is not None
        },
        "outputs": [{"name": output, "datatype": "FP64", "shape": shape, "data": [record["score"]]}],
    }


def events(record: Mapping[str, Any], origin: Origin, types: Sequence[str]) -> Iterator[Event]:
    """The events of one record, in CloudEvents' JSON format."""
    shared = {**origin.attributes(), "id": record["request_id"], **_time(record["at"])}
    for kind in types:
        data = request_body(record) if kind == REQUEST else response_body(record, origin.output)
        yield {**shared, "type": kind, "data": data}


def binary(event: Event) -> Message:
    """One event in HTTP binary content mode: attributes as headers, data as the body."""
    headers = {
        f"ce-{name}": quote(value, safe=VISIBLE)
        for name, value in event.items()
        if name not in ("data", "datacontenttype")
    }
    return {**headers, "content-type": event["datacontenttype"]}, orjson.dumps(event["data"])


def batched(group: Sequence[Event]) -> Message:
    """Several events in HTTP batched content mode."""
    return {"content-type": BATCH_TYPE}, orjson.dumps(group)


class CloudEventsWriter:
    """Posts the events of each line to a receiver.

    Args:
        mode: "all", or "request" or "response" alone, as KServe's `logger.mode`.
        batch: events of one POST at most; 0 sends each alone, in binary mode. A sender batches only where
            the receiver asked for it (HTTP protocol binding 1.0.2, section 3).
    """

    def __init__(self, url: SplitResult, origin: Origin, *, mode: str = "all", batch: int = 0) -> None:
        self.name = f"{url.scheme}://{url.netloc}{url.path}"
        self._receiver = Receiver(url)
        self._origin = origin
        self._types = MODES[mode]
        self._batch = batch

    def write(self, lines: bytes, give_up: threading.Event) -> Written:
        """Send each line's events; a record counts as written once all of its events were accepted."""
        written, problem = 0, None
        left = lines.splitlines()
        together = max(1, self._batch // len(self._types))
        for start in range(0, len(left), together):
            if give_up.is_set():
                break
            group = left[start : start + together]
            rows = [row for line in group for row in prediction_log.rows(orjson.loads(line))]
            failure = self._send(rows, give_up)
            if failure is None:
                written += len(group)
            else:
                problem = failure
        return Written(written, problem)

    def close(self) -> None:
        self._receiver.close()

    def _send(self, records: Sequence[Mapping[str, Any]], give_up: threading.Event) -> str | None:
        made = [event for record in records for event in events(record, self._origin, self._types)]
        for message in [batched(made)] if self._batch else map(binary, made):
            failure = self._receiver.post(*message, give_up)
            if failure is not None:
                return failure
        return None


def _time(at: float) -> dict[str, str]:
    """The attribute `time`, which is optional: a replayed request may state one that no calendar has."""
    try:
        return {"time": f"{_second(int(at // 1))}.{int(at % 1 * 1e6):06}Z"}
    except (ValueError, OverflowError):
        return {}


@lru_cache(maxsize=16)
def _second(whole: int) -> str:
    """The text of a second; predictions of the same one share it."""
    return datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
