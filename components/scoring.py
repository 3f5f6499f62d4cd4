"""A parquet file scored by a model server, batch by batch: the answers are those of live requests, features included.

The server is one of its own for the job (manifests/samples/kserve/batch.yaml), so that a backlog of rows is never in
the way of a live request; any other address works too. What is written appears whole, or not at all.
"""

from __future__ import annotations

import http.client
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from windlass.atomic import replacing
from windlass.errors import DataError, UsageError, WindlassError

if TYPE_CHECKING:
    import pyarrow as pa

#: Answers that another try may change: the server sheds, is being replaced, or ran out of time.
_PASSING = frozenset({429, 502, 503, 504})
_TIMEOUT_S = 60.0
_TOO_LARGE = 413
_ADDED = ("prediction", "model_version", "feature_source", "answered_by")


@dataclass(frozen=True)
class Scored:
    """What was scored.

    Attributes:
        versions: that answered; more than one where the server was replaced meanwhile.
    """

    rows: int
    requests: int
    versions: tuple[str, ...]
    path: Path


@dataclass(frozen=True)
class _Answer:
    predictions: list[Any]
    version: str
    source: str
    by: str


@dataclass(frozen=True)
class _Taken:
    """Which answers count as scores."""

    any_answer: bool
    defaults: bool

    def against(self, answer: _Answer) -> str | None:
        """Why an answer is none, and the remedy; None where it is one."""
        if not self.any_answer and answer.by not in ("model", "cache"):
            return f"by its {answer.by}, not by the model; see why it fails, or take such answers with --any-answer"
        if not self.defaults and answer.source == "default":
            return (
                "with the training defaults of features, since its online store does not answer; see that the server "
                "has --online, reaches the store and has the password, or take such answers with --allow-defaults"
            )
        return None


class _Smaller(Exception):  # noqa: N818 - no error: the same rows go in two requests
    """The body is over the server's limit."""


def score(
    source: Path,
    target: Path,
    url: str,
    model: str,
    *,
    batch: int = 1000,
    patience_s: float = 120.0,
    any_answer: bool = False,
    allow_defaults: bool = False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Scored:
    """Score the rows of `source` and write them to `target` with their predictions.

    Args:
        source, target: parquet files; the columns of the first come first in the second, then `prediction`,
            `model_version`, `feature_source` and `answered_by`. These describe a batch of rows: the lowest rung that a
            feature of any of them came from.
        url: of the model server, http://HOST:PORT.
        batch: rows a request.
        patience_s: how long a batch is asked again for while the server sheds, is away, or answers without its model or
            without its online store.
        any_answer: take what the server answers when its model does not (its fallback, a constant).
        allow_defaults: take answers to rows of which a feature is its training default, since the online store was not
            reached. A store that is reached and does not know an entity is no such case.
        clock, sleep: the time in seconds, and waiting for it.

    Raises:
        UsageError: there is no such file, address or model, or `batch` is none.
        DataError: the file lacks a column that the model takes, or a row is refused.
        WindlassError: the server did not answer in time, or not by its model and with features.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not 1 <= batch <= 4096:
        raise UsageError(f"batch is {batch}; give 1 to 4096 rows a request")
    try:
        file = pq.ParquetFile(source)
    except (OSError, pa.ArrowInvalid) as error:
        raise UsageError(f"{source}: {error}; name a parquet file") from error
    taken = [name for name in _ADDED if name in file.schema_arrow.names]
    if taken:
        raise DataError(
            f"{source} has a column {taken[0]!r} already; rename it, the predictions take that name"
        )
    server = _Server(url, model, patience_s, _Taken(any_answer, allow_defaults), clock, sleep)
    sent = _sent(server.inputs(), file.schema_arrow, source, model)
    versions: dict[str, None] = {}
    rows = requests = 0
    with replacing(target) as temporary:
        writer: pq.ParquetWriter | None = None
        try:
            for found in file.iter_batches(batch_size=batch):
                table = pa.Table.from_batches([found])
                for part in _scored(server, table, sent, rows):
                    if writer is None:
                        writer = pq.ParquetWriter(temporary, part.schema)
                    writer.write_table(part)
                    requests += 1
                    versions |= dict.fromkeys(part.column("model_version").unique().to_pylist())
                rows += table.num_rows
            if writer is None:
                raise DataError(f"{source} has no rows; there is nothing to score")
        finally:
            if writer is not None:
                writer.close()
    return Scored(rows, requests, tuple(versions), target)


def _sent(inputs: list[str] | None, schema: pa.Schema, source: Path, model: str) -> list[str]:
    """The columns that the server is sent: those it names; for a model of one matrix all numbers and texts."""
    import pyarrow.types as types

    plain = (types.is_integer, types.is_floating, types.is_boolean, types.is_string, types.is_large_string)
    fit = {
        field.name
        for field in schema
        if any(is_plain(field.type) for is_plain in plain)
        or (types.is_dictionary(field.type) and types.is_string(field.type.value_type))
    }
    if inputs is None:
        return [name for name in schema.names if name in fit]
    missing = [name for name in inputs if name not in schema.names]
    if missing:
        raise DataError(
            f"{source} lacks {', '.join(missing)}, which model {model} takes; add the column, with nulls where a value "
            "is missing"
        )
    odd = [name for name in inputs if name not in fit]
    if odd:
        raise DataError(f"{source}: column {odd[0]} is {schema.field(odd[0]).type}; give numbers or texts")
    return inputs


def _scored(server: _Server, table: pa.Table, sent: list[str], first: int) -> Iterator[pa.Table]:
    import pyarrow as pa

    rows = table.select(sent).to_pylist()
    instances = [{name: _plain(value) for name, value in row.items()} for row in rows]
    try:
        answer = server.predict(instances, first)
    except _Smaller:
        half = table.num_rows // 2
        yield from _scored(server, table.slice(0, half), sent, first)
        yield from _scored(server, table.slice(half), sent, first + half)
        return
    count = table.num_rows
    for name, values in zip(
        _ADDED,
        (answer.predictions, [answer.version] * count, [answer.source] * count, [answer.by] * count),
        strict=True,
    ):
        table = table.append_column(name, pa.array(values))
    yield table


def _plain(value: Any) -> Any:
    # JSON knows no NaN; the server reads a null as the same
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Server:
    """One model of a server, asked until it answers."""

    def __init__(
        self,
        url: str,
        model: str,
        patience_s: float,
        taken: _Taken,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r} is no address of a model server; give http://HOST:PORT")
        self._https = parts.scheme == "https"
        self._place = (parts.hostname, parts.port)
        self._url = url
        self._model = model
        self._patience_s = patience_s
        self._taken = taken
        self._clock = clock
        self._sleep = sleep
        self._connection: http.client.HTTPConnection | None = None

    def inputs(self) -> list[str] | None:
        """Names of the fields of a row; None of a model that takes one matrix."""
        status, _, body = self._asked("GET", f"/v2/models/{quote(self._model)}", None)
        if status != 200:
            raise UsageError(f"{self._url}: {_message(body)} ({status}); name a model that it serves")
        inputs = json.loads(body)["inputs"]
        return (
            None if any(len(given["shape"]) > 1 for given in inputs) else [given["name"] for given in inputs]
        )

    def predict(self, instances: list[dict[str, Any]], first: int) -> _Answer:
        """The predictions of some rows; `first` is the number of the first one, for messages."""
        body = json.dumps({"instances": instances}).encode()
        path = f"/v1/models/{quote(self._model)}:predict"
        deadline = self._clock() + self._patience_s
        while True:
            status, headers, answered = self._asked("POST", path, body)
            rows = f"rows {first} to {first + len(instances) - 1}"
            if status == _TOO_LARGE and len(instances) > 1:
                raise _Smaller
            if status != 200:
                raise DataError(f"model {self._model} refuses {rows}: {_message(answered)} ({status})")
            found = json.loads(answered)
            version = headers.get("x-windlass-version", "")
            answer = _Answer(found["predictions"], version, found["feature_source"], found["answered_by"])
            fault = self._taken.against(answer)
            if fault is None:
                return answer
            if self._clock() >= deadline:
                raise WindlassError(f"model {self._model} answers {rows} {fault}")
            self._sleep(1.0)

    def _asked(self, method: str, path: str, body: bytes | None) -> tuple[int, dict[str, str], bytes]:
        deadline = self._clock() + self._patience_s
        while True:
            pause = 1.0
            try:
                status, headers, answered = self._once(method, path, body)
            except (OSError, http.client.HTTPException) as error:
                self._connection = None
                problem = str(error) or type(error).__name__
            else:
                if status not in _PASSING:
                    return status, headers, answered
                problem = f"{_message(answered)} ({status})"
                pause = _seconds(headers.get("retry-after"), pause)
            if self._clock() + pause > deadline:
                raise WindlassError(
                    f"{self._url} did not answer within {self._patience_s:g} s: {problem}; see whether it runs"
                )
            self._sleep(pause)

    def _once(self, method: str, path: str, body: bytes | None) -> tuple[int, dict[str, str], bytes]:
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
            self._connection = kind(*self._place, timeout=_TIMEOUT_S)
        self._connection.request(method, path, body, {"content-type": "application/json"})
        answer = self._connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace").strip() or "it says nothing"


def _seconds(stated: str | None, otherwise: float) -> float:
    return float(stated) if stated is not None and stated.isdigit() else otherwise
