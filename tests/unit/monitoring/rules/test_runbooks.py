"""Each alert has a runbook whose commands exist: at three in the morning nobody looks up an option."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.rules import document
from windlass.cli.app import build_parser
from windlass.drill import catalogue
from windlass.errors import UsageError
from windlass.operator import orders

ROOT = Path(__file__).parents[4]
FOLDER = ROOT / "docs" / "runbooks"
ALERTS = document.alerts()
PAGES = [FOLDER / f"{alert.name}.md" for alert in ALERTS]
PARTS = ("**Means.**", "**Impact.**", "## Look", "## Act", "## Over when", "## Practise")
#: The tools of a cluster, of Prometheus and of the system that a runbook may name.
OTHERS = {"kubectl", "amtool", "timedatectl", "df"}
VERBS = {"get", "logs", "create", "describe", "patch", "top", "annotate", "exec"}
#: Commands of `windlass release` that change what is going on; the annotation of each on a cluster.
STEERING = {"pause", "resume", "promote", "abort", "rollback"}
VARIABLES = {"$MODEL": "flights", "$VERSION": "3", "$NS": "windlass"}


def commands(page: Path) -> Iterator[list[str]]:
    """The commands of a page, in its blocks and in its text, as the shell would split them."""
    text = page.read_text()
    lines = [
        line.strip() for block in re.findall(r"```bash\n(.*?)```", text, re.S) for line in block.splitlines()
    ]
    lines += re.findall(r"`(windlass [^`]+)`", re.sub(r"```bash\n.*?```", "", text, flags=re.S))
    for line in lines:
        if line and not re.match(r"[A-Z]+=", line):
            for variable, value in VARIABLES.items():
                line = line.replace(variable, value)
            yield shlex.split(line, comments=True)


def test_every_alert_has_its_page_and_no_page_is_left_over() -> None:
    """Verify that `runbook_url` of each alert leads somewhere."""
    assert {path.name for path in FOLDER.iterdir()} == {page.name for page in PAGES} | {"README.md"}
    index = (FOLDER / "README.md").read_text()
    assert [alert.name for alert in ALERTS if f"[{alert.name}]({alert.name}.md)" not in index] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_short_and_whole(page: Path) -> None:
    """Verify that it says what it means, where to look, what to do and when it is over, within two screens."""
    text = page.read_text()
    assert text.startswith(f"# {page.stem}\n")
    assert [part for part in PARTS if part not in text] == []
    assert len(text.splitlines()) < 90
    alert = next(a for a in ALERTS if a.name == page.stem)
    assert f"**{alert.severity}**" in text
    assert (f"signal `{alert.signal}`" in text) == (alert.signal is not None)
    assert any(command[0] == "windlass" for command in commands(page))
    assert any(command[0] == "kubectl" for command in commands(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_command_needs_is_set_before_it(page: Path) -> None:
    """Verify that no pasted command runs with a variable that stands for nothing: it would be about everything."""
    known: set[str] = set()
    for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.S):
        for line in block.splitlines():
            assert set(re.findall(r"\$([A-Z]+)", line)) <= known, line
            known |= set(re.findall(r"\b([A-Z]+)=", line))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_command_changes_more_than_it_names(page: Path) -> None:
    """Verify that what changes a cluster names its object: a selector would take the versions that stand idle too."""
    for command in commands(page):
        if command[0] == "kubectl" and not {"get", "logs", "describe", "top"} & set(command):
            assert not {"-l", "--selector", "--all"} & set(command), command


def on_cluster(command: list[str]) -> list[str] | None:
    """The command of `windlass` that kubectl runs in a pod, or that names a namespace; None of any other."""
    if command[0] == "kubectl" and "exec" in command:
        inside = command[command.index("--") + 1 :]
        return inside[2:] if inside[:3] == ["python3", "-m", "windlass"] else None
    return command if command[0] == "windlass" and "-n" in command else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_done_on_a_machine_is_done_on_a_cluster(page: Path) -> None:
    """Verify that no page sends somebody who is called about a cluster to this machine's platform: each release or
    retrain command stands beside the one that acts there, with the same options."""
    found = list(commands(page))
    there = [words[1:] for command in found if (words := on_cluster(command)) is not None]
    annotated = {
        (command[command.index("annotate") + 1], word)
        for command in found
        if command[0] == "kubectl" and "annotate" in command
        for word in command
        if word.startswith("windlass.dev/command=")
    }
    for command in found:
        if command[:2] == ["windlass", "retrain"]:
            assert command[1:] in there, command
        elif command[:2] == ["windlass", "release"] and "-n" not in command:
            action = command[2]
            if action in STEERING:
                assert [*command[1:], "-n", VARIABLES["$NS"]] in there, command
                assert ("releases.windlass.dev", f"windlass.dev/command={action}") in annotated, command
            else:
                looks = any(c[0] == "kubectl" and "releases.windlass.dev" in c for c in found)
                assert looks or any(words[:2] == command[1:3] for words in there), command
    for _, word in annotated:
        assert orders.parse(word.partition("=")[2])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_exist(page: Path) -> None:
    """Verify that each `windlass …` is taken by the real argument parser, and every other program is a known one."""
    parser = build_parser()
    for command in commands(page):
        if command[0] == "windlass":
            try:
                parser.parse_args(command[1:])
            except UsageError as error:
                pytest.fail(f"{shlex.join(command)}: {error}")
        elif command[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(f"{command[2]}.__main__"), command
        elif command[0] == "kubectl":
            assert VERBS & set(command), command
            inside = on_cluster(command)
            assert "exec" not in command or inside is not None, command
            if inside is not None:
                parser.parse_args(inside[1:])
        else:
            assert command[0] in OTHERS, command


@pytest.mark.parametrize(
    "page", [*PAGES, FOLDER / "README.md", ROOT / "docs" / "metrics.md"], ids=lambda page: page.stem
)
def test_links_lead_somewhere(page: Path) -> None:
    """Verify that no page sends a reader to a file that is not there."""
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []
    assert links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_named_tests_are_of_this_alert(page: Path) -> None:
    """Verify that the page names the file that tests its rule."""
    (named,) = re.findall(r"\((\.\./\.\./monitoring/rules/tests/\w+\.yaml)\)", page.read_text())
    assert f'alertname="{page.stem}"' in (page.parent / named).read_text()


DRILLS = [
    "drifted-feature",
    "dead-feature-store",
    "corrupt-model",
    "label-outage",
    "metrics-down",
    "slow-model",
    "disk-full",
    "clock-jump",
    "poisoned-partition",
    "double-trigger",
]


def test_pages_name_the_drills_that_play_them() -> None:
    """Verify that a page names drills that there are, and that the page of a drill's alert names the drill."""
    named = {
        command[2] for page in PAGES for command in commands(page) if command[:2] == ["windlass", "drill"]
    }
    assert named <= set(DRILLS)
    for drill in catalogue.DRILLS:
        assert drill.name in DRILLS
        for alert in drill.alert.split(", "):
            if alert.startswith("Windlass"):
                assert ["windlass", "drill", drill.name] in list(commands(FOLDER / f"{alert}.md"))


def test_next_commands_of_the_alerts_exist() -> None:
    """Verify that the command that an alert's own text names is taken too."""
    parser = build_parser()
    for alert in ALERTS:
        text = re.sub(
            r"\{\{ \$labels\.(\w+) \}\}", lambda m: {"model": "flights"}.get(m[1], "3"), alert.description
        )
        found = re.findall(r"`(windlass [^`]+)`", text)
        for command in found:
            try:
                parser.parse_args(shlex.split(command)[1:])
            except UsageError as error:
                pytest.fail(f"{alert.name}: `{command}`: {error}")
        assert found or "`timedatectl`" in text
