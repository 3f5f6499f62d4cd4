"""Faults of Release documents with their file, line and column, all of them at once and without a platform.

The problems are those of `spec.parse`, which knows paths only; where a path lies in the text is read from YAML's own
nodes. What YAML takes silently, a key that is stated twice, is a fault too: one of the two is not what it says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.release import spec, yaml_text
from serving.release.people import documents
from serving.release.reading import Problem, SpecError
from serving.release.release import Release
from windlass.errors import UsageError

if TYPE_CHECKING:
    import yaml


@dataclass(frozen=True)
class Fault:
    """One fault with its place; lines and columns count from 1."""

    path: str
    value: str
    remedy: str
    line: int
    column: int


@dataclass(frozen=True)
class Linted:
    """What a file holds.

    Attributes:
        releases: of the documents that are valid, in their order.
        documents: how many there are, empty ones left out.
    """

    releases: tuple[Release, ...]
    faults: tuple[Fault, ...]
    documents: int

    @property
    def valid(self) -> bool:
        return not self.faults


def file(path: Path) -> Linted:
    """Lint a file; one that cannot be read is a fault of its own, so that others are still looked at."""
    try:
        return text(documents.read(path))
    except UsageError as error:
        return Linted((), (Fault("document", "unreadable", str(error), 1, 1),), 0)


def text(content: str) -> Linted:
    """Lint the documents of a YAML text."""
    import yaml

    nodes: list[yaml.Node] = []
    faults: list[Fault] = []
    try:
        for node in yaml_text.nodes(content):
            if node is not None and not _empty(node):
                nodes.append(node)
    except yaml.YAMLError as error:
        faults.append(_unreadable(error))  # what came before it can still be looked at
    if not nodes and not faults:
        faults.append(Fault("document", "missing", "the file holds no Release document", 1, 1))
    releases: list[Release] = []
    for node in nodes:
        faults += _stated_twice(node, "")
        odd = [Problem(path, number, yaml_text.ODD_NUMBER) for path, number in yaml_text.odd_numbers(node)]
        faults += [_placed(node, problem) for problem in odd]
        try:
            release = spec.parse(yaml_text.value(node))
            if not odd:
                releases.append(release)
        except SpecError as error:
            faults += [_placed(node, problem) for problem in _roots(error.problems)]
        except yaml.YAMLError as error:
            faults.append(_unreadable(error))
    return Linted(tuple(releases), tuple(sorted(faults, key=lambda f: (f.line, f.column))), len(nodes))


def place(node: yaml.Node, path: str) -> tuple[int, int]:
    """Line and column of a path such as `spec.checks[0].alpha`; of its nearest part that exists where it does not."""
    mark = node.start_mark
    rest = "" if path == "document" else path
    while rest:
        found = _step(node, rest)
        if found is None:
            break
        mark, node, rest = found
    return mark.line + 1, mark.column + 1


_INDEX = re.compile(r"\[(\d+)\]\.?")


def _step(node: yaml.Node, rest: str) -> tuple[Any, yaml.Node, str] | None:
    """The mark and node of the first part of a path below `node`, and what is left of the path."""
    import yaml

    if isinstance(node, yaml.SequenceNode):
        index = _INDEX.match(rest)
        if index is None or int(index[1]) >= len(node.value):
            return None
        item = node.value[int(index[1])]
        return item.start_mark, item, rest[index.end() :]
    if isinstance(node, yaml.MappingNode):
        # the longest key first: one may hold a dot
        for key, value in sorted(node.value, key=lambda pair: -len(str(pair[0].value))):
            name = str(key.value)
            after = rest[len(name) :]
            if rest.startswith(name) and (not after or after[0] in ".["):
                return key.start_mark, value, after.removeprefix(".")
    return None


def _roots(problems: Sequence[Problem]) -> list[Problem]:
    """Without what is missing only because all around it is."""
    missing = [problem.path for problem in problems if problem.value == "missing"]
    return [p for p in problems if not any(p.path.startswith(f"{path}.") for path in missing)]


def _placed(node: yaml.Node, problem: Problem) -> Fault:
    line, column = place(node, problem.path)
    return Fault(problem.path, problem.value, problem.remedy, line, column)


def _unreadable(error: yaml.YAMLError) -> Fault:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    said = getattr(error, "problem", None) or str(error)
    line, column = (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
    return Fault("document", "text", f"is not YAML: {' '.join(str(said).split())}", line, column)


def _stated_twice(node: yaml.Node, path: str) -> Iterator[Fault]:
    import yaml

    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _stated_twice(item, f"{path}[{index}]")
    if not isinstance(node, yaml.MappingNode):
        return
    first: dict[str, int] = {}
    for key, value in node.value:
        name = str(key.value)
        here = f"{path}.{name}" if path else name
        if name in first and name != "<<":
            remedy = f"is stated in line {first[name]} already; keep one of the two"
            yield Fault(here, name, remedy, key.start_mark.line + 1, key.start_mark.column + 1)
        first.setdefault(name, key.start_mark.line + 1)
        yield from _stated_twice(value, here)


def _empty(node: yaml.Node | None) -> bool:
    return node is None or (getattr(node, "tag", "") == "tag:yaml.org,2002:null")
