"""The definition of ReleaseJournal: where the operator writes a release down; nobody else needs to."""

from __future__ import annotations

from typing import Any

from windlass.crds.definition import AGE, Column, Names, definition, root

NAMES = Names("ReleaseJournal", "releasejournals", "reljournal")

COLUMNS = (
    Column("Model", ".spec.model"),
    Column("Release", ".spec.release"),
    Column("Number", ".spec.number", "integer"),
    Column("Part", ".spec.part", "integer"),
    AGE,
)


def crd() -> dict[str, Any]:
    """The whole definition."""
    spec = {
        "type": "object",
        "required": ["model"],
        "properties": {
            "model": {"type": "string", "minLength": 1, "maxLength": 253},
            "release": {"type": "string", "maxLength": 253},
            "number": {
                "type": "integer",
                "format": "int64",
                "minimum": 0,
                "description": "of the release among its model's, rising in the order of their starts",
            },
            "part": {
                "type": "integer",
                "format": "int64",
                "minimum": 0,
                "description": "of the journal, which is written in several objects once it is long",
            },
            "records": {
                "type": "array",
                "description": "JSON texts, pieces of them, or many packed together; the oldest first",
                "items": {"type": "string"},
                "x-kubernetes-list-type": "atomic",
            },
            "writer": {"type": "string", "description": "the process that adds to it"},
            "full": {"type": "boolean", "description": "nothing is added to it any more"},
            "queue": {
                "type": "object",
                "description": "of a release that waits for its turn: since when, and its document",
                "x-kubernetes-preserve-unknown-fields": True,
                "properties": {
                    "at": {"type": "string"},
                    "document": {"type": "string", "description": "JSON"},
                },
            },
        },
        "x-kubernetes-preserve-unknown-fields": True,
    }
    whole = root(
        "The journal of a release: every look, decision and change of traffic. The operator's.", spec
    )
    return definition(NAMES, whole, COLUMNS, with_status=False)
