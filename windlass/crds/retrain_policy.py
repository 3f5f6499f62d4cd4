"""The definition of RetrainPolicy, whose document `windlass.retrain_policy` reads."""

from __future__ import annotations

from typing import Any

from monitoring.retrain.signals import KINDS
from serving.release import durations
from serving.release.people import schema
from windlass.contract import RetrainPolicy
from windlass.crds import limits, release, rule
from windlass.crds.definition import AGE, Column, Names, definition, root
from windlass.crds.rule import Rule

NAMES = Names("RetrainPolicy", "retrainpolicies", "rp")

COLUMNS = (
    Column("Workload", ".spec.workload"),
    Column("Cooldown", ".spec.cooldown"),
    Column("Per Day", ".spec.budget.perDay", "integer"),
    Column("Schedule", ".spec.schedule"),
    Column("Last Trigger", ".status.lastTrigger"),
    AGE,
    Column("Reason", ".status.decision.reason", wide=True),
)

_DEFAULT = RetrainPolicy()


def crd() -> dict[str, Any]:
    """The whole definition."""
    whole = root("When signals become a retraining of a workload.", _spec(), _status())
    return definition(NAMES, whole, COLUMNS)


def _spec() -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "object",
        "required": ["workload"],
        "properties": {
            "workload": {
                "type": "string",
                "minLength": 1,
                "description": "the workload, also its model's name",
            },
            "signals": {
                "type": "array",
                "minItems": 1,
                "default": list(_DEFAULT.signals),
                "description": "kinds of signals that may start a run",
                "items": {"type": "string", "enum": list(KINDS)},
                "x-kubernetes-list-type": "atomic",
            },
            "cooldown": {
                **schema.duration(),
                "default": durations.format(_DEFAULT.cooldown),
                "description": "least time between two accepted signals",
            },
            "budget": {
                "type": "object",
                "default": {},
                "properties": {"perDay": _count(_DEFAULT.per_day, "most runs in any 24 hours")},
            },
            "concurrency": _count(_DEFAULT.concurrency, "most runs at a time"),
            "escalateAfter": _count(
                _DEFAULT.escalate_after,
                "so many retrainings in a row that did not help, then a person decides",
            ),
            "schedule": {**schema.duration(), "description": "a run after so long without one"},
            "newRows": {
                "x-kubernetes-int-or-string": True,
                "anyOf": [{"type": "integer"}, {"type": "string"}],
                "maxLength": 32,
                "description": "rows that make new data count: a number, or a percentage of those trained on",
            },
        },
    }
    limits.bound(found)
    found["properties"]["release"] = {
        **release.template(),
        "description": "strategy and checks of a retrained candidate's Release; default: the workload's own",
    }
    rule.attach(found, _rules())
    return found


def _rules() -> tuple[Rule, ...]:
    return (
        rule.duration("cooldown"),
        rule.duration("schedule"),
        Rule(
            "schedule",
            'self.matches("[1-9]")',
            "a schedule is a time of more than nothing, for example 90d; leave it out for none",
        ),
        Rule(
            "",
            '!has(self.schedule) || "schedule" in self.signals',
            "a schedule needs schedule among the signals; list it there, or leave it out",
            ".schedule",
        ),
        Rule(
            "newRows",
            'type(self) == int ? self >= 1 : (self.matches("^[0-9]+([.][0-9]+)?%$")'
            ' && double(self.replace("%", "")) > 0.0 && double(self.replace("%", "")) < 100.0)',
            "give a whole number of rows, or a percentage like 10% of those that there were",
        ),
    )


def _count(default: int, doc: str) -> dict[str, Any]:
    return {"type": "integer", "minimum": 1, "default": default, "description": doc}


def _status() -> dict[str, Any]:
    text, time = {"type": "string"}, {"type": "string", "format": "date-time"}
    return {
        "type": "object",
        "description": "what became of the newest signals, written by the operator",
        "properties": {
            "observedGeneration": {"type": "integer", "format": "int64"},
            "lastTrigger": text,
            "lastTriggeredAt": time,
            "decision": {
                "type": "object",
                "description": "about the newest signal",
                "x-kubernetes-preserve-unknown-fields": True,
                "properties": {"accepted": {"type": "boolean"}, "rule": text, "reason": text, "at": time},
            },
            "conditions": release.status()["properties"]["conditions"],
        },
    }
