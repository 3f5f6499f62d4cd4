"""docs/metrics.md names what the code shows, no more and no less, and rules and dashboards ask for nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.parser import text_string_to_metric_families

from monitoring.analysis import exporter as analysis
from monitoring.collector.metrics import Metrics as CollectorMetrics
from monitoring.dashboards.document import DASHBOARDS
from monitoring.retrain.service.core import Service
from monitoring.retrain.service.metrics import Metrics as RetrainMetrics
from monitoring.rules import document
from monitoring.rules.rule import Recording
from serving.release.people.exporter import Families
from windlass.operator.metrics import Metrics as OperatorMetrics

ROOT = Path(__file__).parents[4]
#: Prometheus's own.
FOREIGN = {"up", "ALERTS"}
#: Labels of a histogram's series, and those that Prometheus gives a target's.
OF_TARGETS = {"le", "job", "instance", "namespace"}
NAME = re.compile(
    r"\b(?:model|model_version):windlass_\w+:\w+|\b(?:windlass|process)_[a-z0-9_]+|\bup\b|\bALERTS\b"
)
LABEL_NAMES = re.compile(r"\{[^}]*\}")


def table() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Metric -> (type, labels) as documented; a recorded series has the type "recorded"."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for line in (ROOT / "docs" / "metrics.md").read_text().splitlines():
        if row := re.fullmatch(r"\| `([^`]+)` \| (.*) \|", line):
            cells = [cell.strip() for cell in row[2].split(" | ")]
            kind, labels = ("recorded", cells[0]) if ":" in row[1] else (cells[0], cells[1])
            assert row[1] not in found, f"{row[1]} stands there twice"
            assert cells[-1].endswith("."), f"{row[1]} has no meaning"
            found[row[1]] = (kind, tuple(label for label in labels.split(", ") if label))
    return found


def shown(metrics: Iterable[Metric]) -> Iterator[tuple[str, str]]:
    for metric in metrics:
        if metric.name != "windlass_release" and not metric.name.endswith("_created"):
            yield metric.name + ("_total" if metric.type == "counter" else ""), metric.type


def by_code() -> dict[str, str]:
    """Metric -> type, of the registries themselves; of the model servers by their source, which writes its own text."""
    release = Families(CollectorRegistry(), namespaces=True).registry
    collector = CollectorMetrics(pending=float, wal_bytes=float, lag=float, storage_ok=float).registry
    trigger = RetrainMetrics(Service({}, print))
    operator = OperatorMetrics()
    operator.show_phases(lambda: {"Pending": 1})
    pages = (release, collector, trigger, operator.registry)
    found = dict(shown(metric for page in pages for metric in page.collect()))
    found |= dict.fromkeys(analysis.FAMILIES, "gauge")
    source = (ROOT / "serving" / "runtime" / "metrics.py").read_text()
    found |= dict(re.findall(r'"((?:windlass|process)_\w+)",\s*"(counter|gauge|histogram)"', source))
    return found


def test_the_page_names_what_the_code_shows() -> None:
    """Verify that each documented metric is shown by code with that type, and none is shown undocumented."""
    documented = {name: kind for name, (kind, _) in table().items() if kind != "recorded"}
    assert documented == by_code()
    assert len(documented) > 60


def test_the_page_names_what_the_rules_record() -> None:
    """Verify that recorded series stand there too."""
    recorded = {r.name for group in document.groups() for r in group.rules if isinstance(r, Recording)}
    assert {name for name, (kind, _) in table().items() if kind == "recorded"} == recorded


def test_labels_of_the_analysis_are_as_documented() -> None:
    """Verify the labels where the code states them as data."""
    documented = table()
    assert {name: documented[name][1] for name in analysis.FAMILIES} == {
        name: labels for name, (_, labels) in analysis.FAMILIES.items()
    }


def test_labels_of_a_page_are_as_documented() -> None:
    """Verify the labels of the collector's, the operator's and the release engine's families, which know theirs."""
    documented = table()
    operator = OperatorMetrics()
    operator.show_phases(lambda: {"Pending": 1})
    operator.turned("release", 0.1, 0.0)
    operator.failed("release")
    operator.asked("get", "200")
    for registry in (
        operator.registry,
        Families(CollectorRegistry(), namespaces=True).registry,
        CollectorMetrics(pending=float, wal_bytes=float, lag=float, storage_ok=float).registry,
    ):
        for metric in registry.collect():
            name = metric.name + ("_total" if metric.type == "counter" else "")
            for sample in metric.samples:
                if name in documented and not sample.name.endswith("_created"):
                    assert set(sample.labels) - {"le"} == set(documented[name][1]), name


def base(name: str) -> str:
    """A histogram's name for one of its series."""
    for suffix in ("_bucket", "_count", "_sum"):
        if name.endswith(suffix) and name.removesuffix(suffix) in table():
            return name.removesuffix(suffix)
    return name


def asked() -> Iterator[tuple[str, str]]:
    """(where, metric) of every expression of rules and dashboards."""
    for group in document.groups():
        for rule in group.rules:
            for name in NAME.findall(LABEL_NAMES.sub("", rule.expr)):
                yield rule.name, name
    for dashboard in DASHBOARDS:
        for panel in dashboard.panels():
            for query in panel.queries:
                for name in NAME.findall(LABEL_NAMES.sub("", query.expr)):
                    yield f"{dashboard.uid}: {panel.title}", name


def test_rules_and_dashboards_ask_for_documented_metrics() -> None:
    """Verify that no alert waits for a series that nobody shows: it could never ring."""
    known = set(table()) | FOREIGN
    unknown = {(where, name) for where, name in asked() if base(name) not in known}
    assert unknown == set()
    assert len({name for _, name in asked()}) > 40


def test_rules_ask_for_documented_labels() -> None:
    """Verify that each selector of rules and dashboards uses labels that its metric has."""
    documented = table()
    wrong = []
    exprs = [rule.expr for group in document.groups() for rule in group.rules]
    exprs += [query.expr for d in DASHBOARDS for panel in d.panels() for query in panel.queries]
    for expr in exprs:
        for name, selector in re.findall(r"((?:windlass|process)_[a-z0-9_]+)\{([^}]*)\}", expr):
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) - OF_TARGETS
            if not labels <= set(documented[base(name)][1]):
                wrong.append((name, selector))
    assert wrong == []


@pytest.mark.parametrize("alert", document.alerts(), ids=lambda alert: alert.name)
def test_the_page_lists_every_alert(alert: document.Alert) -> None:
    """Verify that each alert stands there with its severity and signal."""
    line = f"| [{alert.name}](runbooks/{alert.name}.md) | {alert.severity} | {alert.signal or ''} |"
    assert line in (ROOT / "docs" / "metrics.md").read_text()


def test_the_latency_objective_is_a_bucket_of_a_real_page() -> None:
    """Verify that the bound of the latency rules is written by a model server just as the rules ask for it."""
    from serving.runtime.metrics import Metrics

    metrics = Metrics()
    metrics.of("flights", "3").assigned.answered("v2", 200, 0.01)
    (family,) = (
        family
        for family in text_string_to_metric_families(metrics.page(()).decode())
        if family.name == "windlass_request_seconds"
    )
    bounds = {sample.labels["le"] for sample in family.samples if sample.name.endswith("_bucket")}
    within = re.search(r'le="([\d.]+)"', next(r.expr for r in document.groups()[0].rules if "slow" in r.name))
    assert within is not None and within[1] in bounds
