"""Reads KServe's custom resources into the classes of KServe's own Python package, and writes them out again.

Standard input has a JSON list of documents. For each, standard output has `unknown`, the paths that its class does not
have, and `document`, what KServe's client would send for the object that it became. A field that is missing or has a
value that its class refuses is an error of the class, and ends all.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import kserve
import kserve.models
import kubernetes.client.models

CLASSES = {
    "InferenceService": "V1beta1InferenceService",
    "ClusterServingRuntime": "V1alpha1ClusterServingRuntime",
    "InferenceGraph": "V1alpha1InferenceGraph",
    "ClusterStorageContainer": "V1alpha1ClusterStorageContainer",
}
SEVERAL = re.compile(r"(?:list|List)\[(.+)\]")
NAMED = re.compile(r"(?:dict\(|Dict\[)[^,]+, (.+)[)\]]")


def class_of(name: str) -> type | None:
    """The class of that name; None of a plain value."""
    for module in (kserve.models, kubernetes.client.models):
        if hasattr(module, name):
            found: type = getattr(module, name)
            return found
    return None


def made(value: Any, kind: str, path: str, unknown: list[str]) -> Any:
    kind = kind.removeprefix("Optional[").removesuffix("]") if kind.startswith("Optional[") else kind
    if several := SEVERAL.fullmatch(kind):
        return [made(item, several[1], f"{path}[{i}]", unknown) for i, item in enumerate(value)]
    if named := NAMED.fullmatch(kind):
        return {key: made(item, named[1], f"{path}.{key}", unknown) for key, item in value.items()}
    cls = class_of(kind)
    if cls is None or not isinstance(value, dict):
        return value
    fields = {document: name for name, document in cls.attribute_map.items()}
    unknown += [f"{path}.{key}" for key in value if key not in fields]
    return cls(
        **{
            fields[key]: made(item, cls.openapi_types[fields[key]], f"{path}.{key}", unknown)
            for key, item in value.items()
            if key in fields
        }
    )


def main() -> None:
    client = kserve.ApiClient()
    answers = []
    for document in json.load(sys.stdin):
        unknown: list[str] = []
        read = made(document, CLASSES[document["kind"]], document["kind"], unknown)
        answers.append({"unknown": unknown, "document": client.sanitize_for_serialization(read)})
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
