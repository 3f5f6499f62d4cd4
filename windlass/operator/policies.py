"""RetrainPolicies on a cluster: judged by the rules of their documents, and told how they stand. Pure.

What is accepted is published for the trigger, which is asked which of it is in force: `policy_publishing.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from serving.release import on_cluster, spec
from serving.release.cluster.kinds import RETRAIN_POLICY
from serving.release.release import Release
from windlass import retrain_policy
from windlass.errors import UsageError
from windlass.operator.conditions import Truth, condition, short, time
from windlass.operator.reconciler import Object

Word = Mapping[str, Any]
"""What the trigger answers at `/policies`: `policies` by workload, `problems` by file, `unwatched`, `workloads`, and
`releases`: by workload what the Release of a retrained version would be."""
Status = dict[str, Any]
Fault = Callable[[Release], str | None]
"""Why this operator cannot carry a Release out; None where it can (see `able.py`)."""


@dataclass(frozen=True)
class Judged:
    """One policy and what is thought of it.

    Attributes:
        problem: why it is not accepted; None where it is.
        reason: the same in one word.
        kept: the generation of it that stays published all the same; None where none does.
    """

    name: str
    workload: str
    generation: int
    problem: str | None = None
    reason: str = "Valid"
    kept: int | None = None

    @property
    def file(self) -> str:
        return f"{self.name}.yaml"


def no_fault(release: Release) -> str | None:
    """Of an operator that carries everything out."""
    return None


def accepted(document: Mapping[str, Any], fault: Fault = no_fault) -> tuple[str, ...]:
    """Every fault of a policy's document; empty where it can be meant."""
    try:
        workload, policy = retrain_policy.parse(dict(document), cluster=True)
        release = _release(workload, policy.release) if policy.release else None
    except UsageError as error:
        problems = getattr(error, "problems", ())
        return tuple(map(str, problems)) or (str(error),)
    problem = None if release is None else fault(release)
    return () if problem is None else (f"spec.release: {problem}",)


def _release(workload: str, plan: Mapping[str, Any]) -> Release:
    """A plan's Release, of versions that stand for those to come.

    Raises:
        SpecError: it is none.
    """
    backend = on_cluster.backend_of(plan.get("backend"))
    return spec.for_candidate(
        plan, name="check", model=workload, candidate="2", champion="1", backend=backend
    )


def judge(objects: Sequence[Object], published: Mapping[str, str], fault: Fault = no_fault) -> list[Judged]:
    """What is thought of the policies of one namespace.

    Args:
        published: the ConfigMap's data as it is.
    """
    found: list[Judged] = []
    holder: dict[str, str] = {}
    for body in sorted(objects, key=lambda o: (o["metadata"]["creationTimestamp"], o["metadata"]["name"])):
        metadata = body["metadata"]
        workload = str((body.get("spec") or {}).get("workload", ""))
        one = Judged(metadata["name"], workload, int(metadata.get("generation", 0)))
        problems = accepted(body, fault)
        if workload in holder:
            said = f"workload {workload} has the policy {holder[workload]} already, which is older; keep one of them"
            one = Judged(one.name, workload, one.generation, said, "AnotherPolicy")
        elif problems:
            kept = _generation(published.get(one.file), workload)
            stays = "" if kept is None else f"; generation {kept} stays in force"
            one = Judged(one.name, workload, one.generation, "; ".join(problems) + stays, "Invalid", kept)
        if one.problem is None or one.kept is not None:
            holder[workload] = one.name
        found.append(one)
    return found


def content(
    objects: Sequence[Object], judged: Sequence[Judged], published: Mapping[str, str]
) -> dict[str, str]:
    """The ConfigMap's data: the accepted policies, and of one that is accepted no more what it said before."""
    by_name = {o["metadata"]["name"]: o for o in objects}
    data: dict[str, str] = {}
    for one in judged:
        if one.problem is None:
            data[one.file] = _text(one, by_name[one.name])
        elif one.kept is not None:
            data[one.file] = published[one.file]
    return data


def status_of(
    body: Object, judged: Judged, word: Word | None, now: datetime, fault: Fault = no_fault
) -> Status:
    """A policy's whole status.

    Args:
        word: of the trigger; None where it cannot be asked.
    """
    before = body.get("status") or {}
    status: Status = {"observedGeneration": judged.generation}
    told = {} if word is None else dict((word.get("workloads") or {}).get(judged.workload) or {})
    if word is None:
        told = {k: before[k] for k in ("lastTrigger", "lastTriggeredAt", "decision") if before.get(k)}
    elif judged.reason == "AnotherPolicy":
        told = {}
    if told.get("lastTrigger"):
        status["lastTrigger"] = str(told["lastTrigger"])
    if told.get("lastTriggeredAt"):
        status["lastTriggeredAt"] = time(told["lastTriggeredAt"])
    if told.get("decision"):
        decision = dict(told["decision"])
        status["decision"] = {
            "accepted": bool(decision.get("accepted")),
            "rule": str(decision.get("rule", "")),
            "reason": short(str(decision.get("reason", ""))),
            **({"at": time(decision["at"])} if decision.get("at") else {}),
        }
    was = {c.get("type"): c for c in before.get("conditions") or ()}
    valid: tuple[Truth, str, str] = ("True", "Valid", "it can be meant, and is published")
    if judged.problem is not None:
        valid = ("False", judged.reason, judged.problem)
    status["conditions"] = [
        condition(was.get(kind), kind, *said, judged.generation, now)
        for kind, said in (("Accepted", valid), ("Ready", _ready(judged, word, fault)))
    ]
    return status


def _ready(judged: Judged, word: Word | None, fault: Fault) -> tuple[Truth, str, str]:
    if judged.problem is not None:
        return "False", "NotAccepted", "this generation is not in force: it is not accepted"
    if word is None:
        return "Unknown", "TriggerSilent", "the retrain trigger does not say which policy is in force"
    problem = (word.get("problems") or {}).get(judged.file)
    if problem:
        return "False", "Refused", f"the trigger refuses it: {problem}"
    if judged.workload in (word.get("unwatched") or ()):
        return (
            "False",
            "NotWatched",
            f"the trigger knows no workload {judged.workload}; its image has none of that name",
        )
    now = (word.get("policies") or {}).get(judged.workload) or {}
    if (now.get("name"), now.get("generation")) == (judged.name, judged.generation):
        return _releasable(judged, word, fault)
    other = now.get("name")
    what = f"generation {now.get('generation')} of {other}" if other else "the workload's own policy"
    return (
        "False",
        "NotRead",
        f"the trigger decides by {what} still; a mounted ConfigMap takes a minute or two",
    )


def _releasable(judged: Judged, word: Word, fault: Fault) -> tuple[Truth, str, str]:
    """Of a policy in force: whether what it trains could be released here."""
    told = dict((word.get("releases") or {}).get(judged.workload) or {})
    problem, changes = told.get("problem"), "; ".join(map(str, told.get("changes") or ()))
    if not problem and told.get("spec"):
        try:
            problem = fault(_release(judged.workload, told["spec"]))
        except UsageError as error:
            problem = str(error)
    if problem:
        said = f"no retrained version could be released: {problem}; state spec.release"
        return "False", "NoRelease", said
    how = f", and a cluster releases by its plan so: {changes}" if changes else ""
    return "True", "InForce", short(f"the trigger decides by it{how}")


def _generation(text: str | None, workload: str) -> int | None:
    """The generation of what is published for a workload, None where nothing is."""
    import yaml

    try:
        found = yaml.safe_load(text or "")
        same = found["spec"]["workload"] == workload
        return int(found["metadata"]["generation"]) if same else None
    except (yaml.YAMLError, TypeError, KeyError, ValueError):
        return None


def _text(judged: Judged, body: Object) -> str:
    import yaml

    document = {
        "apiVersion": RETRAIN_POLICY.api_version,
        "kind": RETRAIN_POLICY.kind,
        "metadata": {"name": judged.name, "generation": judged.generation},
        "spec": body["spec"],
    }
    return yaml.safe_dump(document, sort_keys=False)
