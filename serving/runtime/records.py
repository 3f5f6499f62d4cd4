"""What is kept of a prediction: a line of JSON for each row, or one for a matrix, made after the answer left.

Written piece by piece: the rows of a request share all but a few of their fields, and numbers that came as text are
kept as that text.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import orjson

from serving.runtime.contract import Contract
from serving.runtime.flow.call import Asked, Call

NUMPY = orjson.OPT_SERIALIZE_NUMPY
#: no router of ours says more
LONGEST_ROUTE = 512
ARM = b',"route":"arm"'


def lines(call: Call, contract: Contract, ended: float) -> bytes:
    """The records of an answered call.

    Args:
        ended: `time.perf_counter()` when it was answered.
    """
    count = call.asked.count
    begin = b'%s"at":%s,"mirrored":%s,"answered_by":"%s","latency_ms":%s' % (
        contract.head_of_record,
        orjson.dumps(call.at),
        b"true" if call.mirrored else b"false",
        call.outcome.answered_by.encode(),
        orjson.dumps(round((ended - call.started) * 1000, 4)),
    )
    if call.route is not None:
        begin += _way(call.route, call.unit)
    identity = orjson.dumps(call.request_id)
    keys = _keys(call)
    scores = call.outcome.outputs[0]
    if count == 1:
        ((vector,), (score,)) = _vectors(call), _scores(scores)
        return b'%s%s,"request_id":%s,"features":[%s],"score":%s}\n' % (
            begin,
            keys[0],
            identity,
            vector,
            score,
        )
    if call.asked.values is not None:
        # a matrix is kept as it came (see `windlass.prediction_log`): taking it apart costs as much as its predictions
        return b'%s%s,"request_id":%s,"rows":%d,"features":[%s],"score":%s}\n' % (
            begin, keys[0], identity, count, _matrix(call.asked), orjson.dumps(scores, None, NUMPY)
        )  # fmt: skip
    # rows of a batch are told apart by their ids
    begin += b',"request_id":' + identity[:-1]
    return b"".join(
        [
            b'%s/%d"%s,"features":[%s],"score":%s}\n' % (begin, i, key, vector, score)
            for i, (key, vector, score) in enumerate(zip(keys, _vectors(call), _scores(scores), strict=True))
        ]
    )


def _way(route: bytes | str, unit: bytes | str | None) -> bytes:
    """Why the router chose this version, and of an experiment's request the unit's pseudonym.

    A unit counts only where the route assigns units: there the proxy has overwritten what its caller sent.
    """
    found = _route(route)
    if unit is not None and found == ARM and len(unit) <= LONGEST_ROUTE:
        found += b',"unit":' + orjson.dumps(_text(unit))
    return found


@lru_cache(maxsize=256)
def _route(route: bytes | str) -> bytes:
    """The field; a router says the same few things of all requests."""
    return b"" if len(route) > LONGEST_ROUTE else b',"route":' + orjson.dumps(_text(route))


def _text(header: bytes | str) -> str:
    return header if isinstance(header, str) else header.decode("latin-1")


def _keys(call: Call) -> list[bytes]:
    """For each row where its features came from, what it is about and what was sent; "none" where none were used."""
    rows, features = call.asked.rows, call.features
    if rows is None:
        return [b',"source":"online","entities":{},"request":{}'] * call.asked.count
    # what is stated in the model's stead may leave before they are looked up
    sources = (
        ["none"] * len(rows) if features is None or call.vectors is None else [f.source for f in features]
    )
    return [
        b',"source":"%s","entities":%s,"request":%s'
        % (source.encode(), orjson.dumps(row.entities), orjson.dumps(row.request))
        for row, source in zip(rows, sources, strict=True)
    ]


def _vectors(call: Call) -> list[bytes]:
    """The inputs of each row before rounding to float32, without brackets; none of a model of tensors."""
    if call.vectors is not None:
        return orjson.dumps(call.vectors, None, NUMPY)[2:-2].split(b"],[")
    if call.asked.values is not None:
        return [_matrix(call.asked)]
    return [b""] * call.asked.count


def _matrix(asked: Asked) -> bytes:
    """All values that were sent, without brackets: as they came, or as the doubles that they are."""
    if asked.text is not None:
        return asked.text
    values = asked.values
    # as doubles: a float32 written as itself would read as another double
    doubles = (
        np.frombuffer(values) if isinstance(values, bytes) else np.asarray(values, np.float64).reshape(-1)
    )
    return orjson.dumps(doubles, None, NUMPY)[1:-1]


def _scores(scores: Any) -> list[bytes]:
    """The JSON of each row's score, or of what else the model's first output holds."""
    text = orjson.dumps(scores, None, NUMPY)
    if len(scores) == 1:
        return [text[1:-1]]
    if b"[" in text[1:] or b'"' in text:
        return [orjson.dumps(row, None, NUMPY) for row in scores]
    return text[1:-1].split(b",")
