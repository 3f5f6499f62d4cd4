"""The lines of a prediction log: one for each row, or one for all rows of a request that sent them as a matrix.

A matrix goes into the log as it came, because writing it again row by row costs as much as its predictions. Whoever
reads the log sees rows: this is the one place that takes them apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

ROWS = "rows"


def rows(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the record of each row of a line; rows of one request are told apart by their ids, `<request id>/<row>`.

    Raises:
        KeyError, TypeError, ValueError: a line of several rows does not hold them.
    """
    if ROWS not in record:
        yield record
        return
    shared = {name: value for name, value in record.items() if name != ROWS}
    count, features, scores = record[ROWS], record["features"], record["score"]
    if count < 1:
        raise ValueError(f"{count} rows")
    width, rest = divmod(len(features), count)
    if rest or len(scores) != count:
        raise ValueError(f"{count} rows of {len(features)} features and {len(scores)} scores")
    for i in range(count):
        yield {
            **shared,
            "request_id": f"{record['request_id']}/{i}",
            "features": features[i * width : (i + 1) * width],
            "score": scores[i],
        }
