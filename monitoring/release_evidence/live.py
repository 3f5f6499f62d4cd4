"""The releases whose evidence is asked for, each as far as the store has been read for it.

Nothing here is kept over a restart: the store is read again, and gives the same.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from monitoring.collector import manifest as manifests
from monitoring.collector.place import Place
from monitoring.release_evidence.cumulative import Cumulative
from monitoring.release_evidence.question import AHEAD_S, Question
from monitoring.release_evidence.recomputing import Recomputing
from monitoring.release_evidence.stored import Second, Seconds
from serving.release.journal import evidence_json
from windlass.errors import UsageError, WindlassError

MOST_RELEASES = 64
#: requests, units, pairs and labels in memory, of all releases together; each takes some 300 bytes
MOST_HELD = 1_000_000
#: paired values of one answer; who asks again has the next ones
MOST_PAIRED = 500_000
FORGOTTEN_AFTER_S = 86_400.0
#: where there is no room, a release that nobody asked for in so long gives way to one that somebody asks for
IDLE_S = 600.0
#: how long a question waits for what is not read yet, and how long one release is read for before another's turn
PATIENCE_S = 2.0
TURN_S = 0.2


class ConflictError(UsageError):
    """The release of that name is another one."""


class WaitError(WindlassError):
    """There is no answer yet; there will be."""


class _Live:
    """One release.

    Attributes:
        read: everything that became known up to this second is counted.
        asked: when it was last asked for, on the monotonic clock.
        spent_s: seconds that the reading up to the first answer took so far; None once that was given.
        missing: why the store does not hold all of its rows any more; None where it does.
        needs: what it held when there was no room for it and it was put aside, uncounted; None of one that is counted.
        stored: by version, the names of the inputs in whose order the store has its vectors.
        uncompared: offline rows may reach vectors that were not compared yet.
    """

    def __init__(self, question: Question, threshold: float, recomputing: Recomputing | None) -> None:
        self._threshold = threshold
        self._recomputing = recomputing
        self.asked = 0.0
        self.needs: int | None = None
        self.begin(question)

    def begin(self, question: Question) -> None:
        """Count from the release's beginning on."""
        self.question = question
        self.cumulative = Cumulative(question, threshold=self._threshold, recomputing=self._recomputing)
        self.read = int(question.since)
        self.spent_s: float | None = 0.0
        self.missing: str | None = None
        self.seconds: Seconds | None = None
        self.rows: Iterator[Second] | None = None
        self.stored: Mapping[str, Sequence[str]] = {}
        self.uncompared = False


class Releases:
    """Answers questions, and reads on meanwhile.

    Args:
        place: of the store.
        threshold: of a model, the score from which a decision is a yes.
        recomputing: says what features should have been; None where nobody can.
        clock: monotonic seconds.
        now: epoch seconds.

    Attributes:
        rows: predictions and labels that were counted so far, of every release.
        rebuild_s: how long the newest reading up to a first answer took; None before the first one.
    """

    def __init__(
        self,
        place: Place,
        threshold: Callable[[str], float] = lambda model: 0.5,
        recomputing: Recomputing | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._place = place
        self._threshold = threshold
        self._recomputing = recomputing
        self._clock = clock
        self._now = now
        self._live: dict[tuple[str, str], _Live] = {}
        #: of files, between which moments their rows became known
        self._bounds: dict[str, tuple[int, int]] = {}
        self._turn = 0
        self.rows = 0
        self.rebuild_s: float | None = None

    def __len__(self) -> int:
        return len(self._live)

    def answer(self, question: Question) -> dict[str, Any]:
        """The evidence as JSON values (`evidence_json`), up to when the store is complete.

        Raises:
            ConflictError: the release of that name is another one.
            WaitError: it is not all read yet, or there is no room.
        """
        live = self._find(question)
        live.asked = self._clock()
        self._readmit(live)
        deadline = self._clock() + PATIENCE_S
        while self._behind(live):
            if self._clock() > deadline:
                raise WaitError(_progress(live))
            self._advance(live)
        if live.cumulative.skew is not None:
            live.cumulative.skew.refresh(live.stored)
            # what is not compared by then says so, and all else is answered
            while self._compare(live) and self._clock() <= deadline:
                pass
        if live.spent_s is not None:
            self.rebuild_s, live.spent_s = live.spent_s, None
        evidence = live.cumulative.evidence(live.read)
        if live.missing is not None:
            evidence = replace(evidence, silent=dict.fromkeys(("predictions", "feedback"), live.missing))
        known = {name: evidence.paired.get(name, ())[:count] for name, count in question.paired_after.items()}
        sent = {
            name: values[: len(known.get(name, ())) + MOST_PAIRED] for name, values in evidence.paired.items()
        }
        return evidence_json.to_json(replace(evidence, paired=sent), known)

    def work(self) -> bool:
        """Read on for a moment for one release that is behind; whether any is."""
        behind = [live for live in self._live.values() if live.rows is not None or live.uncompared]
        if not behind:
            return False
        self._turn += 1
        live = behind[self._turn % len(behind)]
        # whoever asks next begins where this ended, and is told why
        with contextlib.suppress(Exception):
            if live.rows is not None:
                self._advance(live)
            else:
                self._compare(live)
        return True

    def _compare(self, live: _Live) -> bool:
        """Compare some vectors that the offline rows reach; whether there may be more."""
        begun, live.uncompared = self._clock(), False
        live.uncompared = live.cumulative.skew is not None and live.cumulative.skew.compare()
        if live.spent_s is not None:
            live.spent_s += self._clock() - begun
        return live.uncompared

    def forget(self) -> None:
        """Leave out the releases that nobody has asked for in a day."""
        before = self._clock() - FORGOTTEN_AFTER_S
        self._live = {key: live for key, live in self._live.items() if live.asked > before}

    def _held(self, without: _Live | None = None) -> int:
        return sum(live.cumulative.held for live in self._live.values() if live is not without)

    def _drop(self, live: _Live) -> None:
        self._live = {key: other for key, other in self._live.items() if other is not live}

    def _idle(self) -> _Live | None:
        """The release that was asked for longest ago, where that is long enough."""
        longest = min(self._live.values(), key=lambda live: live.asked, default=None)
        return None if longest is None or longest.asked > self._clock() - IDLE_S else longest

    def _readmit(self, live: _Live) -> None:
        """Count a release that was put aside again, once there is room for what it held.

        Raises:
            WaitError: there is none.
        """
        if live.needs is None:
            return
        while self._held(live) + live.needs > MOST_HELD:
            idle = self._idle()
            if idle is None or live.needs > MOST_HELD:
                raise WaitError(_no_room(live))
            self._drop(idle)
        live.needs = None

    def _make_room(self, live: _Live) -> None:
        """Leave out whom nobody asks for, then put the one that holds most aside: the others go on.

        Raises:
            WaitError: it is this one.
        """
        while self._held() > MOST_HELD:
            idle = self._idle()
            if idle is not None:
                self._drop(idle)
                continue
            most = max(self._live.values(), key=lambda other: other.cumulative.held)
            most.needs = most.cumulative.held
            most.begin(most.question)
            if most is live:
                raise WaitError(_no_room(live))

    def _find(self, question: Question) -> _Live:
        key = (question.release.namespace, question.release.name)
        live = self._live.get(key)
        if live is not None:
            known = live.question
            same = (known.release, known.champion) == (question.release, question.champion)
            if known.since == question.since and same:
                _enrol(live, question)
                return live
            if known.since >= question.since:
                raise ConflictError(
                    f"release {question.release.name} is known as another one, that began at {_time(known.since)}; ask "
                    "with the spec, champion and beginning that it has"
                )
            # one of that name was deleted, and this one is new
        elif len(self._live) >= MOST_RELEASES:
            idle = self._idle()
            if idle is None:
                raise WaitError(
                    f"{MOST_RELEASES} releases are asked for here already; the next one takes the place of one that "
                    f"nobody asks for in {IDLE_S / 60:.0f} minutes: end a release"
                )
            self._drop(idle)
        self._live[key] = _Live(question, self._threshold(question.release.model), self._recomputing)
        return self._live[key]

    def _behind(self, live: _Live) -> bool:
        """Whether the store holds more that is complete than what is counted.

        Raises:
            WaitError: the store is not complete up to the release's beginning.
        """
        if live.rows is not None:
            return True
        content = self._place.read(manifests.NAME)
        known = manifests.Manifest() if content is None else manifests.decode(content, manifests.NAME)
        question, until = live.question, int(known.until)
        if until <= int(question.since):
            raise WaitError(
                f"of what was received since {_time(question.since)} nothing counts yet: the store is complete up to "
                f"{_time(until)}"
            )
        if until > self._now() + AHEAD_S:
            raise WaitError(
                f"the store says that it is complete up to {_time(until)}, which is not yet: the clock of the "
                "collector was ahead, and its next consolidation sets that right"
            )
        if until < live.read:
            # the clock was ahead: what was stored then counts when it is that late
            live.begin(question)
        if until <= live.read:
            return False
        if len(self._bounds) > 2 * len(known.parts):
            there = {part.path for part in known.parts}
            self._bounds = {path: between for path, between in self._bounds.items() if path in there}
        live.missing = live.missing or _missing(known, question, live.read)
        live.stored = known.inputs.get(question.release.model, {})
        live.seconds = Seconds(
            self._place, known, question.release.model, question.versions,
            since=question.since, after=live.read, until=until, bounds=self._bounds,
            inputs=None if live.cumulative.skew is None else live.stored,
        )  # fmt: skip
        live.rows = iter(live.seconds)
        return True

    def _advance(self, live: _Live) -> None:
        """Count some seconds.

        Raises:
            WaitError: a file was replaced meanwhile, or there is no room.
        """
        assert live.rows is not None  # noqa: S101 - it is behind
        begun, others = self._clock(), self._held(live)
        try:
            for found in live.rows:
                live.cumulative.add(found.second, found.answers, found.labels, found.vectors)
                live.read = found.second
                self.rows += len(found.answers) + len(found.labels)
                if others + live.cumulative.held > MOST_HELD:
                    self._make_room(live)
                    others = self._held(live)
                if self._clock() - begun > TURN_S:
                    return
            live.rows = None
        except FileNotFoundError as error:
            # what was counted is a number of whole seconds
            live.rows = None
            raise WaitError("files of the store were replaced while they were read; ask again") from error
        except WaitError:
            raise
        except BaseException:
            live.rows = None
            self._drop(live)
            raise
        finally:
            if live.spent_s is not None:
                live.spent_s += self._clock() - begun


def _enrol(live: _Live, question: Question) -> None:
    """Put the end of enrolment where it is by now: what was counted beyond another end is counted again."""
    before, now = live.cumulative.enrolled_until, question.enrolled_until
    if now is None or now == before:
        return
    if live.read <= min(before, now):
        live.cumulative.enrol_until(now)
        live.question = question
    else:
        live.begin(question)


def _missing(known: manifests.Manifest, question: Question, read: int) -> str | None:
    """Why rows that became known after a second are not all there; None where they are, or nobody noted it."""
    # what is installed with a release may start a moment after it
    if known.began - AHEAD_S > read:
        return (
            f"the release began at {_time(question.since)}, and the collector's store only at {_time(known.began)}: "
            "what was received between is lost; begin the release anew"
        )
    expired = known.expired.get(question.release.model, 0.0)
    if expired > read:
        return (
            f"the release began at {_time(question.since)}, and of {question.release.model} the store keeps nothing "
            f"from before {_time(expired)} any more; begin the release anew, and keep predictions and labels "
            "for longer than it takes (--keep-predictions-days, --keep-labels-days)"
        )
    return None


def _no_room(live: _Live) -> str:
    return (
        f"{live.needs} requests and units of release {live.question.release.name} wait for what becomes of them, more "
        f"than of any other, and {MOST_HELD} of all releases may; it is counted again, from its beginning, when there "
        "is room: end another release, or give this one a shorter outcomeDelay"
    )


def _progress(live: _Live) -> str:
    share = ""
    if live.seconds is not None and live.seconds.rows:
        share = f": {100 * live.seconds.read // live.seconds.rows} % of the rows"
    return f"reading what was stored since {_time(live.question.since)}{share}"


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
