"""The parts of `serving.json` (docs/serving-bundle.md), each with its reader; `bundle` puts them together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.runtime.engines.engine import DTYPES, TensorSpec
from windlass.errors import UsageError

REMEDY = "register the version again"
FORMATS = (
    "onnx",
    "xgboost",
    "lightgbm",
    "tl2cgen",
    "skops",
    "litert",
    "keras",
    "pyfunc",
    "ensemble",
)
COMBINATIONS = ("mean", "median", "max", "min", "sum")
CACHE_ENTRIES = 100_000
NUMBER = (int, float)


class Document:
    """A JSON object read with messages that name the file and the field."""

    def __init__(self, path: Path, content: Any, at: str = "") -> None:
        self._path = path
        self._at = at
        if not isinstance(content, dict):
            raise UsageError(f"serving bundle {path}: {at or 'the document'} is not an object; {REMEDY}")
        self._content = content

    def __contains__(self, key: str) -> bool:
        return self._content.get(key) is not None

    def error(self, field: str, problem: str) -> UsageError:
        return UsageError(f"serving bundle {self._path}: {self._at}{field} {problem}; {REMEDY}")

    def take(self, key: str, kind: type | tuple[type, ...], expected: str, default: Any = ...) -> Any:
        value = self._content.get(key, default)
        if value is ...:
            raise self.error(key, "is missing")
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise self.error(key, f"is {value!r}, expected {expected}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value: str = self.take(key, str, "a text", ... if default is None else default)
        if not value and default is None:
            raise self.error(key, "is empty")
        return value

    def number(self, key: str, default: Any = ...) -> float:
        value = float(self.take(key, NUMBER, "a number", default))
        if not math.isfinite(value):
            raise self.error(key, f"is {value}, expected a finite number")
        return value

    def texts(self, key: str, *, required: bool = True) -> tuple[str, ...]:
        values = self.take(key, list, "a list of texts", ... if required else [])
        if any(not isinstance(v, str) for v in values):
            raise self.error(key, "is not a list of texts")
        if len(set(values)) != len(values):
            raise self.error(key, f"names something twice: {values}")
        return tuple(values)

    def object(self, key: str) -> Document:
        return Document(self._path, self.take(key, dict, "an object"), f"{self._at}{key}.")

    def objects(self, key: str, *, required: bool = True) -> list[Document]:
        values = self.take(key, list, "a list of objects", ... if required else [])
        return [Document(self._path, v, f"{self._at}{key}[{i}].") for i, v in enumerate(values)]


@dataclass(frozen=True)
class View:
    """A feature view as the online store holds it.

    Attributes:
        ttl_seconds: age above which a row counts as expired; 0 never expires, as in Feast.
    """

    name: str
    entity: str
    ttl_seconds: float
    features: tuple[str, ...]


@dataclass(frozen=True)
class Input:
    """One input of the model, in the model's order.

    Attributes:
        view: the view that holds it; None where the caller sends it, or a transformation makes it.
        categories: for a string, the values whose position the model takes.
        default: the training default; NaN where there is none.
        missing: whether NaN is a value that the model takes; where not, a null is refused.
        transformation: the transformation that makes it, None where none does.
    """

    name: str
    view: str | None
    categories: tuple[str, ...] | None
    default: float
    missing: bool = True
    transformation: str | None = None


@dataclass(frozen=True)
class Transformation:
    """Python that makes inputs out of features and request fields: `dict[str, list] -> dict[str, list]`."""

    name: str
    file: str
    function: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Parity:
    """How far a form is from the library's own prediction on real rows.

    Attributes:
        rows: how many rows were compared.
        max_difference, bound: in units of the model's output.
    """

    rows: int
    max_difference: float
    bound: float
    holds: bool


@dataclass(frozen=True)
class Form:
    """One way to run the model.

    Attributes:
        format: one of `FORMATS`.
        file: its file, or folder ("pyfunc"), in the bundle; empty for an ensemble.
        single_row_us: median microseconds of one row on one thread, where the bundle was made.
        parity: None where the bundle states none (the only form, or written by hand).
        trusted: types outside scikit-learn's own that a skops file may hold.
    """

    format: str
    file: str
    size_bytes: int | None = None
    single_row_us: float | None = None
    parity: Parity | None = None
    trusted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cache:
    """Same inputs, same answer, for `ttl_seconds`; `keys` are the inputs that tell two questions apart."""

    ttl_seconds: float
    keys: tuple[str, ...]
    entries: int


def view_of(doc: Document, entities: tuple[str, ...]) -> View:
    view = View(doc.text("name"), doc.text("entity"), doc.number("ttl_seconds"), doc.texts("features"))
    if view.entity not in entities:
        raise doc.error(f"view {view.name!r}", f"is about {view.entity!r}, not among the entities {entities}")
    return view


def input_of(doc: Document, views: tuple[View, ...], transformations: tuple[Transformation, ...]) -> Input:
    name = doc.text("name")
    view = doc.take("view", (str, type(None)), "a view's name or null", None)
    transformation = doc.take("transformation", (str, type(None)), "a transformation's name or null", None)
    categories = doc.texts("categories") if "categories" in doc else None
    default = doc.take("default", (*NUMBER, str, type(None)), "a number or null", None)
    if isinstance(default, str):
        if categories is None or default not in categories:
            raise doc.error(f"default of {name!r}", f"is {default!r}, which is not among its categories")
        default = categories.index(default)
    if view is not None and not any(v.name == view and name in v.features for v in views):
        raise doc.error(f"input {name!r}", f"comes from view {view!r}, which has no such feature")
    made_by = [t.name for t in transformations if name in t.outputs]
    if ([] if transformation is None else [transformation]) != made_by or (made_by and view is not None):
        raise doc.error(
            f"input {name!r}", f"states the transformation {transformation!r}, and is made by {made_by}"
        )
    return Input(
        name,
        view,
        categories,
        math.nan if default is None else float(default),
        doc.take("missing", bool, "true or false", True),
        transformation,
    )


def transformation_of(doc: Document) -> Transformation:
    return Transformation(
        doc.text("name"), doc.text("file"), doc.text("function"), doc.texts("inputs"), doc.texts("outputs")
    )


def form_of(doc: Document) -> Form:
    known = doc.text("format")
    if known not in FORMATS:
        raise doc.error("format", f"is {known!r}, known are {', '.join(FORMATS)}")
    parity = None
    if "parity" in doc:
        stated = doc.object("parity")
        parity = Parity(
            int(stated.number("rows")),
            stated.number("max_difference"),
            stated.number("bound"),
            stated.take("holds", bool, "true or false"),
        )
    return Form(
        format=known,
        file=doc.text("file", "" if known == "ensemble" else None),
        size_bytes=int(doc.number("size_bytes")) if "size_bytes" in doc else None,
        single_row_us=doc.number("single_row_us") if "single_row_us" in doc else None,
        parity=parity,
        trusted=doc.texts("trusted", required=False),
    )


def tensor_of(doc: Document) -> TensorSpec:
    datatype = doc.text("datatype")
    if datatype not in DTYPES:
        raise doc.error("datatype", f"is {datatype!r}, known are {', '.join(DTYPES)}")
    shape = doc.take("shape", list, "a list of integers")
    if not shape or shape[0] != -1 or any(type(n) is not int or n == 0 or n < -1 for n in shape):
        raise doc.error("shape", f"is {shape}, expected -1 for the rows and then -1 or a length each")
    return TensorSpec(doc.text("name"), datatype, tuple(shape))


def cache_of(doc: Document, inputs: Mapping[str, Any]) -> Cache:
    cache = Cache(
        doc.number("ttl_seconds"),
        doc.texts("keys"),
        int(doc.number("entries", CACHE_ENTRIES)),
    )
    unknown = [k for k in cache.keys if k not in inputs]
    if unknown:
        raise doc.error("keys", f"names {unknown[0]!r}, which is no input")
    if cache.ttl_seconds <= 0 or cache.entries <= 0 or not cache.keys:
        raise doc.error("ttl_seconds, entries and keys", "are empty or not positive")
    return cache
