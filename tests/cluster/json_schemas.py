"""JSON schemas for kubeconform, made of what Kubernetes and the projects around it publish in their Go modules.

Kubernetes' OpenAPI and the CRDs are laxer than the API server with fieldValidation=Strict: here an object that states
its fields has no others.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]

_GROUP_KIND = "x-kubernetes-group-version-kind"
_UNKNOWN_FIELDS = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING = "x-kubernetes-int-or-string"
_REFERENCE = "#/definitions/"
#: What kubeconform puts in the place of a kind: "deployment-apps-v1".
LOCATION = "{{ .ResourceKind }}{{ .KindSuffix }}.json"
#: A number is as good where a text is asked for: the API server reads `cpu: 1`.
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_OWN_RULES = ("pattern", "format")


class _Loader(yaml.CSafeLoader):
    """A plain "=" is a text: CRDs have it among their enums, and YAML 1.1 means something by it."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)


def of_kubernetes(swagger: Path, kinds: Iterable[str], target: Path) -> int:
    """Write a schema for each group and version of `kinds` that there is; the number of files.

    Args:
        swagger: Kubernetes' api/openapi-spec/swagger.json.
        target: an existing folder.
    """
    wanted = set(kinds)
    definitions: dict[str, Document] = json.loads(swagger.read_text())["definitions"]
    strict = {name: _strict(definition) for name, definition in definitions.items()}
    strict[_QUANTITY] = {"type": ["string", "number"]}
    count = 0
    for name, definition in definitions.items():
        for stated in definition.get(_GROUP_KIND, ()):
            if stated["kind"] not in wanted:
                continue
            needed = {key: strict[key] for key in sorted(_reached(strict, name))}
            schema = {"$ref": _REFERENCE + name, "definitions": needed}
            _write(target, stated["group"], stated["version"], stated["kind"], schema)
            count += 1
    return count


def of_definitions(files: Iterable[Path], target: Path) -> int:
    """Write a schema for each version of each CustomResourceDefinition in YAML files; the number of schemas."""
    count = 0
    for file in files:
        for found in yaml.load_all(file.read_text(), _Loader):
            if not found or found.get("kind") != "CustomResourceDefinition":
                continue
            spec = found["spec"]
            for version in spec["versions"]:
                schema = _strict(version["schema"]["openAPIV3Schema"])
                # every object may say these, whatever its definition says
                schema["properties"] |= {name: {"type": "string"} for name in ("apiVersion", "kind")}
                schema["properties"]["metadata"] = {"type": "object"}
                _write(target, spec["group"], version["name"], spec["names"]["kind"], schema)
                count += 1
    return count


def _write(target: Path, group: str, version: str, kind: str, schema: Document) -> None:
    parts = [kind.lower(), *([group.split(".")[0]] if group else []), version]
    (target / f"{'-'.join(parts)}.json").write_text(json.dumps(schema))


def _strict(schema: Mapping[str, Any]) -> Document:
    """The schema without what JSON Schema knows nothing of, objects closed."""
    found: Document = copy.deepcopy(dict(schema))
    _close(found)
    return found


def _close(schema: Document) -> None:
    if schema.get(_INT_OR_STRING) or schema.get("format") == "int-or-string":
        # its patterns are for the text alone
        schema.clear()
        schema["type"] = ["integer", "string"]
        return
    if schema.get("nullable") and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    # Go's patterns are not those of JSON Schema, and most formats are names of Go's types
    for name in _OWN_RULES:
        schema.pop(name, None)
    for under in schema.get("properties", {}).values():
        _close(under)
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            _close(schema[name])
    # what follows "allOf" adds rules to fields that stand above
    if "properties" in schema and "additionalProperties" not in schema and not schema.get(_UNKNOWN_FIELDS):
        schema["additionalProperties"] = False


def _reached(definitions: Mapping[str, Document], name: str) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        at = waiting.pop()
        if at not in found:
            found.add(at)
            waiting += _references(definitions[at])
    return found


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = value.get("$ref")
        here = [own.removeprefix(_REFERENCE)] if isinstance(own, str) else []
        return here + [name for under in value.values() for name in _references(under)]
    if isinstance(value, list):
        return [name for under in value for name in _references(under)]
    return []
