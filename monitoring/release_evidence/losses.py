"""Squared errors of two versions on the same labelled requests, in the order in which the labels became known.

What has been handed out stays at its place and is followed by what became known since, so that a look joins only what
is new.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import islice

from monitoring.labels import Label
from monitoring.release_evidence.times import Times

#: Pairs that wait for their label, and labels that wait for their pair; the oldest are forgotten first.
MOST_WAITING = 500_000
#: Seconds for which a label waits for the second answer to its request, where it is told how late it is.
EARLY_S = 600.0
#: Differences that are known and take as much memory as one pair that waits.
KNOWN_AS_ONE = 32


class Losses:
    """Differences of squared errors, candidate minus champion: positive where the candidate is worse.

    Args:
        since: labels that were known before are of other requests.
    """

    def __init__(self, since: float, times: Times) -> None:
        self._since, self._times = since, times
        self._pairs: dict[str, tuple[float, float]] = {}
        self._early: dict[str, Label] = {}
        self._new: list[tuple[float, str, float]] = []
        self._known = array("d")

    def add_pair(self, request_id: str, champion: float, candidate: float) -> None:
        """Add the two scores of a request; the first ones of an id are kept, as with its labels."""
        if self._pairs.setdefault(request_id, (champion, candidate)) == (champion, candidate):
            label = self._early.pop(request_id, None)
            if label is not None:
                self._join(label)
        _forget_oldest(self._pairs)

    def add_labels(self, labels: Iterable[Label]) -> None:
        """Add what became known, before the pair of its request or after it; rewards alone say nothing here."""
        for label in labels:
            if label.label is None:
                continue
            if label.request_id in self._pairs:
                self._join(label)
            elif self._times.of_label(label) >= self._since:
                self._early.setdefault(label.request_id, label)
        _forget_oldest(self._early)

    def settle(self) -> None:
        """Put what is new at the end, by the time of its label: whatever comes later comes after it."""
        # ties go by id, so that a sequential verdict never depends on which log was read first
        self._known.extend(difference for _, _, difference in sorted(self._new))
        self._new.clear()

    def forget(self, moment: float) -> None:
        """Leave out the labels that have waited too long at this moment (epoch seconds): nobody mirrored theirs."""
        self._times.forget(self._early, moment - EARLY_S)

    @property
    def held(self) -> int:
        """Pairs and labels in memory, of some 300 bytes each; what is known counts as what it takes."""
        return len(self._pairs) + len(self._early) + len(self._new) + len(self._known) // KNOWN_AS_ONE

    def differences(self) -> tuple[float, ...]:
        """All that is known; what is new since the last call stands at the end, by the time of its label."""
        self.settle()
        return tuple(self._known)

    def _join(self, label: Label) -> None:
        champion, candidate = self._pairs.pop(label.request_id)
        assert label.label is not None  # noqa: S101 - others are not kept
        ours, theirs = candidate - label.label, champion - label.label
        self._new.append((self._times.of_label(label), label.request_id, ours * ours - theirs * theirs))


def _forget_oldest(waiting: dict[str, tuple[float, float]] | dict[str, Label]) -> None:
    # many at once: one by one would search the emptied front of the table again and again
    if len(waiting) > MOST_WAITING:
        for name in list(islice(waiting, MOST_WAITING // 10)):
            del waiting[name]
