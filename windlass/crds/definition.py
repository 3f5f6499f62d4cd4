"""A CustomResourceDefinition: names, columns and one version around a schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from serving.release.spec import API_VERSION

GROUP, VERSION = API_VERSION.split("/")


@dataclass(frozen=True)
class Column:
    """A column of `kubectl get`.

    Attributes:
        wide: shown with `-o wide` only.
    """

    name: str
    path: str
    type: str = "string"
    wide: bool = False
    doc: str = ""

    def written(self) -> dict[str, Any]:
        found: dict[str, Any] = {"name": self.name, "type": self.type, "jsonPath": self.path}
        if self.doc:
            found["description"] = self.doc
        return {**found, "priority": 1} if self.wide else found


AGE = Column("Age", ".metadata.creationTimestamp", "date")


@dataclass(frozen=True)
class Names:
    kind: str
    plural: str
    short: str

    @property
    def resource(self) -> str:
        """The definition's own name."""
        return f"{self.plural}.{GROUP}"


def definition(
    names: Names, schema: dict[str, Any], columns: Sequence[Column], *, with_status: bool = True
) -> dict[str, Any]:
    """The definition of a namespaced kind with one version, which is stored."""
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "additionalPrinterColumns": [column.written() for column in columns],
    }
    if with_status:
        version["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": names.resource,
            "labels": {"app.kubernetes.io/name": "windlass", "app.kubernetes.io/component": "crd"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.kind,
                "listKind": f"{names.kind}List",
                "plural": names.plural,
                "singular": names.kind.lower(),
                "shortNames": [names.short],
                "categories": ["windlass"],
            },
            "versions": [version],
        },
    }


def root(description: str, spec: dict[str, Any], status: dict[str, Any] | None = None) -> dict[str, Any]:
    """Schema of a whole object: type and metadata are the API server's own."""
    properties: dict[str, Any] = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": spec,
    }
    if status is not None:
        properties["status"] = status
    return {"type": "object", "description": description, "required": ["spec"], "properties": properties}
