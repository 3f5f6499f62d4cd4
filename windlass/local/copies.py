"""What became of a shadow's copies since its release began, across restarts of the engine and of the proxy.

Envoy counts copies since its own start. The counts at the release's beginning are kept in a file, and where Envoy
began anew, what it had counted before is carried on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from serving.release.envoy.admin import AdminError, Counted
from windlass import atomic
from windlass.errors import WindlassError


@dataclass(frozen=True)
class Sent:
    """Copies that ended."""

    answered: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        return self.answered + self.failed


@dataclass(frozen=True)
class _Kept:
    """What is on disk: the counts where this release's own begin, those last seen, and those of earlier proxies."""

    base: Sent
    last: Sent
    carried: Sent = Sent()


class Copies:
    """The copies of one release.

    Args:
        count: Envoy's counts of the shadow's cluster; raises AdminError.
        path: where the counts are kept.
    """

    def __init__(self, count: Callable[[], Counted], path: Path) -> None:
        self._count = count
        self._path = path
        self._kept = self._read()

    def sent(self) -> Sent:
        """Copies since the release began.

        Raises:
            WindlassError: the proxy does not say.
        """
        try:
            counted = self._count()
        except AdminError as error:
            raise WindlassError(f"Envoy's counts of the copies cannot be read: {error}") from error
        now = Sent(counted.answered, counted.failed)
        kept = self._kept or _Kept(now, now)
        if now.total < kept.last.total:
            done = _plus(kept.carried, _minus(kept.last, kept.base))
            kept = _Kept(Sent(), now, done)
        else:
            kept = _Kept(kept.base, now, kept.carried)
        if kept != self._kept:
            atomic.write_text(self._path, json.dumps(asdict(kept)))
            self._kept = kept
        return _plus(kept.carried, _minus(kept.last, kept.base))

    def _read(self) -> _Kept | None:
        try:
            stored = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return None
        return _Kept(**{name: Sent(**value) for name, value in stored.items()})


def _plus(one: Sent, other: Sent) -> Sent:
    return Sent(one.answered + other.answered, one.failed + other.failed)


def _minus(one: Sent, other: Sent) -> Sent:
    return Sent(one.answered - other.answered, one.failed - other.failed)
