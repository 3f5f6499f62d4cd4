"""What is asked of a release's evidence: the document of `POST /v1/evidence`, read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from monitoring.collector.names import MODEL
from serving.release import spec
from serving.release.reading import Problem, Reader, SpecError
from serving.release.release import Release

#: clocks differ: of a release that begins within so long nothing counts yet
AHEAD_S = 60.0
#: metrics that one value a pair is kept of
PAIRED = ("brier",)
_TIME = "give a time with its zone: 2013-02-01T06:00:00Z"


@dataclass(frozen=True)
class Question:
    """Whose evidence is asked for.

    Attributes:
        since: when the release began, epoch seconds; what was received before is none of its evidence.
        enrolled_until: no unit of an experiment begins after it, epoch seconds; None leaves that to the release.
        paired_after: metric -> paired values that the asker has.
    """

    release: Release
    champion: str
    since: float
    enrolled_until: float | None = None
    paired_after: Mapping[str, int] = field(default_factory=dict)

    @property
    def versions(self) -> tuple[str, ...]:
        return (self.champion, *self.release.candidates)


def read(document: Any, *, now: float) -> Question:
    """Read a question.

    Args:
        now: epoch seconds; no release begins after it, but for what clocks differ by.

    Raises:
        SpecError: with every problem that was found.
    """
    problems: list[Problem] = []
    root = Reader("", document, problems)
    release = _release(root, problems)
    champion = root.text("champion", remedy="name the version that the release is measured against")
    if release is not None and champion in release.candidates:
        root.report(
            "champion", champion, "is a candidate; name the version that the release is measured against"
        )
    elif isinstance(champion, str) and not MODEL.fullmatch(champion):
        # a version is a folder's name; the release's own are held to its rules
        root.report(
            "champion", champion, "use letters, digits, dots, dashes and underscores, a letter or digit first"
        )
    since = _time(root, "since")
    if since is None:
        root.report("since", root.raw("since"), f"say when the release began: {_TIME}")
    elif since > now + AHEAD_S:
        root.report("since", root.raw("since"), "lies in the future; say when the release began")
    until = None
    if root.has("enrolledUntil"):
        until = _time(root, "enrolledUntil")
        if until is None:
            root.report("enrolledUntil", root.raw("enrolledUntil"), f"{_TIME}, or leave it out")
    paired = _paired(root)
    root.finish(known=("enrolledUntil",))
    if problems or release is None or since is None:
        raise SpecError("the question for evidence", problems)
    return Question(release, champion, since, until, paired)


def _release(root: Reader, problems: list[Problem]) -> Release | None:
    document = root.raw("release")
    if not isinstance(document, Mapping):
        root.report("release", document, "give the Release document, with metadata and spec")
        return None
    try:
        return spec.parse(document)
    except SpecError as error:
        problems += [Problem(f"release.{p.path}", p.value, p.remedy) for p in error.problems]
        return None


def _time(root: Reader, name: str) -> float | None:
    value = root.raw(name)
    try:
        moment = datetime.fromisoformat(value)
        return None if moment.tzinfo is None else moment.timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _paired(root: Reader) -> Mapping[str, int]:
    value = root.raw("pairedAfter")
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        root.report("pairedAfter", value, 'give how many values of each metric are known: {"brier": 0}')
        return {}
    for name, count in value.items():
        if name not in PAIRED:
            root.report(f"pairedAfter.{name}", count, f"use {', '.join(PAIRED)}")
        elif isinstance(count, bool) or not isinstance(count, int) or count < 0:
            root.report(f"pairedAfter.{name}", count, "give how many values are known, 0 or more")
    return value
