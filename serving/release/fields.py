"""How a field of a dataclass stands in a document: one statement from which reading, writing and the schema follow.

`text()`, `integer()` and the others make dataclass fields; `read` turns a document's mapping into an instance and notes
every problem with its path, `write` is the inverse, and `schema.py` makes the JSON schema of a custom resource of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

from serving.release import durations
from serving.release.reading import Reader

T = TypeVar("T")

Kind = Literal[
    "text", "choice", "integer", "number", "percent", "flag", "duration", "object", "list", "texts", "any"
]


@dataclass(frozen=True)
class Form:
    """How one field stands in the document.

    Attributes:
        doc: what it means, for the schema.
        low, high: of a whole number inclusive, of a number exclusive; a percentage is below `high`.
        of: class of the mapping or of the list's items.
    """

    kind: Kind
    doc: str
    remedy: str = ""
    low: float | None = None
    high: float | None = None
    options: tuple[str, ...] = ()
    of: type | None = None
    example: Any = None


def text(doc: str, *, default: Any = MISSING, remedy: str = "give a text") -> Any:
    return _field(Form("text", doc, remedy), default)


def texts(doc: str, *, default: Any = MISSING, remedy: str) -> Any:
    """A list of texts, a tuple in the instance."""
    return _field(Form("texts", doc, remedy), default)


def choice(options: tuple[str, ...], doc: str, *, default: Any = MISSING) -> Any:
    return _field(Form("choice", doc, options=options), default)


def integer(low: int, high: int | None, doc: str, *, default: Any = MISSING) -> Any:
    return _field(Form("integer", doc, low=low, high=high), default)


def number(low: float, high: float, doc: str, *, default: Any = MISSING, remedy: str) -> Any:
    """A number strictly between `low` and `high`."""
    return _field(Form("number", doc, remedy, low=low, high=high), default)


def percent(doc: str, *, default: Any = MISSING, remedy: str, below: float = 100) -> Any:
    """A percentage in the document, a share in the instance."""
    return _field(Form("percent", doc, remedy, low=0, high=below), default)


def flag(doc: str, *, default: bool = False) -> Any:
    return _field(Form("flag", doc), default)


def duration(doc: str, *, default: Any = MISSING) -> Any:
    return _field(Form("duration", doc), default)


def nested(of: type, doc: str, *, default: Any = MISSING) -> Any:
    """A mapping with fields of its own."""
    return _field(Form("object", doc, of=of), default)


def many(of: type, doc: str, *, default: Any = MISSING, remedy: str) -> Any:
    """A list of mappings, a tuple of instances; empty is a problem unless there is a default."""
    return _field(Form("list", doc, remedy, of=of), default)


def anything(doc: str, *, default: Any = MISSING) -> Any:
    """Whatever the document has; the caller looks at it."""
    return _field(Form("any", doc), default)


def _field(form: Form, default: Any) -> Any:
    if default is MISSING:
        return dataclasses.field(metadata={"form": form})
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata={"form": form})
    return dataclasses.field(default=default, metadata={"form": form})


def forms(of: type) -> dict[str, tuple[dataclasses.Field[Any], Form]]:
    """Fields of a dataclass by their name in the document, those without a form left out."""
    return {
        document_name(field.name): (field, field.metadata["form"])
        for field in dataclasses.fields(of)
        if "form" in field.metadata
    }


def document_name(name: str) -> str:
    """`min_samples` -> `minSamples`."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def read(
    of: type[T], reader: Reader, *, without: Collection[str] = (), known: Collection[str] = ()
) -> T | None:
    """Read an instance; None where a problem was noted.

    Args:
        without: fields, by their names in the document, that have no place here: they are reported as unknown.
        known: further names that are no problem.
    """
    before = reader.problems
    values: dict[str, Any] = {}
    for name, (field, form) in forms(of).items():
        if name in without:
            continue
        if not reader.has(name) and default_of(field) is not MISSING:
            reader.raw(name)
            continue
        values[field.name] = _value(form, name, reader)
    reader.finish(known=tuple(known))
    return of(**values) if reader.problems == before else None


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The field's default, MISSING where it must be stated."""
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def _value(form: Form, name: str, reader: Reader) -> Any:
    if form.kind == "text":
        return reader.text(name, remedy=form.remedy)
    if form.kind == "texts":
        return reader.texts(name, remedy=form.remedy)
    if form.kind == "choice":
        return reader.choice(name, form.options)
    if form.kind == "integer":
        return reader.integer(name, int(form.low or 0), None if form.high is None else int(form.high))
    if form.kind == "number":
        return reader.number(name, float(form.low or 0), float(form.high or 0), remedy=form.remedy)
    if form.kind == "percent":
        return reader.percent(name, remedy=form.remedy, below=form.high or 100)
    if form.kind == "flag":
        return reader.flag(name)
    if form.kind == "duration":
        return reader.duration(name)
    if form.kind == "object":
        return read(_class(form), reader.child(name))
    if form.kind == "list":
        return tuple(read(_class(form), child) for child in reader.children(name, form.remedy))
    return reader.raw(name)


def _class(form: Form) -> type:
    assert form.of is not None  # noqa: S101 - `nested` and `many` set it
    return form.of


def write(instance: Any, *, without: Collection[str] = ()) -> dict[str, Any]:
    """The mapping that `read` reads back as the same instance; what is absent by default is left out."""
    written: dict[str, Any] = {}
    for name, (field, form) in forms(type(instance)).items():
        value = getattr(instance, field.name)
        if (
            name in without
            or value is None
            or (value == default_of(field) and form.kind in _ABSENT_BY_DEFAULT)
        ):
            continue
        written[name] = _written(form, value)
    return written


#: Kinds whose default stands for "there is none"; the others are written out, so that a document says what it does.
_ABSENT_BY_DEFAULT = ("object", "list", "texts", "any")


def _written(form: Form, value: Any) -> Any:
    if form.kind == "percent":
        # ten digits are far below any bound's meaning, and make percent -> share -> percent the identity
        return round(value * 100, 10)
    if form.kind == "duration":
        return durations.format(value) if isinstance(value, timedelta) else value
    if form.kind == "object":
        return write(value)
    if form.kind == "list":
        return [write(item) for item in value]
    if form.kind == "texts":
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value
