"""What a request must hold, and how its rows become the model's vector.

A row carries every entity key, and those request fields that the caller knows: one that is missing takes its
training default, one that is null is missing for the model too. Names that this version does not know are
ignored, because during a release one caller asks two versions whose inputs may differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from serving.runtime.bundle import Bundle
from serving.runtime.features.reader import Layout, positions
from serving.runtime.refusal import BadRequest, FieldError

LARGEST = 3.4028234663852886e38  # of float32
INTEGERS = {"int32": 1 << 31, "int64": 1 << 63}


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a request.

    Attributes:
        entities: the key of each entity, as text.
        request: the request fields as they were sent.
        values: the request inputs as the model takes them, in the signature's order.
    """

    entities: dict[str, str]
    request: dict[str, float | str | None]
    values: list[float]


@dataclass(frozen=True)
class Field:
    """A request field; `categories` is None for a number."""

    name: str
    default: float
    categories: Mapping[str, float] | None


class Signature:
    """The row contract of one bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self.entities = tuple(bundle.entity_types.items())
        self.fields = tuple(
            Field(i.name, i.default, None if i.categories is None else positions(i.categories))
            for i in bundle.inputs
            if i.view is None
        )
        layout = Layout.of(bundle)
        views = {v.name: i for i, v in enumerate(bundle.views)}
        requested = {f.name: layout.width + n for n, f in enumerate(self.fields)}
        # position in (features of all views, then request values) of each model input
        order = [
            requested[i.name] if i.view is None else layout.positions[views[i.view]][i.name]
            for i in bundle.inputs
        ]
        self._order = None if order == list(range(layout.width + len(self.fields))) else order

    def row(self, instance: object, where: str) -> Row:
        """Check one instance.

        Args:
            where: how the caller finds it, for messages.

        Raises:
            BadRequest: a key is missing or a value is not what is expected.
        """
        if not isinstance(instance, dict):
            raise FieldError(where, instance, "an object of entity keys and request fields")
        entities = {}
        for name, kind in self.entities:
            value = instance.get(name)
            if value.__class__ is not str or kind != "string":
                value = _key(value, kind, f"{where}.{name}", present=name in instance)
            entities[name] = value
        request: dict[str, float | str | None] = {}
        values = []
        for field in self.fields:
            value = instance.get(field.name, _ABSENT)
            if value is _ABSENT:
                values.append(field.default)
                continue
            if value.__class__ is float and -LARGEST <= value <= LARGEST and field.categories is None:
                values.append(value)
            else:
                values.append(_value(value, field, where))
            request[field.name] = value
        return Row(entities, request, values)

    def vector(self, features: list[float], values: list[float]) -> list[float]:
        """Put features and request values into the model's order."""
        joined = features + values
        return joined if self._order is None else [joined[i] for i in self._order]


_ABSENT = object()


def _key(value: object, kind: str, where: str, *, present: bool) -> str:
    if not present:
        raise BadRequest(f"{where}: the entity key is missing; every instance needs it")
    if kind == "string":
        if not isinstance(value, str):
            raise FieldError(where, value, "a string (an entity key)")
        return value
    limit = INTEGERS[kind]
    if not isinstance(value, int) or isinstance(value, bool) or not -limit <= value < limit:
        raise FieldError(where, value, f"an integer of {kind} (an entity key)")
    return str(value)


def _value(value: object, field: Field, where: str) -> float:
    if value is None:
        return math.nan
    if field.categories is not None:
        if not isinstance(value, str):
            raise FieldError(f"{where}.{field.name}", value, "a string")
        return field.categories.get(value, math.nan)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FieldError(f"{where}.{field.name}", value, "a number")
    if not -LARGEST <= value <= LARGEST:
        raise FieldError(f"{where}.{field.name}", value, "a finite number within the range of float32")
    return float(value)
