"""From what was sent to what is journaled: checked, without personal values, one line an event.

Model and version of a CloudEvent are read from what it says, in this order: the source of our own runtimes
(`/HOST/models/M/versions/V`), KServe's InferenceService (`M-V` where M is a workload of this project, since each
version has one of its own; else its whole name is the model), the response's `model_name`. A V2 response's
`model_version` wins over both. A version that nobody states is "unknown".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import orjson

from monitoring.collector import cloudevents, payloads
from monitoring.collector.names import MODEL, Names
from monitoring.collector.privacy import Privacy
from serving.runtime.payload.cloudevents import REQUEST, RESPONSE
from windlass import prediction_log
from windlass.errors import UsageError

OURS = re.compile(r"/[^/]+/models/([^/]+)/versions/([^/]+)")
UNKNOWN = "unknown"
#: clocks differ; an event of the day after tomorrow would make today's look old
AHEAD_S = 86_400.0
Entry = dict[str, Any]


class Intake:
    """Makes journal entries; `now` gives the time of arrival.

    Args:
        secret: key of the hashes of personal values, None where there is none.
        known_only: refuse models that are no workload of this project: nobody states what is personal of them.
    """

    def __init__(
        self, names: Names, secret: bytes | None, now: Callable[[], float], *, known_only: bool = False
    ) -> None:
        self._names = names
        self._secret = secret
        self._now = now
        self._known_only = known_only
        self._privacy: dict[str, Privacy] = {}

    def events(self, headers: Mapping[str, str], body: bytes) -> list[Entry]:
        """The entries of a POST of CloudEvents.

        Raises:
            UsageError: what is wrong, and where; nothing of it is taken.
            WindlassError: its workload cannot be loaded, or needs a key that is not there.
        """
        received = self._now()
        found, rows = [], 0
        for event in cloudevents.parse(headers, body):
            half = self._half(event, received)
            rows += len(half["rows"] if half["type"] == "request" else half["scores"])
            payloads.check_rows(rows)
            found.append(half)
        return found

    def predictions(self, body: bytes) -> list[Entry]:
        """The entries of JSON lines in the form of the prediction log.

        Raises:
            UsageError, WindlassError: as for `events`.
        """
        received = self._now()
        found: list[Entry] = []
        for position, line in enumerate(body.splitlines()):
            if line.strip():
                try:
                    for row in self.prediction(orjson.loads(line), received):
                        found.append(row)
                        payloads.check_rows(len(found))
                except orjson.JSONDecodeError as error:
                    raise UsageError(f"line {position + 1} is not JSON ({error})") from None
                except UsageError as error:
                    raise UsageError(f"line {position + 1}: {error}") from None
        return found

    def prediction(self, record: Any, received: float) -> Iterator[Entry]:
        """The entries of one decoded line, which may hold the rows of a matrix.

        Raises:
            UsageError, WindlassError: as for `events`.
        """
        try:
            for position, row in enumerate(prediction_log.rows(record)):
                payloads.check_rows(position + 1)
                yield self._row(row, received)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(
                f"it is no prediction ({type(error).__name__}: {error}); send request_id, model, version, at, features "
                "and score"
            ) from None

    def _row(self, record: Mapping[str, Any], received: float) -> Entry:
        model = self._model(record["model"])
        row: Entry = {
            "type": "prediction",
            "request_id": cloudevents.text(record["request_id"], "request_id"),
            "model": model,
            "version": cloudevents.text(str(record["version"]), "version"),
            "at": self._moment(record["at"], received),
            "received": received,
            "mirrored": record.get("mirrored", False) is True,
            "entities": record.get("entities"),
            "request": record.get("request"),
            "features": _vector(record["features"]),
            "score": _finite(record["score"]),
            "latency_ms": _finite(record.get("latency_ms")),
            "source": _text(record.get("source")),
            "answered_by": _text(record.get("answered_by")),
            "route": _word(record.get("route")),
            "unit": _word(record.get("unit")),
        }
        for place in payloads.PLACES:
            if row[place] is not None and not isinstance(row[place], Mapping):
                raise UsageError(f"{place!r} is {str(row[place])[:60]!r}; send an object")
        return self._clean(row, model, row["version"])

    def _half(self, event: cloudevents.Event, received: float) -> Entry:
        if event.type not in (REQUEST, RESPONSE):
            raise UsageError(
                f"event {event.id!r} has type {event.type!r}; {REQUEST} and {RESPONSE} are taken here"
            )
        model, version = self._origin(event)
        entry: Entry = {
            "source": event.source, "id": event.id, "received": received, "model": model, "version": version,
        }  # fmt: skip
        try:
            if event.type == REQUEST:
                workload = self._names.workload(model)
                entities = () if workload is None else workload.entities
                rows, stated = payloads.request_rows(event.data, entities)
                at = stated if stated is not None else event.at
                for row in rows:
                    if "features" in row:
                        row["features"] = _vector(row["features"])
                entry |= {"type": "request", "rows": [self._clean(row, model, version) for row in rows]}
            else:
                at = event.at
                entry |= self._answer(event.data, version)
                if OURS.fullmatch(event.source):
                    # other servers may repeat in their answers what a caller wrote
                    told = _parameters(event.data)
                    entry |= {"route": _word(told.get("route")), "unit": _word(told.get("unit"))}
                entry["scores"] = [self._rules(model).answer(score) for score in entry["scores"]]
        except UsageError as error:
            raise UsageError(f"event {event.id!r}: {error}") from None
        entry["at"] = self._moment(received if at is None else at, received)
        return entry

    def _answer(self, body: Any, version: str) -> Entry:
        scores = [_finite(score) for score in payloads.response_scores(body)]
        parameters = _parameters(body)
        stated = body.get("model_version")
        return {
            "type": "response",
            "version": cloudevents.text(str(stated), "model_version") if stated else version,
            "scores": scores,
            "mirrored": parameters.get("mirrored", False) is True,
            "latency_ms": _finite(parameters.get("latency_ms")),
            "feature_source": _text(
                parameters.get("source", parameters.get("feature_source", body.get("feature_source")))
            ),
            "answered_by": _text(parameters.get("answered_by", body.get("answered_by"))),
        }

    def _origin(self, event: cloudevents.Event) -> tuple[str, str]:
        if ours := OURS.fullmatch(event.source):
            return self._model(ours[1]), ours[2]
        service = event.service
        model, dash, version = service.rpartition("-")
        if dash and version and self._names.workload(model) is not None:
            return model, version
        if not service and isinstance(event.data, Mapping):
            service = str(event.data.get("model_name") or "")
        if not service:
            raise UsageError(f"event {event.id!r} names no model; send ce-inferenceservicename")
        return self._model(service), UNKNOWN

    def _model(self, name: object) -> str:
        model = model_name(name)
        if self._known_only and self._names.workload(model) is None:
            raise UsageError(f"model {name!r} is no workload of this project; the collector takes no other")
        return model

    def _moment(self, at: Any, received: float) -> float:
        if not payloads.number(at) or not 0 <= at <= received + AHEAD_S:
            raise UsageError(f"its time is {str(at)[:40]}; send epoch seconds up to now")
        return float(at)

    def _clean(self, row: Entry, model: str, version: str) -> Entry:
        privacy = self._rules(model)
        return privacy.applied(row, self._names.inputs(model, version)) if privacy else row

    def _rules(self, model: str) -> Privacy:
        privacy = self._privacy.get(model)
        if privacy is None:
            workload = self._names.workload(model)
            privacy = Privacy(model, {} if workload is None else workload.privacy, self._secret)
            self._privacy[model] = privacy
        return privacy


@lru_cache(maxsize=1024)
def model_name(name: object) -> str:
    """A model's name, which folders are called by.

    Raises:
        UsageError: it cannot be one.
    """
    if not isinstance(name, str) or not MODEL.fullmatch(name):
        raise UsageError(
            f"model {str(name)[:60]!r} cannot name one; use letters, digits, '.', '_' and '-', 128 at most"
        )
    return name


def _vector(values: Any) -> list[float | None] | None:
    if values is None or not len(values) or len(values) > payloads.MOST_FEATURES:
        return None
    if not isinstance(values, list) or not payloads.numbers(values):
        raise UsageError("its features are no list of numbers and nulls")
    return values


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parameters(body: Any) -> Mapping[str, Any]:
    found = body.get("parameters")
    return found if isinstance(found, Mapping) else {}


def _word(value: Any) -> str | None:
    """What a router said, which is never a reason to lose the prediction that it came with."""
    fine = isinstance(value, str) and 0 < len(value) <= cloudevents.LONGEST_NAME and value.isprintable()
    return value if fine else None


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)
