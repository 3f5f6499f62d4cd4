"""Feast's registry as a file that several jobs share; `store` names it in Feast's configuration.

Feast's own truncates the file and writes it again: a job that is killed meanwhile leaves an empty registry, which it
reads as one without views, and each later run fails. It also keeps every span that was ever materialized.
"""

from __future__ import annotations

from typing import Any

from windlass import atomic
from windlass.features import feast_import

# Feast loads this module by its name, but whoever comes first must come by the door
feast_import.load()
# ruff: noqa: E402 - which is why imports follow

from feast.infra.registry.file import FileRegistryStore

#: Of each view; an hourly job would add nine thousand a year, and nobody here asks for them.
SPANS = 48


class AtomicFileRegistryStore(FileRegistryStore):  # type: ignore[misc]
    """As Feast's own, written whole or not at all, and bounded."""

    def _write_registry(self, registry_proto: Any) -> None:
        import uuid
        from datetime import UTC, datetime

        for view in registry_proto.feature_views:
            del view.meta.materialization_intervals[:-SPANS]
        registry_proto.version_id = str(uuid.uuid4())
        registry_proto.last_updated.FromDatetime(datetime.now(UTC))
        atomic.write_bytes(self._filepath, registry_proto.SerializeToString())
