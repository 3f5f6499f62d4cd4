"""The dashboards are what their source writes, valid for Grafana, and ask only what exists."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.dashboards.__main__ import main
from monitoring.dashboards.document import DASHBOARDS, FOLDER, files
from monitoring.dashboards.panel import Dashboard
from monitoring.rules.programs import binary

ROOT = Path(__file__).parents[4]
# environments of tests are made one after the other: the first may wait for another worker's
pytestmark = pytest.mark.timeout(1800)
PANELS = [(dashboard, panel) for dashboard in DASHBOARDS for panel in dashboard.panels()]


def test_files_are_what_the_source_writes(tmp_path: Path) -> None:
    """Verify that nobody edited a generated dashboard, none is missing and none is left over."""
    assert {str(path.relative_to(ROOT)) for path in (ROOT / FOLDER).iterdir()} == set(files())
    assert main(["--out", str(ROOT), "--check"]) == 0
    assert main(["--out", str(tmp_path), "--check"]) == 1
    assert main(["--out", str(tmp_path)]) == 0
    for place in files():
        assert (tmp_path / place).read_bytes() == (ROOT / place).read_bytes()


Checked = Callable[[list[dict[str, Any]]], list[str]]


@pytest.fixture(scope="session")
def by_grafana() -> Checked:
    """What Grafana's own types say of dashboards; their environment is made where it is not there."""
    place = ROOT / ".tools" / "grafana"
    lock = ROOT / "requirements" / "grafana.lock"
    environment = ROOT / "requirements" / "environment.py"
    subprocess.run([sys.executable, environment, "--lock", lock, "--venv", place], check=True)

    def check(contents: list[dict[str, Any]]) -> list[str]:
        script = Path(__file__).parent / "grafana_types.py"
        ended = subprocess.run(
            [place / "bin" / "python", script],
            input=json.dumps(contents),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        found: list[str] = json.loads(ended.stdout)
        return found

    return check


def test_grafana_knows_every_field(by_grafana: Checked) -> None:
    """Verify that each dashboard is valid for Grafana's own types: no unknown key, no value of another type."""
    assert by_grafana([dashboard.document() for dashboard in DASHBOARDS]) == []


def changed(*path: str | int, value: Any) -> dict[str, Any]:
    content = copy.deepcopy(DASHBOARDS[0].document())
    place: Any = content
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return content


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        pytest.param(changed("colour", value="red"), "colour: not in Grafana's schema", id="unknown-key"),
        pytest.param(
            changed("schemaVersion", value="39"), "schema_version: '39' is no", id="text-for-a-number"
        ),
        pytest.param(
            changed("panels", 1, "gridPos", "w", value="wide"), "grid_pos.w: 'wide' is no", id="nested"
        ),
        pytest.param(
            changed("panels", 1, "options", "graphMode", value="pie"),
            "graph_mode: 'pie'",
            id="no-such-choice",
        ),
        pytest.param(
            changed("panels", 1, "targets", 0, "query", value="up"), "query: not in", id="unknown-in-a-query"
        ),
    ],
)
def test_grafanas_types_find_what_is_wrong(by_grafana: Checked, wrong: dict[str, Any], said: str) -> None:
    """Verify that the check can fail: a wrong dashboard is found, with the place."""
    assert any(said in problem for problem in by_grafana([wrong]))


def without_variables(expr: str, namespace: str = "") -> str:
    """PromQL as Grafana sends it: where no series has a namespace, the variable has none and is the empty text."""
    chosen = {"$__rate_interval": "5m", "$namespace": namespace, "$model": "flights", "$metric": "auc"}
    for variable, value in chosen.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr, expr
    return expr


def test_prometheus_parses_every_query(tmp_path: Path) -> None:
    """Verify, by promtool on each expression as a rule, that no panel asks what is no PromQL."""
    exprs = [without_variables(query.expr) for _, panel in PANELS for query in panel.queries]
    exprs += [
        without_variables(annotation["expr"])
        for dashboard in DASHBOARDS
        for annotation in dashboard.document()["annotations"]["list"]
    ]
    rules = [{"record": f"panel:{i}", "expr": expr} for i, expr in enumerate(exprs)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool = binary("promtool", ROOT / ".tools")
    ended = subprocess.run(
        [promtool, "check", "rules", tmp_path / "rules.yaml"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{len(exprs)} rules found" in ended.stdout


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_panels_lie_side_by_side(dashboard: Dashboard) -> None:
    """Verify that no two panels overlap, none leaves the grid, and each has a number of its own and a help text."""
    placed = dashboard.document()["panels"]
    assert len({panel["id"] for panel in placed}) == len(placed)
    taken: set[tuple[int, int]] = set()
    for panel in placed:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert all(panel.help and panel.queries for panel in dashboard.panels())


def evaluated(folder: Path, series: list[str], expected: list[dict[str, Any]]) -> None:
    """Hold what queries give, one minute after series of ones began, to what is expected."""
    test = {
        "interval": "1m",
        "input_series": [{"series": each, "values": "1x5"} for each in series],
        "promql_expr_test": [{"eval_time": "1m", **each} for each in expected],
    }
    (folder / "tests.yaml").write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
    promtool = binary("promtool", ROOT / ".tools")
    ended = subprocess.run(
        [promtool, "test", "rules", folder / "tests.yaml"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("namespace", [pytest.param("", id="one-machine"), "team-a"])
def test_what_all_models_share_rings_in_the_overview_of_each(tmp_path: Path, namespace: str) -> None:
    """Verify that a page about the collector is no silence there, and another model's alert is no noise, nor one about
    a model of that name, or a collector, of another namespace."""
    (count,) = (
        q.expr for _, p in PANELS if p.title == "Alerts that ring" and p.kind == "stat" for q in p.queries
    )
    (rows,) = (
        q.expr for _, p in PANELS if p.title == "Alerts that ring" and p.kind != "stat" for q in p.queries
    )
    firing = 'alertstate="firing"' + (f',namespace="{namespace}"' if namespace else "")
    foreign = 'alertstate="firing",namespace="team-b"'
    ringing = [
        'ALERTS{alertname="WindlassMetricsAbsent",alertstate="firing",severity="page"}',
        f'ALERTS{{alertname="WindlassCollectorStorage",{firing},severity="page"}}',
        f'ALERTS{{alertname="WindlassSkew",{firing},model="flights"}}',
        f'ALERTS{{alertname="WindlassQueueFull",{firing.replace("firing", "pending")},model="flights"}}',
        f'ALERTS{{alertname="WindlassLabelDrift",{firing},model="flights2"}}',
        f'ALERTS{{alertname="WindlassDataStale",{foreign},model="flights"}}',
        f'ALERTS{{alertname="WindlassCollectorBackpressure",{foreign}}}',
    ]
    names = ("WindlassCollectorStorage", "WindlassMetricsAbsent", "WindlassSkew")
    evaluated(
        tmp_path,
        ringing,
        [
            {
                "expr": without_variables(count, namespace),
                "exp_samples": [{"labels": "{}", "value": len(names)}],
            },
            {
                "expr": without_variables(rows, namespace),
                "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in names],
            },
        ],
    )


def test_no_panel_mixes_what_two_namespaces_have() -> None:
    """Verify that each series that a query asks for is of the chosen namespace, or is told apart by it."""
    for dashboard, panel in PANELS:
        for query in panel.queries:
            where = f"{dashboard.uid}: {panel.title}"
            asked = re.findall(r"(?:windlass_\w+|process_\w+|ALERTS)\b(?::[\w:]+)?(\{[^}]*\})?", query.expr)
            assert asked, where
            if not all('namespace="$namespace"' in each for each in asked) and "ALERTS" not in query.expr:
                assert query.expr.count(" by (namespace, ") == len(asked), where
                assert "{{namespace}}" in query.legend, where


def test_a_panel_shows_the_chosen_namespace(tmp_path: Path) -> None:
    """Verify in Prometheus that a team's weights and verdicts are its own, and those of one machine are found by the
    empty text."""
    series = [
        f'{name}{{{namespace}model="flights",version="{version}",check="skew",verdict="FAIL"}}'
        for namespace, version in (('namespace="team-a",', 3), ('namespace="team-b",', 4), ("", 5))
        for name in ("windlass_release_weight_percent", "windlass_verdict")
    ]
    (weights,) = (query.expr for _, p in PANELS if p.title == "Weights" for query in p.queries)
    (verdicts,) = (
        query.expr for _, p in PANELS if p.title == "Verdicts of the analysis" for query in p.queries
    )
    expected = [
        {
            "expr": without_variables(weights, namespace),
            "exp_samples": [{"labels": f'{{version="{version}"}}', "value": 1}],
        }
        for namespace, version in (("team-a", 3), ("team-b", 4), ("", 5))
    ]
    # a FAIL is drawn as 2
    expected += [
        {"expr": without_variables(verdicts, n), "exp_samples": [{"labels": '{check="skew"}', "value": 2}]}
        for n in ("team-a", "")
    ]
    expected += [{"expr": without_variables(verdicts, "team-c"), "exp_samples": []}]
    evaluated(tmp_path, series, expected)


def test_the_model_is_chosen_among_those_of_the_namespace() -> None:
    """Verify that the variables are chained: first the namespace, then its models."""
    for dashboard in DASHBOARDS:
        variables = {v["name"]: v for v in dashboard.document()["templating"]["list"]}
        assert list(variables)[:3] == ["datasource", "namespace", "model"]
        assert 'namespace="$namespace"' in variables["model"]["query"]["query"]
        assert "namespace=" not in variables["namespace"]["query"]["query"]


def test_a_missing_series_is_never_drawn_as_zero() -> None:
    """Verify that no query fills in what is unknown, and that gaps stay gaps."""
    for _, panel in PANELS:
        for query in panel.queries:
            assert not re.search(r"or\s+(on\(\)\s*)?vector\(|absent", query.expr), panel.title
        if panel.kind == "timeseries":
            assert panel.document(1, 0, 0)["fieldConfig"]["defaults"]["custom"]["spanNulls"] is False
