"""The serving bundle: a folder with `serving.json` and the model file that training exported.

The bundle is the only thing that a server knows of its model. It is checked completely before anything is
loaded: every stated file is compared with its SHA-256, and a path that leaves the folder is refused, so a
bundle that was tampered with, half-copied or written by another format version never serves.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windlass.errors import UsageError

FORMAT_VERSION = 1
REMEDY = "register the version again"
DOCUMENT = "serving.json"
ENTITY_TYPES = ("string", "int64", "int32")


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
        view: the view that holds it; None where the caller sends it.
        categories: for a string, the values whose position the model takes.
        default: the training default; NaN where there is none.
    """

    name: str
    view: str | None
    categories: tuple[str, ...] | None
    default: float


@dataclass(frozen=True)
class Bundle:
    """A checked `serving.json`; `folder` is absolute."""

    folder: Path
    model: str
    version: str
    model_file: str
    sha256: Mapping[str, str]
    feature_service: str
    feast_project: str
    entities: tuple[str, ...]
    entity_types: Mapping[str, str]
    views: tuple[View, ...]
    inputs: tuple[Input, ...]
    output: str

    def read_model(self) -> bytes:
        """Return the model's bytes, the very ones whose digest was compared.

        Raises:
            UsageError: the file is missing, lies outside the bundle, or is not the file that was registered.
        """
        return _read_verified(self.folder, self.model_file, self.sha256)


def load(folder: Path) -> Bundle:
    """Read and check the bundle in `folder`, every stated file included.

    Raises:
        UsageError: something is missing, contradicts itself or does not match its digest.
    """
    folder = folder.resolve()
    path = folder / DOCUMENT
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        text = f"no serving bundle in {folder}: {DOCUMENT} is missing; train a version, or give its folder"
        raise UsageError(text) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the serving bundle {path}: {error}; {REMEDY}") from error
    bundle = _parse(folder, _Document(path, document))
    for name in bundle.sha256:
        _read_verified(folder, name, bundle.sha256)
    return bundle


class _Document:
    """A JSON object read with messages that name the file and the field."""

    def __init__(self, path: Path, content: Any, at: str = "") -> None:
        self._path = path
        self._at = at
        if not isinstance(content, dict):
            raise self.error(at or "the document", "is not an object")
        self._content = content

    def error(self, field: str, problem: str) -> UsageError:
        return UsageError(f"serving bundle {self._path}: {field} {problem}; {REMEDY}")

    def take(self, key: str, kind: type | tuple[type, ...], expected: str, default: Any = ...) -> Any:
        value = self._content.get(key, default)
        if value is ...:
            raise self.error(self._at + key, "is missing")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(self._at + key, f"is {value!r}, expected {expected}")
        return value

    def text(self, key: str) -> str:
        value: str = self.take(key, str, "a text")
        if not value:
            raise self.error(self._at + key, "is empty")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        values = self.take(key, list, "a list of texts")
        if any(not isinstance(v, str) for v in values):
            raise self.error(self._at + key, "is not a list of texts")
        if len(set(values)) != len(values):
            raise self.error(self._at + key, f"names something twice: {values}")
        return tuple(values)

    def objects(self, key: str) -> list[_Document]:
        values = self.take(key, list, "a list of objects")
        return [_Document(self._path, v, f"{self._at}{key}[{i}].") for i, v in enumerate(values)]


def _parse(folder: Path, doc: _Document) -> Bundle:
    version = doc.take("format_version", int, "a number")
    if version != FORMAT_VERSION:
        raise doc.error("format_version", f"is {version}, this server reads {FORMAT_VERSION}")
    model_format = doc.text("model_format")
    if model_format != "onnx":
        raise doc.error("model_format", f"is {model_format!r}, this server runs 'onnx'")
    entities = doc.texts("entities")
    types = doc.take("entity_types", dict, "an object", {})
    for entity, kind in types.items():
        if entity not in entities or kind not in ENTITY_TYPES:
            raise doc.error(f"entity_types.{entity}", f"is {kind!r}; known are {ENTITY_TYPES} of {entities}")
    views = tuple(_view(v, entities) for v in doc.objects("views"))
    bundle = Bundle(
        folder=folder,
        model=doc.text("model"),
        version=doc.text("version"),
        model_file=doc.text("model_file"),
        sha256=doc.take("sha256", dict, "an object of digests"),
        feature_service=doc.take("feature_service", str, "a text", ""),
        feast_project=doc.text("feast_project"),
        entities=entities,
        entity_types={e: types.get(e, "string") for e in entities},
        views=views,
        inputs=tuple(_input(i, views) for i in doc.objects("inputs")),
        output=doc.text("output"),
    )
    if len({v.name for v in views}) != len(views):
        raise doc.error("views", "name a view twice")
    if not bundle.inputs or len({i.name for i in bundle.inputs}) != len(bundle.inputs):
        raise doc.error("inputs", "are empty or name an input twice")
    if bundle.model_file not in bundle.sha256:
        raise doc.error("sha256", f"has no digest of {bundle.model_file!r}")
    for name in (bundle.model, bundle.version):
        # both become part of request paths and of response headers
        if not all(c.isascii() and (c.isalnum() or c in "._-") for c in name):
            raise doc.error("model and version", f"take letters, digits, '.', '_' and '-', got {name!r}")
    return bundle


def _view(doc: _Document, entities: tuple[str, ...]) -> View:
    view = View(
        name=doc.text("name"),
        entity=doc.text("entity"),
        ttl_seconds=float(doc.take("ttl_seconds", (int, float), "seconds")),
        features=doc.texts("features"),
    )
    if view.entity not in entities:
        raise doc.error(f"view {view.name!r}", f"is about {view.entity!r}, not among the entities {entities}")
    return view


def _input(doc: _Document, views: tuple[View, ...]) -> Input:
    name = doc.text("name")
    view = doc.take("view", (str, type(None)), "a view's name or null", None)
    categories = None
    if doc.take("categories", (list, type(None)), "a list of texts or null", None) is not None:
        categories = doc.texts("categories")
    default = doc.take("default", (int, float, str, type(None)), "a number or null", None)
    if isinstance(default, str):
        if categories is None or default not in categories:
            raise doc.error(f"default of {name!r}", f"is {default!r}, which is not among its categories")
        default = categories.index(default)
    if view is not None and not any(v.name == view and name in v.features for v in views):
        raise doc.error(f"input {name!r}", f"comes from view {view!r}, which has no such feature")
    return Input(name, view, categories, math.nan if default is None else float(default))


def _read_verified(folder: Path, name: str, digests: Mapping[str, str]) -> bytes:
    path = (folder / name).resolve()
    # resolved first: a link inside the folder may point anywhere
    if not path.is_relative_to(folder):
        raise UsageError(f"serving bundle {folder}: {name!r} lies outside the bundle's folder; {REMEDY}")
    try:
        content = path.read_bytes()
    except OSError as error:
        text = f"serving bundle {folder}: cannot read {name!r}: {error.strerror}; {REMEDY}"
        raise UsageError(text) from error
    actual = hashlib.sha256(content).hexdigest()
    if actual != digests[name]:
        raise UsageError(
            f"serving bundle {folder}: {name!r} has SHA-256 {actual[:12]}…, registered was "
            f"{str(digests[name])[:12]}…; the file was changed after registration, {REMEDY}"
        )
    return content
