"""Planted bugs: each fits the source as it is, and the known failures of today's tools are found."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from serving.release.simulation import bugs
from serving.release.simulation.bugs import Bug
from serving.release.simulation.planted import BUGS

HUNT = """
import json, sys
from serving.release.simulation import bugs
from serving.release.simulation.planted import BUGS
for name in sys.argv[2:]:
    bugs.plant(next(bug for bug in BUGS if bug.name == name))
from serving.release.simulation.run import play
outcome = play(int(sys.argv[1]))
print(json.dumps([violation.invariant for violation in outcome.violations]))
"""


@pytest.mark.parametrize("bug", [pytest.param(bug, id=bug.name) for bug in BUGS])
def test_it_fits_the_source(bug):
    """Verify that the text it replaces is there once and that the result is Python."""
    compile(bugs.patched(bugs.source_of(bug).read_text(), bug), bug.name, "exec")


def test_there_are_enough_of_them_and_the_known_failures_are_among_them():
    assert len(BUGS) >= 40
    assert len({bug.name for bug in BUGS}) == len(BUGS)
    known = {bug.known.partition("#")[0] for bug in BUGS if bug.known}
    assert known == {"argoproj/argo-rollouts", "fluxcd/flagger", "kserve/kserve"}


def test_a_bug_whose_place_is_gone_says_so():
    with pytest.raises(ValueError, match=r"gone: serving\.release\.engine has 0 places for it"):
        bugs.patched("x = 1\n", Bug("gone", "engine", "x = 2", "x = 3"))


def test_a_bug_comes_too_late_where_the_engine_is_imported():
    import serving.release.engine  # noqa: F401

    with pytest.raises(RuntimeError, match="use a fresh process"):
        bugs.plant(next(bug for bug in BUGS if bug.module == "engine"))


def violated(seed, *planted):
    command = [sys.executable, "-c", HUNT, str(seed), *planted]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(found.stdout)


@pytest.mark.parametrize(
    ("name", "seed", "invariant"),
    [
        pytest.param(
            "a failing guardrail is announced and nothing follows", 6, "known harm is stopped", id="threshold"
        ),
        pytest.param("the act before the journal", 0, "journal before act", id="journal"),
        pytest.param(
            "nothing heard of an experiment is nothing found", 363, "no end without evidence", id="experiment"
        ),
        pytest.param(
            "nothing heard of a bandit is nothing found", 57, "no end without evidence", id="bandit"
        ),
        pytest.param("the champion keeps its hundred", 0, "traffic sums to 100", id="weights"),
    ],
)
def test_it_is_caught(name, seed, invariant):
    assert violated(seed) == []
    assert invariant in violated(seed, name)
