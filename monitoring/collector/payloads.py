"""What a logged request or response says: rows of V1 (`instances`, `predictions`) or V2 (`inputs`, `outputs`) bodies.

A row of up to `MOST_FEATURES` numbers is a feature vector; longer ones, and nested lists (images), are not kept. Named
values are what the caller sent: entities where the workload says so, fields of the request otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from windlass.errors import UsageError

Row = dict[str, Any]
PLACES = ("entities", "request")
MOST_FEATURES = 1024
#: of one request, and of all requests of a POST: a few bytes a row become a few hundred once it is taken apart
MOST_ROWS = 65_536
NUMBERS = {float, int, type(None)}


def request_rows(body: Any, entities: Collection[str]) -> tuple[list[Row], float | None]:
    """The rows that were asked about, and the time that the request states as its own (ours do).

    Args:
        entities: names of the workload's entities.

    Raises:
        UsageError: it is neither kind of body.
    """
    if isinstance(body, Mapping):
        if isinstance(tensors := body.get("inputs"), list) and all(map(_is_tensor, tensors)):
            parameters = body.get("parameters")
            parameters = parameters if isinstance(parameters, Mapping) else {}
            rows = _of_tensors(tensors, entities)
            shared: dict[str, Row] = {place: {} for place in PLACES}
            for name, value in parameters.items():
                place, dot, rest = name.partition(".")
                if dot and place in PLACES:
                    shared[place][rest] = value
            for row in rows:
                for place in PLACES:
                    if shared[place]:
                        row[place] = {**shared[place], **(row.get(place) or {})}
            at: Any = parameters.get("at")
            return rows, float(at) if number(at) else None
        instances = body.get("instances", body.get("inputs"))
        if isinstance(instances, list):
            check_rows(len(instances))
            return [_of_instance(instance, entities) for instance in instances], None
    raise UsageError("the request's body has neither 'instances' (V1) nor 'inputs' (V2)")


def response_scores(body: Any) -> list[Any]:
    """What was answered, one value a row: a number, or whatever else the model gives.

    Raises:
        UsageError: it is neither kind of body.
    """
    if isinstance(body, Mapping):
        if isinstance(outputs := body.get("outputs"), list) and outputs and all(map(_is_tensor, outputs)):
            columns = [_rows_of(tensor) for tensor in outputs]
            if len(columns) == 1:
                return [_single(value) for value in columns[0]]
            names = [tensor["name"] for tensor in outputs]
            return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=False)]
        if isinstance(predictions := body.get("predictions"), list):
            check_rows(len(predictions))
            return [_single(value) for value in predictions]
        if "error" in body:
            return []  # it was answered with an error: there is no prediction
    raise UsageError("the response's body has neither 'predictions' (V1) nor 'outputs' (V2)")


def check_rows(count: int) -> None:
    """Refuse more rows than are taken at once.

    Raises:
        UsageError: there are more.
    """
    if count > MOST_ROWS:
        raise UsageError(f"it has {count} rows; send at most {MOST_ROWS} at once")


def numbers(values: Sequence[Any]) -> bool:
    """Whether all of them are numbers or None; the types of a long vector are compared without a loop of ours."""
    return set(map(type, values)) <= NUMBERS


def number(value: object) -> bool:
    """Whether it is a number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _is_tensor(found: object) -> bool:
    return isinstance(found, Mapping) and "data" in found and isinstance(found.get("shape"), list)


def _rows_of(tensor: Mapping[str, Any]) -> list[Any]:
    """A tensor's rows: values, or lists where a row has several."""
    data, shape = tensor["data"], tensor["shape"]
    if (
        not isinstance(data, list)
        or not shape
        or not all(isinstance(size, int) and size >= 0 for size in shape)
    ):
        raise UsageError(
            f"tensor {tensor.get('name')!r} has shape {shape!r}; its data is no list of that shape"
        )
    count = shape[0]
    check_rows(count)
    if len(data) == count and (len(shape) == 1 or isinstance(data[0] if data else [], list)):
        return data
    width = 1
    for size in shape[1:]:
        width *= size
    if len(data) != count * width:
        raise UsageError(f"tensor {tensor.get('name')!r} has {len(data)} values, and its shape is {shape}")
    if width == 1 and len(shape) <= 2:
        return data if len(shape) == 1 else [[value] for value in data]
    return [data[i * width : (i + 1) * width] for i in range(count)]


def _of_tensors(tensors: Sequence[Mapping[str, Any]], entities: Collection[str]) -> list[Row]:
    if len(tensors) == 1 and len(tensors[0]["shape"]) == 2:
        return [_of_instance(row, entities) for row in _rows_of(tensors[0])]
    names = [str(tensor.get("name")) for tensor in tensors]
    columns = [[_single(value) for value in _rows_of(tensor)] for tensor in tensors]
    return [_named(dict(zip(names, row, strict=True)), entities) for row in zip(*columns, strict=False)]


def _of_instance(instance: Any, entities: Collection[str]) -> Row:
    if isinstance(instance, Mapping):
        return _named(instance, entities)
    values = instance if isinstance(instance, list) else [instance]
    if numbers(values):
        return {"features": values}
    if len(values) > MOST_FEATURES or any(isinstance(value, (list, dict)) for value in values):
        return {}
    return {"request": {str(position): value for position, value in enumerate(values)}}


def _named(values: Mapping[str, Any], entities: Collection[str]) -> Row:
    return {
        "entities": {name: value for name, value in values.items() if name in entities},
        "request": {name: value for name, value in values.items() if name not in entities},
    }
