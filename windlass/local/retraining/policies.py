"""Policies from a folder, as a cluster's operator publishes them: a mounted ConfigMap, read again as it changes.

The kubelet changes all files of a ConfigMap at once, by one link (`..data`). A policy that is gone gives way to the
workload's own; one that cannot be meant leaves the last good one of its file in force, and says so once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windlass import retrain_policy
from windlass.contract import RetrainPolicy
from windlass.errors import UsageError


@dataclass(frozen=True)
class InForce:
    """A policy and where it comes from.

    Attributes:
        source: the file's name; empty for the workload's own.
        name, generation: of the custom resource, where it is one.
    """

    policy: RetrainPolicy
    source: str = ""
    name: str | None = None
    generation: int | None = None

    def said(self) -> dict[str, Any]:
        """For who asks what is in force."""
        return {"source": self.source or "workload", "name": self.name, "generation": self.generation}


class PolicyFolder:
    """The policies of a folder.

    Args:
        folder: whose `*.yaml` are policies; it may come later.
        say: told once of each file that cannot be taken.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._say = say
        self._content: dict[str, bytes] | None = None
        self._good: dict[str, tuple[str, InForce]] = {}
        self._problems: dict[str, str] = {}
        self._in_force: dict[str, InForce] = {}

    @property
    def problems(self) -> Mapping[str, str]:
        """What is wrong with the files as they are now, by file."""
        return dict(self._problems)

    def read(self) -> Mapping[str, InForce]:
        """What is in force, by workload. A folder that cannot be read leaves everything as it was."""
        try:
            content = _content(self._folder)
        except OSError as error:
            self._note("", f"{self._folder}: {error.strerror}; what was read before stays in force")
            return self._in_force
        self._problems.pop("", None)
        if content != self._content:
            self._content = content
            self._take(content)
        return self._in_force

    def _take(self, content: Mapping[str, bytes]) -> None:
        good: dict[str, tuple[str, InForce]] = {}
        found: dict[str, InForce] = {}
        gone = set(self._problems) - set(content)
        for name in gone:
            del self._problems[name]
        for name, text in sorted(content.items()):
            try:
                good[name] = _parsed(name, text)
                self._problems.pop(name, None)
            except UsageError as error:
                if name in self._good:
                    good[name] = self._good[name]
                    self._note(name, f"{error}; the last one of this file that could be meant stays in force")
                else:
                    self._note(name, f"{error}; the workload's own policy is in force")
        for name, (workload, policy) in good.items():
            if workload in found:
                self._note(
                    name, f"{name}: {workload} has a policy in {found[workload].source} already; keep one"
                )
                continue
            found[workload] = policy
        self._good, self._in_force = good, found

    def _note(self, name: str, problem: str) -> None:
        if self._problems.get(name) != problem:
            self._say(problem)
        self._problems[name] = problem


def _content(folder: Path) -> dict[str, bytes]:
    """All files of one moment; none where there is no folder."""
    place = folder / "..data"
    # resolved once: the link may be changed while we read, and its old target is removed only then
    place = place.resolve() if place.exists() else folder
    files = [p for p in place.glob("*.yaml") if not p.name.startswith(".") and p.is_file()]
    # one that is taken away meanwhile fails as a whole: the next turn reads the new files
    return {p.name: p.read_bytes() for p in files}


def _parsed(name: str, text: bytes) -> tuple[str, InForce]:
    import yaml

    try:
        document = yaml.safe_load(text.decode())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"policy {name} is no YAML: {' '.join(str(error).split())}") from error
    workload, policy = retrain_policy.parse(document, f"policy {name}")
    metadata = document.get("metadata") or {}
    generation = metadata.get("generation")
    return workload, InForce(
        policy, name, metadata.get("name"), generation if isinstance(generation, int) else None
    )


class Policies:
    """What is in force for each watched workload: a policy that was named at the start, the folder's, its own.

    Args:
        own: policies of the workloads themselves, or that were named.
        named: workloads whose policy was named at the start: the folder does not change it.
        folder: None where there is none.
        put: called with what is in force, when it is another.
        releases: what the Release of a retrained candidate would be, by workload; None where no cluster has it.
    """

    def __init__(
        self,
        own: Mapping[str, RetrainPolicy],
        named: frozenset[str],
        folder: PolicyFolder | None,
        put: Callable[[str, RetrainPolicy], None],
        say: Callable[[str], None],
        releases: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        self._own = {name: InForce(policy) for name, policy in own.items()}
        self._named = named
        self._folder = folder
        self._put = put
        self._say = say
        self._releases = releases
        self._now = dict(self._own)
        self._strange: frozenset[str] = frozenset()

    def refresh(self) -> None:
        """Take up what has changed since the last time."""
        if self._folder is None:
            return
        found = self._folder.read()
        strange = frozenset(found) - set(self._own)
        for name in sorted(strange - self._strange):
            self._say(f"policy {found[name].source} is about {name}, which is not watched here")
        self._strange = strange
        for name, own in self._own.items():
            wanted = own if name in self._named else found.get(name, own)
            if wanted != self._now[name]:
                if wanted.policy != self._now[name].policy:
                    self._put(name, wanted.policy)
                    self._say(f"{name}: the policy is now that of {wanted.source or 'the workload'}")
                self._now[name] = wanted

    def said(self) -> dict[str, Any]:
        """What is in force, and what is wrong, for who asks."""
        problems = {} if self._folder is None else dict(self._folder.problems)
        return {
            "policies": {name: found.said() for name, found in sorted(self._now.items())},
            "problems": problems,
            "unwatched": sorted(self._strange),
            **({} if self._releases is None else {"releases": self._releases()}),
        }
