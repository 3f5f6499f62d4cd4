"""A bundle's on-demand transformations: made from the bundle's verified bytes, and from nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serving.runtime.bundle import Bundle
from windlass.features.ondemand import Code, OnDemand


class Transformations:
    """All transformations of one bundle.

    Raises:
        UsageError: a file is not what was registered, or not a transformation that a server can run.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._all = [
            OnDemand(Code(t.name, t.file, t.function, t.inputs, t.outputs, bundle.read(t.file)))
            for t in bundle.transformations
        ]

    def apply(self, columns: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
        """Return the outputs of all, a value for each row.

        Args:
            columns: features and request fields by name, as the model takes them; one value for each row.

        Raises:
            WindlassError: a function failed; names the transformation.
        """
        made: dict[str, list[float]] = {}
        for transformation in self._all:
            made |= transformation.apply(columns)
        return made
