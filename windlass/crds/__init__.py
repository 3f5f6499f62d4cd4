"""Custom resources as an API server is told of them, generated from the classes that read the documents.

A definition refuses at once what `windlass release lint` refuses, as far as an API server can look: the structural
schema and its defaults are those of `serving.release.people.schema`, the CEL rules those of `serving.release.rules`.
What it cannot see (the registry, other releases) the operator says in the object's conditions.
"""
