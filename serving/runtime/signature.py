"""What a request of rows must hold, and how its rows become the model's vector.

A row carries every entity key, and those request fields that the caller knows: one that is missing takes its
training default, one that is null is missing for the model too. Names that this version does not know are
ignored, because during a release one caller asks two versions whose inputs may differ.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.runtime.bundle import Bundle
from serving.runtime.features.reader import Layout, positions
from serving.runtime.refusal import BadRequest, FieldError

LARGEST = 3.4028235677973362e38  # what is larger is rounded to infinity as a float32
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
    """A request field; `categories` is None for a number; `missing` says whether null is a value."""

    name: str
    default: float
    categories: Mapping[str, float] | None
    missing: bool = True


class Signature:
    """The row contract of one bundle.

    Attributes:
        names: of the model's inputs, in order.
        plain: whether all inputs are sent and are numbers, so that a request may send them as one matrix.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.entities = tuple(bundle.entity_types.items())
        sent = [i for i in bundle.inputs if i.view is None and i.transformation is None]
        self.fields = tuple(
            Field(i.name, i.default, None if i.categories is None else positions(i.categories), i.missing)
            for i in sent
        )
        self.names = tuple(i.name for i in bundle.inputs)
        self.width = len(self.names)
        self.plain = len(sent) == self.width and not self.entities and all(i.categories is None for i in sent)
        self.transformed = tuple(i.name for i in bundle.inputs if i.transformation is not None)
        self._forbids_missing = [n for n, i in enumerate(bundle.inputs) if not i.missing]
        layout = Layout.of(bundle)
        views = {v.name: i for i, v in enumerate(bundle.views)}
        requested = {f.name: layout.width + n for n, f in enumerate(self.fields)}
        made = {name: layout.width + len(self.fields) + n for n, name in enumerate(self.transformed)}
        # position in (features of all views, then request values, then what transformations made) of each input
        order = [
            made[i.name]
            if i.transformation is not None
            else requested[i.name]
            if i.view is None
            else layout.positions[views[i.view]][i.name]
            for i in bundle.inputs
        ]
        self._order = None if order == list(range(layout.width + len(self.fields) + len(made))) else order

    def matrix(self, data: list[Any], count: int, where: str) -> bytes:
        """Read `count` rows of numbers in the order of `names`, flat or as a list for each row, into doubles.

        Args:
            where: how the caller finds them, for messages.

        Raises:
            BadRequest: a value is no number, or the lists are not of that shape.
        """
        width = self.width
        if data and data[0].__class__ is list:
            flat: list[Any] = []
            for i, row in enumerate(data):
                if row.__class__ is not list or len(row) != width:
                    raise FieldError(f"{where}[{i}]", row, f"a list of {width} numbers")
                flat += row
            data = flat
        if len(data) != count * width:
            raise BadRequest(
                f"{where}: holds {len(data)} values, its shape of {count} rows says {count * width}"
            )
        try:
            return doubles(data)
        except (struct.error, OverflowError):  # something else than a number: null, or what is not meant
            fields, full = self.fields, []
            for i, value in enumerate(data):
                at = f"{where}[{i // width}]" if count > 1 else where
                full.append(_value(value, fields[i % width], at))
            return doubles(full)

    def check(self, matrix: NDArray[np.float32], where: str) -> None:
        """Hold a matrix to what its inputs allow.

        Raises:
            BadRequest: a value is infinite, or missing where that is not allowed.
        """
        for row, column in np.argwhere(np.isinf(matrix)):
            at = f"{where}[{row}].{self.names[column]}"
            raise FieldError(
                at, float(matrix[row, column]), "a finite number within the range of float32"
            ) from None
        for column in self._forbids_missing:
            if np.isnan(matrix[:, column]).any():
                row = int(np.isnan(matrix[:, column]).argmax())
                raise FieldError(
                    f"{where}[{row}].{self.names[column]}", None, "a number; it may not be missing"
                )

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
                if not field.missing and field.default != field.default:
                    raise FieldError(f"{where}.{field.name}", None, "a value; it may not be missing")
                values.append(field.default)
                continue
            if value.__class__ is float and -LARGEST <= value <= LARGEST and field.categories is None:
                values.append(value)
            else:
                values.append(_value(value, field, where))
            request[field.name] = value
        return Row(entities, request, values)

    def vector(self, joined: list[float]) -> list[float]:
        """Put features, request values and what transformations made, in this order, into the model's."""
        return joined if self._order is None else [joined[i] for i in self._order]


_ABSENT = object()


def doubles(values: list[float]) -> bytes:
    """Pack numbers as doubles, three times as fast as anything else that checks that they are numbers.

    Raises:
        struct.error, OverflowError: one of them is none, or too large.
    """
    return struct.pack(f"{len(values)}d", *values)


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
    # a number that is not one (NaN) is how other languages write a missing one
    if value is None or value != value:
        if not field.missing:
            raise FieldError(f"{where}.{field.name}", None, "a value; it may not be missing")
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
