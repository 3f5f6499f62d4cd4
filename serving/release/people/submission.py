"""Handing a release over to a platform, and what can be known at once to be refused there."""

from __future__ import annotations

from typing import Any

from serving.release.journal import history, mailbox, refusals
from serving.release.journal.store import DiskStore
from serving.release.people import running
from serving.release.people.running import Platform
from serving.release.reading import Problem, SpecError, shown
from serving.release.release import Release, strategy_name
from windlass.clock import Clock
from windlass.errors import UsageError
from windlass.settings import Settings


def require_startable(settings: Settings, release: Release) -> None:
    """Raise where it can be seen now that a platform would refuse the release.

    Raises:
        UsageError: another release of the model is live and this one does not queue, or its name is taken.
    """
    store = DiskStore(settings.journal_dir / "releases")
    entries = store.entries(release.model)
    if not entries:
        return
    newest = history.newest(store.directory, release.model)
    live = newest is not None and newest.state.live
    if newest is not None and live and newest.release == release:
        return  # the same once more goes on
    if newest is not None and live and release.on_conflict == "refuse":
        raise UsageError(
            f"spec.onConflict = 'refuse': release {newest.release.name!r} of {release.model!r} is live "
            f"({newest.state.phase}); wait for it (`windlass release wait {release.model}`), abort it, or set "
            "spec.onConflict: queue"
        )
    if any(entry.name == release.name for entry in entries):
        same = newest is not None and live and newest.release.name == release.name
        taken = "is live with another document" if same else "is over"
        raise UsageError(
            f"metadata.name = {release.name!r}: this release of {release.model!r} {taken}; "
            "give the new one another name"
        )


def absent(settings: Settings, release: Release) -> list[str]:
    """Candidates without a bundle on this disk, where the model has bundles here at all.

    Only a local release serves from this disk, and where there is no bundle of the model it may be another disk's.
    """
    folder = settings.bundles_dir / release.model
    if release.backend != "local" or not folder.is_dir():
        return []
    return [v for v in release.candidates if not (folder / v / "serving.json").is_file()]


def require_servable(settings: Settings, release: Release, platform: Platform) -> None:
    """Raise where the running platform would refuse the release as soon as it reads the letter.

    Raises:
        UsageError: its model, its backend, a candidate or a check's source is not to be had there.
    """
    problems = []
    if release.model not in platform.models:
        served = ", ".join(platform.models) or "none"
        remedy = f"the platform that runs here does not serve it (it serves: {served}); name one of these"
        problems.append(Problem("spec.model", shown(release.model), remedy))
    if release.backend != "local":
        remedy = "is carried out on a cluster, and the platform that runs here is local; use backend: local"
        problems.append(Problem("spec.backend", shown(release.backend), remedy))
    elif release.model in platform.models:
        for version in release.candidates:
            bundle = settings.bundles_dir / release.model / version / "serving.json"
            if not bundle.is_file():
                remedy = f"has no bundle on this machine ({bundle.parent}); bring it there, or train it here"
                problems.append(Problem(_path(release, version), shown(version), remedy))
    for index, check in enumerate(release.checks):
        if check.source == "prometheus" and settings.prometheus_url is None:
            remedy = "nobody says where Prometheus is; set WINDLASS_PROMETHEUS_URL, or use source: envoy"
            problems.append(Problem(f"spec.checks[{index}].source", shown(check.source), remedy))
    if problems:
        raise SpecError(f"release {release.name!r}", problems)


def unknown_version(settings: Settings, release: Release, version: str) -> SpecError:
    """The refusal of a candidate that is nowhere."""
    folder = settings.bundles_dir / release.model
    here = ", ".join(sorted(path.parent.name for path in folder.glob("*/serving.json"))) or "none"
    remedy = (
        f"model {release.model} has no such version (it has: {here}); name one of these, or train it first"
    )
    return SpecError(f"release {release.name!r}", [Problem(_path(release, version), shown(version), remedy)])


def _path(release: Release, version: str) -> str:
    """Where a candidate stands in the document."""
    if len(release.candidates) > 1 or strategy_name(release.strategy) in ("experiment", "bandit"):
        return f"spec.candidates[{release.candidates.index(version)}]"
    return "spec.candidate"


def apply(
    settings: Settings, release: Release, clock: Clock, platform: Platform | None = None
) -> dict[str, Any]:
    """Hand a release to the platform.

    A letter of the same name that still waits is replaced, or left where it says the same.

    Args:
        platform: what runs; None where the caller cannot tell.

    Raises:
        UsageError: it can be seen now that it would be refused.
    """
    require_startable(settings, release)
    if platform is not None and platform.engine:
        require_servable(settings, release, platform)
    box = mailbox.inbox(settings)
    waiting = [
        (path, letter)
        for path, letter in mailbox.submissions(box)
        if (letter.model, letter.name) == (release.model, release.name)
    ]
    # before the letter lies there: a refusal of this one must not be cleared
    refusals.clear(settings, release.model, release.name)
    same = next((path for path, letter in waiting if letter == release), None)
    letter = same or mailbox.submit(box, release, clock.now())
    replaced = [path for path, _ in waiting if path != letter]
    for path in replaced:
        path.unlink(missing_ok=True)
    return {
        "release": release.name,
        "model": release.model,
        "letter": str(letter),
        "waited_already": same is not None,
        "replaced": [str(path) for path in replaced],
        "platform_runs": running.runs(settings, platform),
    }
