"""The serving bundle: a folder with `serving.json` and the model files that training exported.

The bundle is the only thing that a server knows of its model. It is checked completely before anything is
loaded: every stated file is compared with its SHA-256, and a path that leaves the folder is refused, so a
bundle that was tampered with, half-copied or written by another format version never serves.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving.runtime.engines.engine import TensorSpec
from serving.runtime.manifest import (
    COMBINATIONS,
    FORMATS,
    REMEDY,
    Cache,
    Document,
    Form,
    Input,
    Transformation,
    View,
    cache_of,
    form_of,
    input_of,
    tensor_of,
    transformation_of,
    view_of,
)
from windlass.errors import UsageError

__all__ = ["Bundle", "Form", "Input", "Member", "Transformation", "View", "load"]

Read = Callable[[Path], bytes]

FORMAT_VERSION = 1
DOCUMENT = "serving.json"
ENTITY_TYPES = ("string", "int64", "int32")
MOST_LEVELS = 3
"""How deep fallbacks and members may lie in each other."""


@dataclass(frozen=True)
class Member:
    """One model of an ensemble."""

    bundle: Bundle
    weight: float


@dataclass(frozen=True)
class Bundle:
    """A checked `serving.json`; `folder` is absolute.

    Attributes:
        model_file: the preferred form's file; empty for an ensemble.
        pickle: whether one of the files is a pickle.
        forms: the fastest faithful one first.
        inputs: of a model of rows; empty for a model of tensors.
        tensor_inputs, tensor_outputs: what an engine takes and gives; for a model of rows one `features`
            [N, len(inputs)], and `output` of [N], or of [N, len(classes)] for more than two classes.
        static_answer: one number for each column of the output; None where nothing is stated.
    """

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
    forms: tuple[Form, ...]
    pickle: bool
    tensor_inputs: tuple[TensorSpec, ...]
    tensor_outputs: tuple[TensorSpec, ...]
    classes: tuple[str, ...] = ()
    transformations: tuple[Transformation, ...] = ()
    fallback: Bundle | None = None
    static_answer: tuple[float, ...] | None = None
    members: tuple[Member, ...] = ()
    combine: str = "mean"
    cache: Cache | None = None

    @property
    def title(self) -> str:
        """Model and version, for messages."""
        return f"model {self.model} version {self.version}"

    def read(self, name: str) -> bytes:
        """Return a file's bytes, the very ones whose digest was compared.

        Raises:
            UsageError: the file is missing, lies outside the bundle, or is not the file that was registered.
        """
        if name not in self.sha256:
            raise UsageError(f"serving bundle {self.folder}: sha256 has no digest of {name!r}; {REMEDY}")
        return _read_verified(self.folder, name, self.sha256)

    @contextmanager
    def extracted(self, name: str) -> Iterator[Path]:
        """Yield a private copy of a file or folder, made of verified bytes, for a library that reads paths only.

        The copy is removed at the end; a file of the folder whose digest is not stated is not in it.
        """
        files = [n for n in self.sha256 if n == name or n.startswith(f"{name}/")]
        with tempfile.TemporaryDirectory(prefix="windlass-") as place:
            for file in files:
                target = Path(place, file)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(self.read(file))
            yield Path(place, name)


def load(folder: Path, read: Read = Path.read_bytes) -> Bundle:
    """Read and check the bundle in `folder`, every stated file, fallback and member included.

    Args:
        read: what reads the documents; that of `trust.verify.Report` gives those alone that were verified.

    Raises:
        UsageError: something is missing, contradicts itself or does not match its digest.
    """
    return _load(folder.resolve(), MOST_LEVELS, read)


def _load(folder: Path, levels: int, read: Read) -> Bundle:
    path = folder / DOCUMENT
    try:
        document = json.loads(read(path))
    except FileNotFoundError:
        text = f"no serving bundle in {folder}: {DOCUMENT} is missing; train a version, or give its folder"
        raise UsageError(text) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"cannot read the serving bundle {path}: {error}; {REMEDY}") from error
    bundle = _parse(folder, Document(path, document), levels, read)
    for name in bundle.sha256:
        _read_verified(folder, name, bundle.sha256)
    return bundle


def _parse(folder: Path, doc: Document, levels: int, read: Read) -> Bundle:
    version = doc.take("format_version", int, "a number")
    if version != FORMAT_VERSION:
        raise doc.error("format_version", f"is {version}, this server reads {FORMAT_VERSION}")
    of_rows = "tensors" not in doc
    entities = doc.texts("entities", required=of_rows)
    types = doc.take("entity_types", dict, "an object", {})
    for entity, kind in types.items():
        if entity not in entities or kind not in ENTITY_TYPES:
            raise doc.error(f"entity_types.{entity}", f"is {kind!r}; known are {ENTITY_TYPES} of {entities}")
    views = tuple(view_of(v, entities) for v in doc.objects("views", required=of_rows))
    transformations = tuple(transformation_of(t) for t in doc.objects("transformations", required=False))
    inputs = tuple(input_of(i, views, transformations) for i in doc.objects("inputs", required=of_rows))
    classes = doc.texts("classes", required=False)
    tensor_inputs, tensor_outputs = _tensors(doc, inputs, classes)
    forms = _forms(doc)
    bundle = Bundle(
        folder=folder,
        model=doc.text("model"),
        version=doc.text("version"),
        model_file=forms[0].file,
        sha256=doc.take("sha256", dict, "an object of digests", {} if not forms[0].file else ...),
        feature_service=doc.text("feature_service", ""),
        feast_project=doc.text("feast_project", None if of_rows else ""),
        entities=entities,
        entity_types={e: types.get(e, "string") for e in entities},
        views=views,
        inputs=inputs,
        output=tensor_outputs[0].name,
        forms=forms,
        pickle=doc.take("pickle", bool, "true or false", False),
        tensor_inputs=tensor_inputs,
        tensor_outputs=tensor_outputs,
        classes=classes,
        transformations=transformations,
        fallback=_nested(folder, doc.text("fallback"), levels, read) if "fallback" in doc else None,
        static_answer=_static_answer(doc),
        members=tuple(
            Member(_nested(folder, m.text("folder"), levels, read), m.number("weight", 1.0))
            for m in doc.objects("members", required=False)
        ),
        combine=doc.text("combine", "mean"),
        cache=cache_of(doc.object("cache"), {i.name: i for i in inputs}) if "cache" in doc else None,
    )
    _check(doc, bundle)
    return bundle


def _tensors(
    doc: Document, inputs: tuple[Input, ...], classes: tuple[str, ...]
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    if "tensors" in doc:
        tensors = doc.object("tensors")
        taken = tuple(tensor_of(t) for t in tensors.objects("inputs"))
        given = tuple(tensor_of(t) for t in tensors.objects("outputs"))
        for field, specs in (("inputs", taken), ("outputs", given)):
            if not specs or len({s.name for s in specs}) != len(specs):
                raise tensors.error(field, "are empty or name a tensor twice")
        if inputs:
            raise doc.error("inputs", "stand beside tensors; a model takes rows or tensors")
        return taken, given
    if not inputs or len({i.name for i in inputs}) != len(inputs):
        raise doc.error("inputs", "are empty or name an input twice")
    shape = (-1, len(classes)) if len(classes) > 2 else (-1,)
    return (TensorSpec("features", "FP32", (-1, len(inputs))),), (
        TensorSpec(doc.text("output"), "FP32", shape),
    )


def _forms(doc: Document) -> tuple[Form, ...]:
    model_format = doc.text("model_format")
    if model_format not in FORMATS:
        raise doc.error("model_format", f"is {model_format!r}, this server runs {', '.join(FORMATS)}")
    first = Form(model_format, doc.text("model_file", "" if model_format == "ensemble" else None))
    forms = tuple(form_of(f) for f in doc.objects("forms", required=False)) or (first,)
    if (forms[0].format, forms[0].file) != (first.format, first.file):
        raise doc.error("model_file and model_format", f"are not those of the first form, {forms[0].file!r}")
    return forms


def _static_answer(doc: Document) -> tuple[float, ...] | None:
    if "static_answer" not in doc:
        return None
    stated = doc.take("static_answer", (int, float, list), "a number or a list of numbers")
    values = stated if isinstance(stated, list) else [stated]
    if not values or any(type(v) not in (int, float) for v in values):
        raise doc.error("static_answer", f"is {stated!r}, expected a number or a list of numbers")
    return tuple(float(v) for v in values)


def _check(doc: Document, bundle: Bundle) -> None:
    if len({v.name for v in bundle.views}) != len(bundle.views):
        raise doc.error("views", "name a view twice")
    features = [f for v in bundle.views for f in v.features]
    if bundle.transformations and len(set(features)) != len(features):
        raise doc.error("transformations", "take features by name, and two views hold one of the same name")
    for name in (*(f.file for f in bundle.forms if f.file), *(t.file for t in bundle.transformations)):
        if not any(n == name or n.startswith(f"{name}/") for n in bundle.sha256):
            raise doc.error("sha256", f"has no digest of {name!r}")
    for name in (bundle.model, bundle.version):
        # both become part of request paths and of response headers
        if not all(c.isascii() and (c.isalnum() or c in "._-") for c in name):
            raise doc.error("model and version", f"take letters, digits, '.', '_' and '-', got {name!r}")
    columns = bundle.tensor_outputs[0].shape[1:]
    if bundle.static_answer is not None and len(bundle.static_answer) != (columns[0] if columns else 1):
        raise doc.error(
            "static_answer", f"has {len(bundle.static_answer)} numbers for an output of {columns}"
        )
    if bundle.fallback is not None and _named(bundle.fallback) != _named(bundle):
        raise doc.error("fallback", "has other inputs or outputs than this model")
    if bundle.combine not in COMBINATIONS:
        raise doc.error("combine", f"is {bundle.combine!r}, known are {', '.join(COMBINATIONS)}")
    if bool(bundle.members) != (bundle.forms[0].format == "ensemble"):
        raise doc.error("members", "go with model_format 'ensemble', and it with them")
    if bundle.combine in ("median", "max", "min") and len({m.weight for m in bundle.members}) > 1:
        raise doc.error("members", f"have different weights, which {bundle.combine!r} does not know")
    categories = {i.name: i.categories for i in bundle.inputs}
    for member in bundle.members:
        inner = member.bundle
        if any(i.name not in categories or i.categories != categories[i.name] for i in inner.inputs):
            raise doc.error("members", f"{inner.title} takes an input that is not among this model's")
        if not inner.inputs or inner.tensor_outputs[0].shape != bundle.tensor_outputs[0].shape:
            raise doc.error("members", f"{inner.title} gives another output than this model")


def _named(bundle: Bundle) -> tuple[object, ...]:
    rows = tuple((i.name, i.categories) for i in bundle.inputs)
    return rows, bundle.tensor_inputs, tuple(s.shape for s in bundle.tensor_outputs)


def _nested(folder: Path, name: str, levels: int, read: Read) -> Bundle:
    inner = (folder / name).resolve()
    if not inner.is_relative_to(folder) or inner == folder:
        raise UsageError(f"serving bundle {folder}: {name!r} lies outside the bundle's folder; {REMEDY}")
    if levels <= 1:
        raise UsageError(
            f"serving bundle {folder}: {name!r} lies deeper than {MOST_LEVELS} bundles; make it flatter"
        )
    return _load(inner, levels - 1, read)


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
