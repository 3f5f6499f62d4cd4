"""The address of a payload log, and the sink that it opens.

    predictions.jsonl, file:predictions.jsonl     JSON lines in a file
    https://receiver/path                         CloudEvents, one a POST (binary content mode)
    https://receiver/path#batch=200               CloudEvents, up to 200 a POST; #mode=response sends answers alone
    parquet:DIR, parquet:DIR#seconds=60           parquet files, a new one each minute (or each 16 MiB of lines)

What stands behind "#" is for us: a URL's fragment is never sent.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlsplit

from serving.runtime.payload.queue import RecordQueue
from windlass.errors import UsageError

# a batch is worth a longer wait than a write to a file
BATCH_FLUSH_S = 0.2
FILE_SECONDS = 60
FILE_BYTES = 16 * 1024 * 1024
MOST_FILE_BYTES = 4 * FILE_BYTES


def open_sink(
    address: str,
    *,
    model: str,
    version: str,
    output: str = "score",
    inference_service: str | None = None,
    namespace: str = "default",
    component: str = "predictor",
    endpoint: str = "default",
) -> RecordQueue:
    """Open the payload log of one model version.

    Args:
        address: see the module.
        output: the model's output that a record's score is read from.
        inference_service: as KServe's agent states it in each event; the model's name where there is none.
        namespace: likewise, as `component` and `endpoint`.

    Raises:
        UsageError: the address cannot be meant.
        WindlassError: the place cannot be written.
    """
    scheme, colon, rest = address.partition(":")
    if scheme in ("http", "https"):
        from serving.runtime.payload import cloudevents

        url, options = _url(address), _options(address, ("batch", "mode"))
        mode, batch = options.get("mode", "all"), _whole(address, options, "batch", 0)
        if mode not in cloudevents.MODES:
            raise UsageError(
                f"prediction log {address}: mode is {mode!r}; give one of {', '.join(cloudevents.MODES)}"
            )
        if batch == 1:
            raise UsageError(f"prediction log {address}: batch is 1; give 2 or more, or leave it out")
        origin = cloudevents.Origin(
            # a mirrored request has one id in two versions: the source tells them apart
            source=f"/{socket.gethostname()}/models/{model}/versions/{version}",
            inference_service=inference_service or model,
            namespace=namespace,
            component=component,
            endpoint=endpoint,
            output=output,
        )
        writer = cloudevents.CloudEventsWriter(url, origin, mode=mode, batch=batch)
        return RecordQueue(writer, flush_s=BATCH_FLUSH_S) if batch else RecordQueue(writer)
    if scheme == "parquet":
        from serving.runtime.payload import parquet

        options = _options(address, ("seconds",))
        return RecordQueue(
            parquet.ParquetWriter(Path(rest.partition("#")[0])),
            encode=parquet.encode,
            flush_s=_whole(address, options, "seconds", FILE_SECONDS),
            flush_bytes=FILE_BYTES,
            most_bytes=MOST_FILE_BYTES,
        )
    if rest.startswith("//") and scheme != "file":
        raise UsageError(
            f"prediction log {address}: {scheme!r} is no kind of log; give a file, parquet:DIR, http://… or https://…"
        )
    from serving.runtime.payload import lines

    return RecordQueue(lines.LinesWriter(Path(rest if colon and scheme == "file" else address)))


def _url(address: str) -> SplitResult:
    try:
        url = urlsplit(address)
        unreachable = not url.hostname or url.port == 0
    except ValueError as error:
        raise UsageError(f"prediction log {address}: {error}; give http://HOST:PORT/PATH") from error
    if unreachable:
        raise UsageError(f"prediction log {address}: it names no host; give http://HOST:PORT/PATH")
    if url.username is not None:
        raise UsageError(
            f"prediction log of {url.hostname}: a URL with a user is not read here; leave it out"
        )
    return url


def _options(address: str, known: tuple[str, ...]) -> Mapping[str, str]:
    options = dict(parse_qsl(address.partition("#")[2], keep_blank_values=True))
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UsageError(
            f"prediction log {address}: {unknown[0]!r} is unknown; known is {' and '.join(known)}"
        )
    return options


def _whole(address: str, options: Mapping[str, str], name: str, default: int) -> int:
    if name not in options:
        return default
    value = options[name]
    if not value.isascii() or not value.isdigit() or not 0 < int(value) <= 100_000:
        raise UsageError(f"prediction log {address}: {name} is {value!r}; give a whole number up to 100000")
    return int(value)
