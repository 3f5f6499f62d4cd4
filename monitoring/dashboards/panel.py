"""A panel: what it asks and how it is drawn, before it is Grafana's JSON.

A panel shows what is known and nothing else: no query turns a missing series into a zero, and gaps stay gaps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["timeseries", "stat", "state-timeline", "status-history", "table"]

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
#: What a query is about. On one machine the namespace is the empty text, which matches series that have none.
TEAM = 'namespace="$namespace"'
OF = f'{TEAM},model="$model"'
GOOD, WARN, BAD, PLAIN = "green", "orange", "red", "blue"


@dataclass(frozen=True)
class Query:
    """PromQL and the name of its series, `{{label}}` filled in by Grafana."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        help: what it shows and when to worry; behind the "i" of the panel.
        unit: Grafana's name of a unit.
        limits: (from this value on, colour), ascending; the first colour of all is `base`.
        states: (value, text, colour) where values are states.
        width, height: of a grid that is 24 wide.
        absent: what is shown where no series is.
    """

    title: str
    kind: Kind
    queries: tuple[Query, ...]
    help: str
    unit: str = "short"
    base: str = PLAIN
    limits: tuple[tuple[float, str], ...] = ()
    states: tuple[tuple[float, str, str], ...] = ()
    width: int = 12
    height: int = 8
    low: float | None = None
    high: float | None = None
    absent: str = "no data"

    def document(self, number: int, x: int, y: int) -> dict[str, Any]:
        """Grafana's JSON of the panel at a place of the grid."""
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.help,
            "datasource": DATASOURCE,
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "targets": [self._target(query, chr(ord("A") + i)) for i, query in enumerate(self.queries)],
            "fieldConfig": {"defaults": self._defaults(), "overrides": []},
            "options": _OPTIONS[self.kind],
            **self._transformations(),
        }

    def _target(self, query: Query, name: str) -> dict[str, Any]:
        at_once = self.kind in ("stat", "table")
        return {
            "refId": name,
            "datasource": DATASOURCE,
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "instant": at_once,
            "range": not at_once,
            **({"format": "table"} if self.kind == "table" else {}),
        }

    def _defaults(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "unit": self.unit,
            "noValue": self.absent,
            "color": {"mode": "thresholds" if self.kind != "timeseries" else "palette-classic"},
            "thresholds": {
                "mode": "absolute",
                "steps": [
                    {"color": self.base, "value": None},
                    *({"color": color, "value": value} for value, color in self.limits),
                ],
            },
            "custom": _CUSTOM[self.kind] if not self._marks() else {**_CUSTOM[self.kind], **_MARKED},
        }
        if self.low is not None:
            found["min"] = self.low
        if self.high is not None:
            found["max"] = self.high
        if self.states:
            found["mappings"] = [
                {
                    "type": "value",
                    "options": {
                        f"{value:g}": {"text": text, "color": color, "index": i}
                        for i, (value, text, color) in enumerate(self.states)
                    },
                }
            ]
        return found

    def _marks(self) -> bool:
        return self.kind == "timeseries" and bool(self.limits)

    def _transformations(self) -> dict[str, Any]:
        if self.kind != "table":
            return {}
        hidden = {
            "Time": True,
            "__name__": True,
            "instance": True,
            "job": True,
            "model": True,
            "namespace": True,
        }
        options = {"excludeByName": hidden, "indexByName": {}, "renameByName": {}}
        return {"transformations": [{"id": "organize", "options": options}]}


_LEGEND = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
_TOOLTIP = {"mode": "multi", "sort": "desc"}
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "timeseries": {"legend": _LEGEND, "tooltip": _TOOLTIP},
    "stat": {
        "reduceOptions": {"values": False, "calcs": ["lastNotNull"], "fields": ""},
        "orientation": "auto",
        "textMode": "auto",
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
    },
    "state-timeline": {
        "showValue": "never",
        "rowHeight": 0.9,
        "mergeValues": True,
        "legend": _LEGEND,
        "tooltip": {"mode": "single", "sort": "none"},
    },
    "status-history": {
        "showValue": "never",
        "rowHeight": 0.9,
        "legend": {**_LEGEND, "showLegend": False},
        "tooltip": {"mode": "single", "sort": "none"},
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
}
_CUSTOM: Mapping[str, Mapping[str, Any]] = {
    "timeseries": {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 8,
        "showPoints": "never",
        "spanNulls": False,
    },
    "stat": {},
    "state-timeline": {"lineWidth": 0, "fillOpacity": 80},
    "status-history": {"lineWidth": 1, "fillOpacity": 80},
    "table": {"align": "auto"},
}
_MARKED = {"thresholdsStyle": {"mode": "dashed"}}


@dataclass(frozen=True)
class Dashboard:
    """One dashboard.

    Attributes:
        uid: its address in Grafana, stable.
        rows: (title, its panels), laid out from left to right.
        choices: further variables: (name, values), the first one chosen.
    """

    uid: str
    title: str
    description: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]
    since: str = "now-24h"
    choices: tuple[tuple[str, tuple[str, ...]], ...] = field(default_factory=tuple)

    def panels(self) -> list[Panel]:
        return [panel for _, panels in self.rows for panel in panels]

    def document(self) -> dict[str, Any]:
        """Grafana's JSON."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["windlass"],
            "timezone": "utc",
            "editable": False,
            "graphTooltip": 1,
            "schemaVersion": 39,
            "version": 1,
            "refresh": "1m",
            "time": {"from": self.since, "to": "now"},
            "annotations": {"list": [_releases()]},
            "links": [
                {
                    "title": "windlass",
                    "type": "dashboards",
                    "tags": ["windlass"],
                    "asDropdown": True,
                    "includeVars": True,
                    "keepTime": True,
                    "targetBlank": False,
                    "icon": "external link",
                    "tooltip": "",
                    "url": "",
                }
            ],
            "templating": {
                "list": [
                    _source(),
                    _namespaces(),
                    _models(),
                    *(_choice(name, values) for name, values in self.choices),
                ]
            },
            "panels": self._layout(),
        }

    def _layout(self) -> list[dict[str, Any]]:
        placed: list[dict[str, Any]] = []
        y = 0
        for title, panels in self.rows:
            row = {"id": len(placed) + 1, "type": "row", "title": title, "collapsed": False, "panels": []}
            placed.append({**row, "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}})
            y, x, height = y + 1, 0, 0
            for panel in panels:
                if x + panel.width > 24:
                    y, x, height = y + height, 0, 0
                placed.append(panel.document(len(placed) + 1, x, y))
                x, height = x + panel.width, max(height, panel.height)
            y += height
        return placed


def _releases() -> dict[str, Any]:
    return {
        "name": "A release was decided",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "blue",
        "expr": f"changes(windlass_release_last_decision_timestamp_seconds{{{OF}}}[2m]) > 0",
    }


def _source() -> dict[str, Any]:
    return {
        "name": "datasource",
        "type": "datasource",
        "label": "Prometheus",
        "query": "prometheus",
        "refresh": 1,
    }


#: A model is known by what it answers or by its analysis, whichever is there.
_KNOWN = '__name__=~"windlass_requests_total|windlass_verdict",model!=""'


def _namespaces() -> dict[str, Any]:
    """Of a cluster; where no series has one there is nothing to choose, and Grafana fills in the empty text."""
    return _values("namespace", f"label_values({{{_KNOWN}}}, namespace)")


def _models() -> dict[str, Any]:
    return _values("model", f"label_values({{{_KNOWN},{TEAM}}}, model)")


def _values(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "label": name.capitalize(),
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
    }


def _choice(name: str, values: Sequence[str]) -> dict[str, Any]:
    return {
        "name": name,
        "type": "custom",
        "label": name.capitalize(),
        "query": ",".join(values),
        "current": {"text": values[0], "value": values[0], "selected": True},
        "options": [{"text": v, "value": v, "selected": v == values[0]} for v in values],
    }
