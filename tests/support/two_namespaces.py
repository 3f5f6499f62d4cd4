"""Tests of rules, two at a time: what one says of a model has to hold beside another model of the same name.

Rules that tell namespaces apart see no more in two of them than in each, so that what both tests expect holds for the
series of both together, whatever they are about. A rule that mixes them breaks some of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Test = Mapping[str, Any]

_SELECTOR = re.compile(r"\b(ALERTS|(?:model|model_version):[\w:]+)(\{)?")
#: With a target of another namespace there is one: that none is known at all is an alert about no namespace.
_OF_ALL = "no target of ours is known at all"


def pairs(tests: Sequence[Test]) -> Iterator[Test]:
    """Each of the tests with the one before it as one test, the former in namespace `a` and the latter in `b`."""
    for one, other in zip(tests, (*tests[-1:], *tests[:-1]), strict=True):
        if one["interval"] == other["interval"]:
            name = f"a: {one['name']}; b: {other['name']}"
            whole = {"name": name, "interval": one["interval"], "input_series": [], "promql_expr_test": []}
            for namespace, test in (("a", one), ("b", other)):
                whole["input_series"] += [
                    {**s, "series": _within(s["series"], namespace)} for s in test["input_series"]
                ]
                if _OF_ALL not in test["name"]:
                    whole["promql_expr_test"] += [_asked(e, namespace) for e in test["promql_expr_test"]]
            yield whole


def _within(labelled: str, namespace: str) -> str:
    """A series with the namespace; those that name one themselves keep it as a part."""
    if 'namespace="' in labelled:
        return labelled.replace('namespace="', f'namespace="{namespace}-')
    name, brace, labels = labelled.partition("{")
    return f'{name}{{namespace="{namespace}"' + (f",{labels}" if brace and labels != "}" else "}")


def _asked(expected: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    """An expectation, asked of one namespace."""
    matcher = f'namespace=~"{namespace}(-.*)?"'
    expr = _SELECTOR.sub(lambda m: f"{m[1]}{{{matcher}" + ("," if m[2] else "}"), expected["expr"])
    assert matcher in expr, f"no series of rules is asked for: {expr}"
    samples = [{**s, "labels": _within(s["labels"], namespace)} for s in expected.get("exp_samples", ())]
    return {**expected, "expr": expr, **({"exp_samples": samples} if samples else {})}
