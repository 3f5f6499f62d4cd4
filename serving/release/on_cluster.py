"""What a plan that was written for one machine means where a cluster carries it out. Pure.

Somebody who has written nothing for a cluster has the workload's own plan: the proxy's access log counts, and each
request is copied to the version that did not serve it. Here that is put as a cluster can do it, so that no less is
judged: what rests on pairs is asked of a shadow's. Whatever has no such meaning is left, and refused by `rules.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from serving.release import rules, spec
from serving.release.metrics import METRICS
from serving.release.reading import SpecError
from serving.release.release import Canary, Check, Release, Shadow

BACKEND = "gateway"


@dataclass(frozen=True)
class Translated:
    """A release as a cluster is to carry it out.

    Attributes:
        changes: what is another than in the plan and why, a sentence each; empty where nothing is.
    """

    release: Release
    changes: tuple[str, ...] = ()


def backend_of(stated: Any) -> str:
    """Where the release of a plan runs that names the backend `stated`, or none: never on a machine of its own."""
    return BACKEND if stated in (None, "local") else str(stated)


def planned(document: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The `spec` that a plan's Release document has on a cluster, and what is another in it (see `Translated`).

    Raises:
        SpecError: no cluster can carry it out.
    """
    found = translated(spec.parse(document, strict=False))
    problems = rules.contradictions(found.release)
    if problems:
        raise SpecError(f"release {found.release.name!r}", problems)
    if found.changes:
        return dict(spec.document(found.release)["spec"]), found.changes
    return {**document["spec"], "backend": found.release.backend}, ()


def translated(release: Release) -> Translated:
    """What `release` means on a cluster; one that states a cluster's own ways stays as it is."""
    changes: list[str] = []
    found = replace(release, backend=backend_of(release.backend))
    found = _strategy(found, changes)
    checks = tuple(_counted(check, found, changes) for check in found.checks)
    return Translated(replace(found, checks=checks), tuple(changes))


def _strategy(release: Release, changes: list[str]) -> Release:
    canary = release.strategy
    if not isinstance(canary, Canary) or not canary.mirror:
        return release
    if not any(map(_paired, release.checks)):
        changes.append("mirror is left out: no check rests on both versions' answers to one request")
        return replace(release, strategy=replace(canary, mirror=False))
    if release.backend != BACKEND or canary.match is not None:
        return release
    samples = sum(step.min_samples for step in canary.steps)
    lasts = sum((step.min_duration for step in canary.steps), timedelta(0))
    changes.append(
        f"the canary with mirror is a shadow of all requests, which is promoted once both versions answered {samples}, "
        "as many as its steps want together, and every check holds: a Gateway copies no version's requests to another "
        "that has a share"
    )
    return replace(release, strategy=Shadow(percent=100, min_samples=samples, min_duration=lasts))


def _counted(check: Check, release: Release, changes: list[str]) -> Check:
    if check.source != "envoy":
        return check
    source = "predictions" if isinstance(release.strategy, Shadow) else "prometheus"
    changes.append(
        f"check {check.name} has source {source} in place of envoy, which is a machine's access log"
    )
    return replace(check, source=source)


def _paired(check: Check) -> bool:
    """Whether a check needs the copies."""
    if METRICS[check.metric].paired:
        return True
    return (
        check.source == "predictions"
        and METRICS[check.metric].unit != "value"
        and check.metric != "featureSkew"
    )
