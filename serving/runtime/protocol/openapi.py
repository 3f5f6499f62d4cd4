"""The server's OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serving.runtime.contract import Contract
from serving.runtime.options import Options


def document(contracts: Sequence[Contract], options: Options) -> dict[str, Any]:
    """Describe every path that this server answers."""
    return {"openapi": "3.1.0", "info": {"title": "Windlass", "version": "1"}, "paths": {}}


def page(contracts: Sequence[Contract], options: Options) -> bytes:
    """The same for a person to read."""
    return b"<!doctype html><title>Windlass</title>"
