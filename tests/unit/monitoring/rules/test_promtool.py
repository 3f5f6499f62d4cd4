"""Every rule is tested by `promtool test rules` on monitoring/rules/tests/*.yaml, and those tests can fail."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import two_namespaces
import yaml

from monitoring.rules import document
from monitoring.rules.rule import Alert, Group, Recording

ROOT = Path(__file__).parents[4]
FILES = sorted((ROOT / "monitoring" / "rules" / "tests").glob("*.yaml"))
GROUPS = document.groups()
ALERTS = document.alerts()


def run(promtool: Path, file: Path) -> str:
    """What promtool finds wrong; empty where all holds."""
    ended = subprocess.run(
        [promtool, "test", "rules", file], capture_output=True, text=True, check=False, timeout=300
    )
    return "" if ended.returncode == 0 else (ended.stdout + ended.stderr or "it says nothing")


def agreed(promtool: Path, file: Path, passes: Callable[[str], bool] = lambda wrong: not wrong) -> str:
    """What promtool finds wrong, the first of three times that it passes, or the last.

    Its storage cuts blocks in the background of a test that spans more than 36 h, and now and then a series that begins
    just then loses its first sample (as in prometheus/prometheus#7699). A wrong rule is wrong each time.
    """
    for _ in range(3):
        if passes(wrong := run(promtool, file)):
            break
    return wrong


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_rules_hold(promtool: Path, file: Path) -> None:
    """Verify that each rule fires, does not fire just below, resolves, and knows absent data from good data."""
    assert agreed(promtool, file) == ""


@pytest.mark.parametrize(
    "file", [file for file in FILES if file.stem != "namespaces"], ids=lambda file: file.stem
)
def test_rules_hold_for_two_namespaces_with_a_model_of_one_name(
    promtool: Path, tmp_path: Path, file: Path
) -> None:
    """Verify that what is broken in one namespace rings for it alone, whatever the other's model of that name does."""
    content = yaml.safe_load(file.read_text())
    content["rule_files"] = [str(ROOT / "monitoring" / "rules" / "windlass.rules.yaml")]
    content["tests"] = list(two_namespaces.pairs(content["tests"]))
    assert content["tests"]
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(content))
    assert agreed(promtool, tmp_path / "tests.yaml") == ""


@pytest.mark.parametrize(
    "rule", [rule for group in GROUPS for rule in group.rules], ids=lambda rule: rule.name.replace(":", "-")
)
def test_what_is_aggregated_or_joined_is_so_by_namespace(rule: Alert | Recording) -> None:
    """Verify that no clause of a rule forgets whose model it is about."""
    clauses = re.findall(r"\b(?:by|on|without|ignoring) \(([^)]*)\)", rule.expr)
    assert all(clause.startswith("namespace") for clause in clauses)
    aggregated = re.findall(r"\b(?:sum|max|min|avg|count|group|topk)\b(?! by \()", rule.expr)
    assert aggregated == []


def expectations() -> Iterator[tuple[str, bool, dict[str, Any]]]:
    """(expression, whether it expects samples, the test) of all files."""
    for file in FILES:
        for test in yaml.safe_load(file.read_text())["tests"]:
            for expected in test["promql_expr_test"]:
                yield expected["expr"], bool(expected.get("exp_samples")), test


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_every_alert_has_a_firing_and_a_silent_case(alert: Alert) -> None:
    """Verify that no alert is left out, and that none is tested in one direction only."""
    asked = f'ALERTS{{alertname="{alert.name}",alertstate="firing"}}'
    assert {fires for expr, fires, _ in expectations() if expr == asked} == {True, False}


def test_every_recording_has_a_case() -> None:
    """Verify that each recorded series is asked for by name."""
    asked = " ".join(expr for expr, fires, _ in expectations() if fires)
    names = [rule.name for group in GROUPS for rule in group.rules if isinstance(rule, Recording)]
    assert [name for name in names if not re.search(re.escape(name) + r"\b", asked)] == []


FLIPPED = {">": "<", "<": ">", "==": "!="}


def mutants(alert: Alert) -> Iterator[tuple[str, Alert]]:
    """The alert with one thing wrong, and what that is."""
    expr = alert.expr
    for found in re.finditer(r" (>|<|==) (?=[\d.]+)", expr):
        yield (
            f"{found[1]} turned",
            replace(alert, expr=expr[: found.start(1)] + FLIPPED[found[1]] + expr[found.end(1) :]),
        )
    for limit in sorted(set(re.findall(r"(?<= [><] )[\d.]+(?![\d.]*\))|(?<= [><] )[\d.]+(?=\)| and)", expr))):
        if float(limit):
            for factor in (0.8, 1.2):
                moved = re.sub(rf"(?<= [><] ){re.escape(limit)}(?![\d.])", f"{float(limit) * factor:g}", expr)
                yield f"{limit} times {factor}", replace(alert, expr=moved)
    clauses = re.split(r"\nor\s", expr)
    for i in range(len(clauses) if len(clauses) > 1 else 0):
        yield f"without clause {i}", replace(alert, expr="\nor ".join(clauses[:i] + clauses[i + 1 :]))
    for i, clause in enumerate(clauses):
        without = re.sub(r" (and|unless on) .*?(\)?)$", r"\2" if " and " in clause else "", clause)
        if without != clause:
            yield (
                f"clause {i} without its condition",
                replace(alert, expr="\nor ".join([*clauses[:i], without, *clauses[i + 1 :]])),
            )
    for found in re.finditer(r"\n(and|unless) on .*", expr):
        yield f"without:{found[0]}", replace(alert, expr=expr[: found.start()] + expr[found.end() :])
    for i, found in enumerate(re.finditer(r"namespace(, )?", expr)):
        mixed = expr[: found.start()] + expr[found.end() :]
        yield f"namespaces mixed in clause {i}", replace(alert, expr=mixed)
    if alert.wait != "0m":
        yield "no wait", replace(alert, wait="0m")
    if alert.keep != "0m":
        yield "ends at once", replace(alert, keep="0m")
    if alert.signal:
        yield "no signal", replace(alert, signal=None)


def home(alert: Alert) -> Group:
    return next(group for group in GROUPS if alert in group.rules)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_a_wrong_alert_fails_its_tests(promtool: Path, tmp_path: Path, alert: Alert) -> None:
    """Verify that a turned comparison, a moved limit, a lost clause or a lost wait is found by the alert's tests.

    The mutants stand in one file of rules, each with a name of its own, and are held to the same expectations.
    """
    asked = f'ALERTS{{alertname="{alert.name}",alertstate="firing"}}'
    (source,) = (file for file in FILES if asked in file.read_text())
    changed = {f"{alert.name}Mutant{i}": found for i, found in enumerate(mutants(alert))}
    names = [alert.name, *changed]
    content = yaml.safe_load(source.read_text())
    content["rule_files"] = ["rules.yaml"]
    own = [
        {**test, "promql_expr_test": found}
        for test in content["tests"]
        if (found := [expected for expected in test["promql_expr_test"] if expected["expr"] == asked])
    ]
    # (an alert made of recorded series alone aggregates nothing itself)
    beside = two_namespaces.pairs(own) if "namespace" in alert.expr else ()
    content["tests"] = [
        {
            **test,
            "promql_expr_test": [
                renamed(kept, alert.name, name) for kept in test["promql_expr_test"] for name in names
            ],
        }
        for test in (*own, *beside)
    ]
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(content))
    group = home(alert)
    recorded = [r for g in GROUPS for r in g.rules if isinstance(r, Recording)]
    needed = [r for r in recorded if r.name in alert.expr]
    wrong = [replace(mutant, name=name) for name, (_, mutant) in changed.items()]
    small = replace(group, rules=(*needed, alert, *wrong))
    (tmp_path / "rules.yaml").write_text(document.text(document.rules((small,))))

    def failing(said: str) -> set[str]:
        return set(re.findall(r'expr: "ALERTS{[^}]*alertname=.\"(\w+)', said))

    said = agreed(promtool, tmp_path / "tests.yaml", lambda said: alert.name not in failing(said))
    failed = failing(said)
    assert failed, said  # promtool read the files, and found something
    assert alert.name not in failed, said
    assert [what for name, (what, _) in changed.items() if name not in failed] == []


def renamed(expected: dict[str, Any], name: str, other: str) -> dict[str, Any]:
    """The same expectation of an alert with another name."""
    copy: dict[str, Any] = yaml.safe_load(
        yaml.safe_dump(expected).replace(f'alertname="{name}"', f'alertname="{other}"')
    )
    return copy
