"""YAML as Release documents are written in: small, a tree, and with numbers that mean what is written.

YAML can say much more than a release needs, and some of it harms whoever reads it: an anchor inside itself, eight
lines that stand for millions of values, brackets nested deeper than a reader's stack, and `010`, which is 8. Each is
refused with its place, as `yaml.YAMLError`, before a value is made of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml

#: Values of one document, each counted as often as aliases repeat it, and mappings and lists inside each other.
MOST_VALUES = 20_000
DEEPEST = 50

_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)")


def nodes(text: str) -> Iterator[yaml.Node | None]:
    """The documents of a text as YAML's nodes; None of an empty one.

    Raises:
        yaml.YAMLError: the text is no YAML, or more than a document may be; it has the place where it knows it.
    """
    import yaml

    for node in yaml.compose_all(text, _loader()):
        if node is not None:
            _measure(node, {})
        yield node


def value(node: yaml.Node) -> Any:
    """The plain value of a document that `nodes` gave.

    Raises:
        yaml.YAMLError: a scalar that YAML takes for a number or a date is none.
    """
    loader = _loader()("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def odd_numbers(node: yaml.Node, path: str = "") -> Iterator[tuple[str, str]]:
    """Path and text of each bare whole number that YAML reads as another: octal, hexadecimal, base 60."""
    import yaml

    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from odd_numbers(item, f"{path}[{index}]")
    elif isinstance(node, yaml.MappingNode):
        for key, item in node.value:
            name = str(key.value)
            here = f"{path}.{name}" if path else name
            if isinstance(key, yaml.ScalarNode):
                yield from odd_numbers(key, here)
            yield from odd_numbers(item, here)
    elif node.tag == "tag:yaml.org,2002:int" and not _DECIMAL.fullmatch(node.value):
        yield path, node.value


#: What a person is told of such a number.
ODD_NUMBER = "YAML reads it as another number than is written; put it in quotes, or write it in plain digits"


@lru_cache(maxsize=1)
def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses what is nested too deep (composing calls itself for each level), and names a scalar that is none."""

        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.depth += 1
            if self.depth > DEEPEST:
                mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
                raise yaml.composer.ComposerError(
                    None, None, f"nested more than {DEEPEST} levels deep, which no Release is", mark
                )
            found = super().compose_node(parent, index)
            self.depth -= 1
            return found

        def construct_object(self, node: Any, deep: bool = False) -> Any:
            try:
                return super().construct_object(node, deep=deep)
            except (ValueError, OverflowError, KeyError) as error:
                # a date in month 13, a number of five thousand digits
                kind = node.tag.rpartition(":")[2]
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"{str(node.value)[:40]!r} is written like {kind} and is none",
                    node.start_mark,
                ) from error

    return Loader


def _measure(node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Values and levels below a node, aliases written out; an anchor's own node is measured once."""
    import yaml

    seen = known.get(id(node), ())
    if seen is None:
        raise yaml.composer.ComposerError(
            None, None, "an anchor that holds itself has no end", node.start_mark
        )
    if seen:
        return seen[0], seen[1]
    known[id(node)] = None
    size, levels = 1, 0
    if isinstance(node, yaml.CollectionNode):
        pairs = isinstance(node, yaml.MappingNode)
        for item in [part for pair in node.value for part in pair] if pairs else node.value:
            inner, deeper = _measure(item, known)
            size, levels = size + inner, max(levels, deeper)
    levels += 1
    if size > MOST_VALUES or levels > DEEPEST:
        what = f"more than {MOST_VALUES:,} values" if size > MOST_VALUES else f"more than {DEEPEST} levels"
        raise yaml.composer.ComposerError(
            None, None, f"{what} once its aliases are written out, which no Release has", node.start_mark
        )
    known[id(node)] = size, levels
    return size, levels
