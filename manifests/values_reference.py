"""The chart's values as tables, from values.yaml and the comments above its keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from windlass.errors import UsageError

_KEY = re.compile(r"( *)([A-Za-z_][\w-]*):(?: .*)?")
#: What is put in between of them is written, the rest of the page is not.
BEGIN, END = "<!-- values: written by `make manifests` -->\n", "<!-- end of values -->\n"


@dataclass(frozen=True)
class Value:
    """One key.

    Attributes:
        path: from the top, joined by dots.
        says: its comment in one line.
        default: as JSON; None where its own keys are documented.
    """

    path: str
    says: str
    default: str | None


def read(text: str) -> list[Value]:
    """The documented keys of a values.yaml, in its order.

    Raises:
        UsageError: a key has no comment, and neither it nor its siblings are part of a documented value.
    """
    comments = _comments(text)
    return list(_values(yaml.safe_load(text), comments, ()))


def _comments(text: str) -> dict[tuple[str, ...], str]:
    """What stands right above each key, by its path."""
    found: dict[tuple[str, ...], str] = {}
    path: list[tuple[int, str]] = []
    said: list[str] = []
    for line in text.splitlines():
        bare = line.strip()
        key = _KEY.fullmatch(line)
        if bare.startswith("#"):
            said.append(bare.removeprefix("#").strip())
            continue
        if key is not None:
            indent = len(key[1])
            path = [(at, name) for at, name in path if at < indent] + [(indent, key[2])]
            if said:
                found[tuple(name for _, name in path)] = " ".join(said)
        said = []
    return found


def _values(
    values: Mapping[str, Any], comments: Mapping[tuple[str, ...], str], above: tuple[str, ...]
) -> Iterator[Value]:
    for name, value in values.items():
        path = (*above, name)
        dotted = ".".join(path)
        if path not in comments:
            raise UsageError(f"values.yaml: {dotted} has no comment; say above it what it is for")
        deeper = isinstance(value, Mapping) and any((*path, under) in comments for under in value)
        yield Value(dotted, comments[path], None if deeper else json.dumps(value, ensure_ascii=False))
        if deeper:
            yield from _values(value, comments, path)


def tables(values: list[Value]) -> str:
    """One section for each key at the top that has keys of its own, and one for all others."""
    alone = [value for value in values if "." not in value.path and value.default is not None]
    parts = [_table(alone)]
    for top in (value for value in values if "." not in value.path and value.default is None):
        under = [
            value for value in values if value.path.startswith(f"{top.path}.") and value.default is not None
        ]
        parts.append(f"### {top.path}\n\n{top.says}\n\n{_table(under, len(top.path) + 1)}")
    return "\n".join(parts)


def _table(values: list[Value], cut: int = 0) -> str:
    rows = [f"| `{value.path[cut:]}` | {_cell(value.default or '')} | {value.says} |" for value in values]
    return "\n".join(["| value | default | |", "| --- | --- | --- |", *rows, ""])


def _cell(default: str) -> str:
    return "" if default in ('""', "{}", "[]") else f"`{default}`".replace("|", "\\|")


def put(page: str, values: list[Value]) -> str:
    """The page with the tables between its marks.

    Raises:
        UsageError: it has none.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(
            f"the page has no lines {BEGIN.strip()} and {END.strip()}; put them where the values belong"
        )
    return f"{before}{BEGIN}\n{tables(values)}\n{END}{after}"
