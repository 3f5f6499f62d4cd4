"""Mistakes that the simulator must find: each is a patch to the engine's real source, planted in a process of its own.

Among them are failures that users of today's rollout tools reported; the others are slips that somebody could make in
this source. A patch names the text it replaces, which must be there exactly once, so that a bug cannot quietly miss
its place when the source changes. The engine must not be imported before the bug is planted: keep imports here light.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = "serving.release"


@dataclass(frozen=True)
class Bug:
    """One patch.

    Attributes:
        known: which reported failure of another tool it is; empty for a slip of ours.
        module: below `serving.release`.
    """

    name: str
    module: str
    old: str
    new: str
    known: str = ""


@dataclass(frozen=True)
class Hunt:
    """What came of looking for a bug.

    Attributes:
        caught: what gave it away; None where nothing did.
        seeds: how many were simulated.
    """

    name: str
    caught: str | None
    seeds: int


class _Patched(importlib.machinery.SourceFileLoader):
    def __init__(self, fullname: str, path: str, bug: Bug) -> None:
        super().__init__(fullname, path)
        self._bug = bug

    def exec_module(self, module: ModuleType) -> None:
        text = Path(self.path).read_text()
        code = compile(patched(text, self._bug), self.path, "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 - our own source with one change


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, bug: Bug) -> None:
        self._bug = bug
        self._name = f"{PACKAGE}.{bug.module}"

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if fullname != self._name:
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path)
        if found is None or found.origin is None:
            return None
        loader = _Patched(fullname, found.origin, self._bug)
        return importlib.util.spec_from_file_location(fullname, found.origin, loader=loader)


def patched(text: str, bug: Bug) -> str:
    """The source with the bug in it.

    Raises:
        ValueError: the text that it replaces is not there exactly once.
    """
    if text.count(bug.old) != 1:
        raise ValueError(
            f"planted bug {bug.name}: {PACKAGE}.{bug.module} has {text.count(bug.old)} places for it; adapt its text"
        )
    return text.replace(bug.old, bug.new)


def source_of(bug: Bug) -> Path:
    """The file that the bug is planted into."""
    return Path(__file__).parent.parent.joinpath(*bug.module.split(".")).with_suffix(".py")


def plant(bug: Bug) -> None:
    """Make this process's engine wrong; its modules must not be imported yet.

    Raises:
        RuntimeError: they are.
    """
    name = f"{PACKAGE}.{bug.module}"
    if name in sys.modules:
        raise RuntimeError(f"planted bug {bug.name}: {name} is imported already; use a fresh process")
    sys.meta_path.insert(0, _Finder(bug))


def hunt(bug: Bug, start: int, cap: int) -> Hunt:
    """Simulate seeds with the bug planted until something gives it away; in a process of its own."""
    plant(bug)
    from serving.release.simulation.run import play

    broken = 0
    for done, seed in enumerate(range(start, start + cap), start=1):
        try:
            outcome = play(seed)
        except Exception as error:
            return Hunt(bug.name, f"seed {seed}: {type(error).__name__}: {error}"[:200], done)
        if outcome.violations:
            first = outcome.violations[0]
            return Hunt(bug.name, f"seed {seed}: {first.invariant}: {first.detail}"[:200], done)
        if not outcome.kept:
            # one good candidate that is not promoted may be chance, a harmful one that is not rolled back is not
            broken += 2 if outcome.promised == "RolledBack" else 1
            if broken >= 2:
                return Hunt(bug.name, f"seed {seed}: {outcome.ended} instead of {outcome.promised}", done)
    return Hunt(bug.name, None, cap)
