"""KServe's V1 protocol: rows as JSON objects in, a list of predictions out."""

from __future__ import annotations

from typing import Any

import orjson

from serving.runtime.predictor import Prediction
from serving.runtime.refusal import BadRequest, FieldError
from serving.runtime.signature import Row, Signature


def decode(body: bytes | bytearray, signature: Signature, most_rows: int) -> list[Row]:
    """Read `{"instances": [{…}, …]}`.

    Raises:
        BadRequest: the body is not that; the message names the field.
    """
    instances = parse(body).get("instances")
    if not isinstance(instances, list):
        raise FieldError("instances", instances, "a list of objects")
    check_count("instances", len(instances), most_rows)
    if len(instances) == 1:
        return [signature.row(instances[0], "instances[0]")]
    return [signature.row(instance, f"instances[{i}]") for i, instance in enumerate(instances)]


def encode(prediction: Prediction) -> bytes:
    """Write the predictions, with the lowest rung that a feature came from."""
    return orjson.dumps({"predictions": prediction.scores, "feature_source": prediction.source})


def parse(body: bytes | bytearray) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        BadRequest: the body is no JSON, or no object.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise FieldError("the body", document, "a JSON object")
    return document


def check_count(where: str, count: int, most: int) -> None:
    """Refuse a request without rows or with more than are scored at once."""
    if not 0 < count <= most:
        raise BadRequest(f"{where}: holds {count} rows, expected 1 to {most}")
