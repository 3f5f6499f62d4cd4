"""`kind: RetrainPolicy` as a document, on a cluster a custom resource: read, checked, and made a contract's policy.

Every fault is told at once, each with its path, the value and a remedy, as of a Release.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from monitoring.retrain.signals import KINDS
from serving.release import on_cluster, spec
from serving.release.reading import Problem, Reader, SpecError
from serving.release.spec import API_VERSION
from windlass.contract import RetrainPolicy, Workload
from windlass.errors import UsageError

KIND = "RetrainPolicy"
#: What a policy's release has no say in: whom it releases is known once a version was trained.
_NOT_STATED = ("model", "candidate", "candidates", "champion")
FILE = "retrain.yaml"
DEFAULT = RetrainPolicy()


def load(path: Path) -> tuple[str, RetrainPolicy]:
    """The workload and the policy in a file.

    Raises:
        UsageError: no such file, no YAML, or no such document; every fault is in the message.
    """
    import yaml

    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UsageError(f"policy {path}: {error.strerror}; name a file with a RetrainPolicy") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"policy {path} is no YAML: {' '.join(str(error).split())}") from error
    return parse(document, str(path))


def in_force(workload: Workload, project: Path) -> Workload:
    """The workload with the policy of its own file `workloads/<name>/retrain.yaml`, where the project has one.

    Raises:
        UsageError: the file is no policy of this workload.
    """
    path = project / "workloads" / workload.name / FILE
    if not path.is_file():
        return workload
    name, found = load(path)
    if name != workload.name:
        raise UsageError(f"policy {path}: spec.workload = {name!r}: must be {workload.name!r}")
    return replace(workload, retrain=found)


def parse(document: Any, name: str = KIND, *, cluster: bool = False) -> tuple[str, RetrainPolicy]:
    """The workload that a document is about, and its policy.

    Args:
        cluster: whether its release must be one that a cluster's backends can carry out.

    Raises:
        UsageError: it is no such document; every fault is in the message.
    """
    problems: list[Problem] = []
    top = Reader("", document, problems)
    top.choice("kind", (KIND,))
    top.choice("apiVersion", (API_VERSION,), default=API_VERSION)
    if top.has("metadata"):
        top.child("metadata").text("name", None)
    # what a cluster adds is not ours
    top.raw("status")
    found = _spec(top.child("spec"), problems, cluster)
    top.finish()
    if problems or found is None:
        raise SpecError(name, problems)
    return found


def _spec(reader: Reader, problems: list[Problem], cluster: bool) -> tuple[str, RetrainPolicy] | None:
    workload = reader.text("workload", remedy="name the workload")
    signals = KINDS
    if reader.has("signals"):
        stated: Any = reader.texts("signals", remedy=f"list some of {', '.join(KINDS)}")
        # what cannot be read was noted
        signals = stated if isinstance(stated, tuple) else KINDS
        for i, kind in enumerate(signals):
            if kind not in KINDS:
                reader.report(f"signals[{i}]", kind, f"use one of {', '.join(KINDS)}")
    cooldown = reader.duration("cooldown", DEFAULT.cooldown)
    per_day = DEFAULT.per_day
    if reader.has("budget"):
        budget = reader.child("budget")
        per_day = budget.integer("perDay", 1, None, default=DEFAULT.per_day)
        budget.finish()
    concurrency = reader.integer("concurrency", 1, None, default=DEFAULT.concurrency)
    escalate_after = reader.integer("escalateAfter", 1, None, default=DEFAULT.escalate_after)
    schedule = reader.duration("schedule", None)
    if schedule is not None and schedule <= timedelta(0):
        reader.report("schedule", schedule, "give a time of more than nothing, or leave it out")
    if schedule is not None and "schedule" not in signals:
        reader.report("schedule", schedule, "needs schedule among the signals")
    new_rows = _new_rows(reader)
    release = reader.raw("release")
    # these two were not asked for where they are absent or null
    reader.finish(known=("signals", "budget"))
    if release is not None:
        _check_release(workload, release, reader, cluster)
    if problems:
        return None
    return workload, RetrainPolicy(
        cooldown=cooldown,
        per_day=per_day,
        concurrency=concurrency,
        escalate_after=escalate_after,
        signals=tuple(signals),
        schedule=schedule,
        new_rows=new_rows,
        release=release or {},
    )


def _new_rows(reader: Reader) -> float | None:
    """A count of rows, or a percentage of what the champion was trained on as a share."""
    value = reader.raw("newRows")
    remedy = "give a whole number of rows, or a percentage like 10% of those that there were"
    if value is None:
        return None
    if isinstance(value, str) and value.endswith("%"):
        try:
            share = float(value[:-1]) / 100
        except ValueError:
            share = 0.0
        if 0 < share < 1:
            return share
    elif isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return float(value)
    reader.report("newRows", value, remedy)
    return None


def _check_release(workload: str | None, release: Any, reader: Reader, cluster: bool) -> None:
    """A candidate months from now must not find out that its release cannot be meant."""
    if not isinstance(release, dict):
        reader.report("release", release, "must be a mapping with strategy and checks")
        return
    for name in _NOT_STATED:
        if name in release:
            reader.report(f"release.{name}", release[name], "leave it out: what is trained is released")
    release = {name: value for name, value in release.items() if name not in _NOT_STATED}
    backend = "local"
    if cluster:
        # who states a release on a cluster states it for one: a workload's own plan is translated, this is not
        backend = on_cluster.backend_of(release.get("backend"))
    try:
        spec.for_candidate(
            release, name="check", model=workload or "check", candidate="2", champion="1", backend=backend
        )
    except SpecError as error:
        for problem in error.problems:
            path = problem.path.replace("spec.", "release.", 1)
            reader.report(path.removeprefix("."), _Shown(problem.value), problem.remedy)


class _Shown:
    """A value that has been made a text already."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text
