"""Rules as files: one for Prometheus itself, one for the operator of Prometheus on a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import yaml

from monitoring.rules import analysis, platform, slo
from monitoring.rules.objectives import Objectives
from monitoring.rules.rule import Alert, Group

RUNBOOKS = "https://windlass.dev/runbooks"
HEADER = "# Written by `python -m monitoring.rules`; change monitoring/rules/*.py and run it again.\n"


def groups(objectives: Objectives | None = None) -> tuple[Group, ...]:
    """All rules, by group."""
    given = Objectives() if objectives is None else objectives
    return (*slo.groups(given), *analysis.groups(given), *platform.groups(given))


def alerts(found: Iterable[Group] | None = None) -> tuple[Alert, ...]:
    """The alerts among them."""
    return tuple(
        rule
        for group in (groups() if found is None else found)
        for rule in group.rules
        if isinstance(rule, Alert)
    )


def hurried(found: Sequence[Group], *, wait: str = "0s", interval: str = "1s") -> tuple[Group, ...]:
    """The same rules for a drill or a test: evaluated often, and an alert rings `wait` after its condition holds and
    ends with it."""
    return tuple(
        replace(
            group,
            interval=interval,
            rules=tuple(
                replace(rule, wait=wait, keep="0m") if isinstance(rule, Alert) else rule
                for rule in group.rules
            ),
        )
        for group in found
    )


def rules(found: Sequence[Group], runbooks: str = RUNBOOKS) -> dict[str, Any]:
    """What Prometheus reads as a file of rules."""
    return {"groups": [group.document(runbooks) for group in found]}


def prometheus_rule(found: Sequence[Group], runbooks: str = RUNBOOKS) -> dict[str, Any]:
    """The same as a PrometheusRule of the Prometheus Operator (monitoring.coreos.com/v1)."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "windlass",
            "labels": {"app.kubernetes.io/name": "windlass", "app.kubernetes.io/component": "monitoring"},
        },
        "spec": rules(found, runbooks),
    }


def text(document: dict[str, Any]) -> str:
    """YAML with its expressions as blocks, in the order given."""
    return HEADER + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Several lines stay several lines, and a list is indented below its key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)
