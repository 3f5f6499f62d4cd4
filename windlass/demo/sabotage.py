"""The saboteur: a model server whose artifact is good and whose serving is not.

It runs in a process of its own, started in place of the plain server for versions that the story sabotages. The
release engine, the monitors and the gates see a version like any other: nothing of this is written into the
registry, the bundle or the release.

    python -m windlass.demo.sabotage FAULT:SEED <arguments of serving.runtime>
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from windlass.errors import UsageError


class Reader(Protocol):
    def read(self, entities: Mapping[str, str], now: float) -> list[float]: ...


class PermutedColumns:
    """The values of the store, in another order than the model was trained with."""

    def __init__(self, reader: Reader, bundle: Any, draw: random.Random) -> None:
        self._reader = reader
        self._order = list(range(sum(len(v.features) for v in bundle.views)))
        while all(i == j for i, j in enumerate(self._order)):
            draw.shuffle(self._order)

    def read(self, entities: Mapping[str, str], now: float) -> list[float]:
        values = self._reader.read(entities, now)
        return [values[i] for i in self._order]


class StaleValues:
    """The first values ever seen for an entity, for ever."""

    def __init__(self, reader: Reader, bundle: Any, draw: random.Random) -> None:
        self._reader = reader
        self._seen: dict[str, list[float]] = {}
        self._spans: list[tuple[str, int, int]] = []
        start = 0
        for view in bundle.views:
            self._spans.append((view.entity, start, start + len(view.features)))
            start += len(view.features)

    def read(self, entities: Mapping[str, str], now: float) -> list[float]:
        values = self._reader.read(entities, now)
        for number, (entity, start, stop) in enumerate(self._spans):
            key = f"{number}:{entities.get(entity, '')}"
            values[start:stop] = self._seen.setdefault(key, values[start:stop])
        return values


class WrongUnit:
    """Delays in seconds where the model was trained on minutes: one view's values times sixty."""

    def __init__(self, reader: Reader, bundle: Any, draw: random.Random) -> None:
        self._reader = reader
        view = draw.randrange(len(bundle.views))
        self._start = sum(len(v.features) for v in bundle.views[:view])
        self._stop = self._start + len(bundle.views[view].features)

    def read(self, entities: Mapping[str, str], now: float) -> list[float]:
        values = self._reader.read(entities, now)
        values[self._start : self._stop] = [60.0 * v for v in values[self._start : self._stop]]
        return values


class ZeroedView:
    """Zeros instead of one view, as a join that failed silently leaves them."""

    def __init__(self, reader: Reader, bundle: Any, draw: random.Random) -> None:
        self._reader = reader
        view = draw.randrange(len(bundle.views))
        self._start = sum(len(v.features) for v in bundle.views[:view])
        self._stop = self._start + len(bundle.views[view].features)

    def read(self, entities: Mapping[str, str], now: float) -> list[float]:
        values = self._reader.read(entities, now)
        values[self._start : self._stop] = [0.0] * (self._stop - self._start)
        return values


class ShiftedEntity:
    """The values of whoever was asked for before: a row number that is off by one."""

    def __init__(self, reader: Reader, bundle: Any, draw: random.Random) -> None:
        self._reader = reader
        self._previous: Mapping[str, str] | None = None

    def read(self, entities: Mapping[str, str], now: float) -> list[float]:
        asked, self._previous = self._previous or entities, entities
        return self._reader.read(asked, now)


FAULTS: dict[str, Callable[[Reader, Any, random.Random], Reader]] = {
    "permuted_columns": PermutedColumns,
    "stale_values": StaleValues,
    "wrong_unit": WrongUnit,
    "zeroed_view": ZeroedView,
    "shifted_entity": ShiftedEntity,
}


def main(arguments: Sequence[str]) -> None:
    """Serve the bundle that `arguments` name, with the fault that the first of them names.

    Raises:
        UsageError: no such fault.
    """
    from serving.runtime import __main__ as command
    from serving.runtime import app
    from serving.runtime import bundle as bundles
    from serving.runtime.features.reader import open_reader
    from serving.runtime.transport.http import HttpProtocol

    fault, _, seed = arguments[0].rpartition("@")
    draw = random.Random(int(seed))  # noqa: S311 - a story, not a secret
    (folder,), options = command.parse(arguments[1:])
    bundle = bundles.load(folder)
    kind, _, value = fault.partition(":")
    if kind == "delay":
        seconds = float(value) / 1000

        class SlowProtocol(HttpProtocol):
            def write_response(self, data: bytes) -> None:
                asyncio.get_running_loop().call_later(seconds, super().write_response, data)

        app.serve(bundle, options, protocol_factory=SlowProtocol)
    elif kind in FAULTS:
        app.serve(
            bundle, options, reader=FAULTS[kind](open_reader(options.online or "", bundle), bundle, draw)
        )
    else:
        raise UsageError(f"unknown fault {fault!r}; known: delay:MS, {', '.join(FAULTS)}")


if __name__ == "__main__":
    main(sys.argv[1:])
