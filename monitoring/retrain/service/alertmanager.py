"""Alertmanager's webhook (version 4) as notices. Pure: the service journals what this reads.

An alert is a signal where its label `signal` names a kind; `model` is the workload, `version` the champion that it is
about, `startsAt` when it began. Alerts without that label are for people and are left alone.

A trigger of a cluster's namespace takes the alerts of that namespace alone: another team may have a model of the same
name, and its drift is no reason to train ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitoring.retrain.history import FINGERPRINT
from monitoring.retrain.service.notice import Notice, kind, moment, text
from windlass.errors import UsageError

VERSION = "4"
LABEL = "signal"


def parse(document: Any, namespace: str | None = None) -> tuple[tuple[Notice, ...], tuple[str, ...]]:
    """The alerts of a notification that are signals, and what is wrong with those that cannot be taken.

    One alert that is wrong must not keep the others of its group from being heard.

    Args:
        namespace: whose alerts are taken; None outside of a cluster, where alerts have none.

    Raises:
        UsageError: it is no such notification; the field, its value and the remedy are named.
    """
    if not isinstance(document, dict):
        raise UsageError("the body is no JSON object; send Alertmanager's webhook notification")
    version = document.get("version")
    if version != VERSION:
        raise UsageError(f"version = {version!r}: this reads version {VERSION!r} of Alertmanager's webhook")
    alerts = document.get("alerts")
    if not isinstance(alerts, list):
        raise UsageError(f"alerts = {alerts!r}: must be a list of alerts")
    notices: list[Notice] = []
    problems: list[str] = []
    for i, alert in enumerate(alerts):
        try:
            notices += _alert(alert, f"alerts[{i}]", namespace)
        except UsageError as error:
            problems.append(str(error))
    return tuple(notices), tuple(problems)


def _alert(alert: Any, path: str, namespace: str | None) -> list[Notice]:
    if not isinstance(alert, dict):
        raise UsageError(f"{path} = {alert!r}: must be an object")
    labels, annotations = (_texts(alert, name, path) for name in ("labels", "annotations"))
    if LABEL not in labels:
        return []
    if namespace is not None and labels.get("namespace") != namespace:
        raise UsageError(_stranger(labels.get("namespace"), f"{path}.labels.namespace", namespace))
    status = alert.get("status")
    if status not in ("firing", "resolved"):
        raise UsageError(f"{path}.status = {status!r}: must be firing or resolved")
    fingerprint = str(alert.get("fingerprint") or "")
    return [
        Notice(
            workload=text(labels.get("model"), f"{path}.labels.model"),
            kind=kind(labels[LABEL], f"{path}.labels.{LABEL}", incidents=True),
            champion=text(labels.get("version"), f"{path}.labels.version"),
            cause=None,
            since=moment(alert.get("startsAt"), f"{path}.startsAt"),
            ended=moment(alert.get("endsAt"), f"{path}.endsAt") if status == "resolved" else None,
            fingerprint=fingerprint,
            detail={
                "alert": labels.get("alertname", ""),
                FINGERPRINT: fingerprint,
                "labels": labels,
                "summary": annotations.get("summary", ""),
                "description": annotations.get("description", ""),
                "source": str(alert.get("generatorURL") or ""),
            },
        )
    ]


def _stranger(given: str | None, path: str, namespace: str) -> str:
    if given:
        return (
            f"{path} = {given!r}: this is the trigger of namespace {namespace!r}; let Alertmanager's route to it match "
            f"namespace={namespace!r}"
        )
    return (
        f"{path} is missing: this is the trigger of namespace {namespace!r}, and nobody says whose model the alert is "
        "about; scrape by the chart's monitors, which state it, and load the rules of this version"
    )


def _texts(alert: Mapping[str, Any], name: str, path: str) -> dict[str, str]:
    value = alert.get(name) or {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise UsageError(f"{path}.{name} = {value!r}: must be a mapping of texts")
    return value
