"""What a rule says, before it is YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["page", "ticket", "info"]
"""page: a person now; ticket: a person on the next working day; info: a machine acts, people may read it."""

IN = "{{ with $labels.namespace }}{{ . }}/{{ end }}"
"""Before a name in a summary: two teams of a cluster may have a model of one name. On one machine no target has a
namespace: to Prometheus an absent label is an empty one, and is joined and aggregated by as such."""
MODEL = IN + "{{ $labels.model }}"
VERSION = MODEL + " v{{ $labels.version }}"
TEAM = "{{ with $labels.namespace }}{{ . }}: {{ end }}"
"""Before what a team has one of."""


@dataclass(frozen=True)
class Recording:
    """A series made of others, so that dashboards and alerts share one definition.

    Attributes:
        name: `level:metric:operation`, as Prometheus's documentation asks for.
        expr: PromQL.
    """

    name: str
    expr: str

    def document(self, runbooks: str) -> dict[str, Any]:
        return {"record": self.name, "expr": self.expr}


@dataclass(frozen=True)
class Alert:
    """A condition that somebody, or the retrain trigger, has to know of.

    Attributes:
        name: also the name of its page in docs/runbooks/.
        expr: PromQL; its labels are the alert's, so what tells replicas apart is aggregated away: two that show
            one incident are one alert.
        wait: how long it has to hold ("for"); long enough for a lost scrape, short enough to be of use.
        summary: one line, with the labels of the alert.
        description: what it means in two sentences, ending in the next command.
        signal: the kind of a RetrainPolicy's signal that it is; None: it starts nothing.
        keep: how long it goes on when its condition no longer holds ("keep_firing_for", Prometheus 2.42).
    """

    name: str
    expr: str
    wait: str
    severity: Severity
    summary: str
    description: str
    signal: str | None = None
    keep: str = "0m"

    @property
    def labels(self) -> dict[str, str]:
        return {"severity": self.severity, **({} if self.signal is None else {"signal": self.signal})}

    def document(self, runbooks: str) -> dict[str, Any]:
        """As it stands in a file of rules; `runbooks` is the address of the folder of runbooks."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.wait,
            **({} if self.keep == "0m" else {"keep_firing_for": self.keep}),
            "labels": self.labels,
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{runbooks.rstrip('/')}/{self.name}",
            },
        }


@dataclass(frozen=True)
class Group:
    """Rules evaluated together, in their order."""

    name: str
    rules: tuple[Recording | Alert, ...]
    interval: str = "30s"

    def document(self, runbooks: str) -> Mapping[str, Any]:
        return {
            "name": self.name,
            "interval": self.interval,
            "rules": [rule.document(runbooks) for rule in self.rules],
        }
