"""How many of the vectors that versions served differ from what the offline rows say of the same moment.

A vector waits until the offline rows reach its moment. Of the first `WHOLE` that are looked at of a version all are
taken, of as many again every second one, of the next twice as many every fourth, and so on: what waits stays small
however long nobody computes rows, and which are taken depends on the store's rows alone. So does what is counted, given
the offline rows: a process that begins anew comes to the same, unless they say something else by then.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

import numpy as np

from monitoring.release_evidence.question import AHEAD_S
from monitoring.release_evidence.recomputing import Recomputing, Standing
from monitoring.release_evidence.vectors import ONLINE, OWN, Vector
from windlass.errors import WindlassError

WHOLE = 4096
#: vectors that are compared at once: the rows of every view are read for each batch, however small
BATCH = 512
#: vectors that fail one by one, while none was compared, until it is not a vector's fault
MOST_DOUBTED = 8
#: rows are computed every hour as a rule: what waits for longer has missed two turns
WAIT_S = 3 * 3600.0
#: inputs that are named
MOST_NAMED = 5
#: bytes of memory that count as one of what is held, and those of a vector beside its values
HELD, VECTOR = 300, 600

NAMELESS = "name no entity to look features up by"
UNFIT = "have another number of values than the version has inputs"
EMPTY = "have no feature vector"
BROKEN = "cannot be recomputed"
AHEAD = "state a moment that is yet to come"
UNTOLD = "do not say where their features come from"


@dataclass
class _Version:
    """What is known of a version's vectors: those that wait, in the order in which they came, and the others' sums.

    Attributes:
        most: as many are compared at once, fewer after one among them failed; 0 for `BATCH`.
        sound: one that could be compared: where it fails as well, it is not the vector's fault.
        doubted: how many failed since it was found out what can be recomputed, while none was compared ever.
        failed: why nothing of it can be compared until that is found out again.
    """

    waiting: list[Vector] = field(default_factory=list)
    taken: int = 0
    looked_at: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    checked: int = 0
    mismatched: int = 0
    by_input: Counter[str] = field(default_factory=Counter)
    most: int = 0
    sound: Vector | None = None
    doubted: int = 0
    failed: str | None = None


class FeatureSkew:
    """Counts of one release."""

    def __init__(self, model: str, versions: Sequence[str], recomputing: Recomputing) -> None:
        self._model = model
        self._recomputing = recomputing
        self._standing = Standing()
        self._versions = {version: _Version() for version in versions}

    @property
    def held(self) -> int:
        """What waits, in the unit of `Cumulative.held`."""
        waiting = (version.waiting for version in self._versions.values())
        return sum(len(w) * (VECTOR + len(w[0].features or b"")) for w in waiting if w) // HELD

    def add(self, vectors: Sequence[Vector]) -> None:
        """Take the sample of one second; seconds come in their order."""
        for vector in vectors:
            version = self._versions.get(vector.version)
            if version is None:
                continue
            version.looked_at += 1
            if (why := _unfit(vector)) is not None:
                version.left_out[why] += 1
                continue
            every = 1 << (version.taken // WHOLE).bit_length()
            version.taken += 1
            if version.taken % every == 0:
                version.waiting.append(vector)

    def refresh(self, stored: Mapping[str, Sequence[str]]) -> None:
        """Find out what can be recomputed by now.

        Args:
            stored: by version, names of the inputs in whose order its vectors are.
        """
        versions = tuple(self._versions)
        self._standing = self._recomputing.standing(self._model, versions, stored, self._standing)
        for version in self._versions.values():
            version.failed, version.doubted = None, 0

    def compare(self) -> bool:
        """Compare some of what the offline rows reach; whether there may be more of it."""
        build, reach = self._standing.build, self._standing.reach
        if build is None:
            return False
        for name, version in self._versions.items():
            if version.failed is not None or name in self._standing.lacking:
                continue
            most = version.most or BATCH
            ready = list(islice((vector for vector in version.waiting if vector.at <= reach), most))
            if not ready:
                continue
            try:
                found = self._recomputing.compare(self._model, ready, build)
            except WindlassError as error:
                if len(ready) > 1:
                    version.most = len(ready) // 2
                else:
                    self._doubt(version, ready[0], build, str(error))
                return True
            if found is None:
                return False  # rows are being written: the next question finds them
            version.checked += found.checked
            version.mismatched += found.mismatched
            version.by_input.update(found.by_input)
            if found.nameless:
                version.left_out[NAMELESS] += found.nameless
            if found.checked:
                version.sound = ready[0] if found.checked == len(ready) else version.sound
            version.most = 0 if 2 * most >= BATCH else 2 * most
            _remove(version, ready)
            return True
        return False

    def _doubt(self, version: _Version, vector: Vector, build: str, reason: str) -> None:
        """Leave a vector out that fails alone; where any other fails as well, nothing of its version is compared."""
        _remove(version, [vector])
        if version.sound is None:
            version.waiting.append(vector)  # others have their turn first
            version.doubted += 1
            ready = sum(other.at <= self._standing.reach for other in version.waiting)
            if version.doubted >= min(MOST_DOUBTED, ready):
                version.failed = reason
            return
        try:
            self._recomputing.compare(self._model, [version.sound], build)
        except WindlassError as error:
            version.waiting.insert(0, vector)
            version.failed = str(error)
            return
        version.left_out[BROKEN] += 1
        if (count := version.left_out[BROKEN]).bit_count() == 1:  # callers may send many
            sys.stderr.write(
                f"windlass collector: {count} of version {vector.version} of {self._model} left out of featureSkew, "
                f"request {vector.request_id} the last: {reason}\n"
            )

    def counts(self, version: str) -> tuple[int, int]:
        """Vectors that were compared, and those of them that differ."""
        known = self._versions[version]
        return known.checked, known.mismatched

    def by_input(self, version: str) -> Mapping[str, int]:
        """The inputs that differ most often, in how many vectors."""
        by_input = self._versions[version].by_input
        return dict(sorted(by_input.items(), key=lambda item: (-item[1], item[0]))[:MOST_NAMED])

    def silent(self, name: str, at: float) -> str | None:
        """Why what is known of a version is not enough to rely on; None where it is.

        Args:
            at: epoch seconds, up to which everything was handed in.
        """
        version = self._versions[name]
        reason = self._standing.lacking.get(name) or version.failed
        if reason is not None:
            return reason
        ready = sum(vector.at <= self._standing.reach for vector in version.waiting)
        if ready and self._standing.build is not None:
            return f"{ready} vectors of version {name} wait for their turn to be compared"
        if version.waiting and (not version.checked or at - version.waiting[0].received > WAIT_S):
            return (
                f"{len(version.waiting)} vectors of version {name} wait for offline rows that reach their moments, "
                f"the first {_time(version.waiting[0].at)}; there are rows up to {_time(self._standing.reach)}: have "
                f"`windlass features build {self._model}` run (the chart: features.workloads)"
            )
        broken = version.left_out[BROKEN]
        if broken > version.checked:
            return f"{broken} vectors of version {name} {BROKEN}, and only {version.checked} were compared"
        if version.checked:
            return None
        if version.looked_at:
            said = (f"{count} {why}" for why, count in sorted(version.left_out.items()))
            return (
                f"no vector of version {name} can be compared: of {version.looked_at} that were looked at, "
                f"{', '.join(said)}"
            )
        return f"no answer of version {name} is in the collector's store yet"


def _remove(version: _Version, vectors: Sequence[Vector]) -> None:
    gone = set(map(id, vectors))
    version.waiting = [vector for vector in version.waiting if id(vector) not in gone]


def _unfit(vector: Vector) -> str | None:
    """Why a vector is not compared; None where it is."""
    if vector.answered_by is not None and vector.answered_by not in OWN:
        return f"were answered by what stands in for the model ({vector.answered_by})"
    if vector.source is None:
        return UNTOLD
    if vector.source != ONLINE:
        return f"come from another source than the online store ({vector.source})"
    if vector.features is None:
        return UNFIT
    # a version that says that it used a vector without a value was given one: an empty online store is skewed
    if not vector.features or (vector.answered_by is None and np.isnan(np.frombuffer(vector.features)).all()):
        return EMPTY
    return AHEAD if vector.at > vector.received + AHEAD_S else None


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
