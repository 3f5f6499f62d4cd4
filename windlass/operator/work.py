"""What the parts of one model's turns share: its objects, what was read of them, and the newest decisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from serving.release import spec
from serving.release.backend import UnreachableError
from serving.release.decision import Decision
from serving.release.release import Release
from serving.release.state import ReleaseState
from windlass.errors import UsageError, WindlassError
from windlass.operator.backends import Chosen
from windlass.operator.fenced_api import DeposedError
from windlass.operator.place import Place
from windlass.operator.seen import Seen
from windlass.operator.status import View


class Work:
    """One model's releases, as far as they have work to do.

    Args:
        objects: the model's Release objects as they were last seen, the oldest first.

    Attributes:
        chosen: the backend of the newest release.
        last: the newest decision, by release.
        handled: commands that were carried out and are not in a status yet, by release.
        decided: commands that are decided and not in force yet, by release.
    """

    def __init__(self, place: Place, model: str, objects: Callable[[], Sequence[Seen]]) -> None:
        self.place = place
        self.model = model
        self._objects = objects
        self.chosen = Chosen()
        self.last: dict[str, Decision] = {}
        self.handled: dict[str, str] = {}
        self.decided: dict[str, str] = {}
        self._parsed: dict[tuple[str, int], Release | UsageError] = {}

    def left(self) -> list[Seen]:
        """The objects for which something is left to be done."""
        return [seen for seen in self._objects() if not seen.settled]

    def named(self, name: str) -> Seen | None:
        return next((seen for seen in self._objects() if seen.name == name), None)

    def read(self, seen: Seen) -> Release | UsageError:
        """The release that an object asks for, or why it cannot be meant."""
        key = (seen.uid, seen.generation)
        if key not in self._parsed:
            try:
                self._parsed[key] = spec.parse(seen.document)
            except UsageError as error:
                self._parsed[key] = error
        return self._parsed[key]

    def versions_of(self, seen: Seen) -> tuple[str, ...]:
        """The versions that an object names."""
        read = self.read(seen)
        if isinstance(read, UsageError):
            return ()
        return (*read.candidates, *([read.champion] if read.champion else []))

    def needed(self, name: str) -> set[str]:
        """The versions that other releases name, as far as they have not ended."""
        return {v for other in self.left() if other.name != name for v in self.versions_of(other)}

    def retire_unused(self, seen: Seen, release: Release, newest: ReleaseState | None) -> None:
        """Take away the servers that were made for a release which has not begun and never will; where nobody says who
        the champion is, they stay.

        Raises:
            UnreachableError: it is to be tried again.
        """
        keep = self.needed(release.name)
        if newest is not None:
            keep |= {newest.champion, *newest.weights, *(newest.candidates if newest.live else ())}
        unused = [v for v in release.candidates if v not in keep]
        if release.backend != "gateway" or not unused:
            return
        try:
            champion = self.place.champions.of(self.model, self.place.backends.of(release))
        except (DeposedError, UnreachableError):
            raise
        except WindlassError as error:
            self.place.log(
                f"release {self.place.namespace}/{release.name}: versions {', '.join(unused)} keep their servers, "
                f"since the champion is not known: {error}"
            )
            return
        self.place.retire_made(release, [version for version in unused if version != champion], seen.mark)

    def show(self, seen: Seen, view: View) -> Seen:
        """Write the status where it says something new; the object as it is then."""
        return self.place.teller.status(seen, replace(view, handled=self.handled.pop(seen.name, None)))

    def forget(self) -> None:
        """Remember nothing of decisions and documents."""
        self.last.clear()
        self.decided.clear()
        self._parsed.clear()
