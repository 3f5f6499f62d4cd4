"""Alerts reach whom they are for: the shipped configuration, judged by amtool and by a real Alertmanager."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.alertmanager import configuration, read
from monitoring.rules import document
from monitoring.rules.programs import binary
from monitoring.rules.rule import Alert
from monitoring.rules.watch import Watch, watching

FILE = Path("monitoring") / "alertmanager" / "alertmanager.yml"
WAIT_S = 60.0
WHERE = {"page": "pages", "ticket": "tickets", "info": "nobody"}


@pytest.fixture(scope="module")
def amtool() -> Path:
    return binary("amtool", Path(__file__).parents[4] / ".tools")


def test_alertmanager_takes_the_file(project: Path, amtool: Path) -> None:
    """Verify that amtool finds it valid, with all its receivers and inhibitions."""
    ended = subprocess.run(
        [amtool, "check-config", project / FILE], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "4 receivers" in ended.stdout and "7 inhibit rules" in ended.stdout


@pytest.mark.parametrize("alert", document.alerts(), ids=lambda alert: alert.name)
def test_an_alert_goes_where_it_belongs(project: Path, amtool: Path, alert: Alert) -> None:
    """Verify that a page calls, a ticket waits, an info is silent, and a signal reaches the trigger besides."""
    receivers = ["retrain-trigger"] * bool(alert.signal) + [WHERE[alert.severity]]
    labels = {"alertname": alert.name, "model": "flights", "version": "3", **alert.labels}
    ended = subprocess.run(
        [
            *(amtool, "config", "routes", "test", f"--config.file={project / FILE}"),
            f"--verify.receivers={','.join(receivers)}",
            *(f"{name}={value}" for name, value in labels.items()),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_signal_without_its_model_is_not_sent_to_the_trigger(project: Path, amtool: Path) -> None:
    """Verify that what the trigger could not read goes to people alone."""
    ended = subprocess.run(
        [
            amtool,
            "config",
            "routes",
            "test",
            f"--config.file={project / FILE}",
            "severity=ticket",
            "signal=dataQuality",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.strip() == "tickets"


def test_nothing_secret_stands_in_it(project: Path) -> None:
    """Verify that secrets come from files: no key of the configuration holds one itself."""
    secret = {"credentials", "password", "api_key", "routing_key", "service_key", "api_url", "bearer_token"}

    def keys(value: object) -> Iterator[str]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield str(key)
                yield from keys(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from keys(inner)

    found = set(keys(read()))
    assert "credentials_file" in found
    assert not found & secret


def test_a_hurried_configuration_changes_addresses_and_times_only(tmp_path: Path) -> None:
    """Verify that a drill has the shipped routes and inhibitions."""
    hurried = configuration("http://127.0.0.1:1/alertmanager", tmp_path / "token", wait="2s")
    shipped = read()
    assert hurried["inhibit_rules"] == shipped["inhibit_rules"]
    for one, other in zip(
        (shipped["route"], *shipped["route"]["routes"]),
        (hurried["route"], *hurried["route"]["routes"]),
        strict=True,
    ):
        assert one.get("matchers") == other.get("matchers") and one["receiver"] == other["receiver"]
        assert other["group_wait"] == "2s"


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    folder = tmp_path_factory.mktemp("alertmanager")
    (folder / "token").write_text("unused")
    tools = Path(__file__).parents[4] / ".tools"
    with watching(
        folder, {}, webhook="http://127.0.0.1:9/alertmanager", token_file=folder / "token", tools=tools
    ) as w:
        yield w


NAMES = [(rule["source_matchers"], rule["target_matchers"]) for rule in read()["inhibit_rules"]]


def names(matchers: list[str]) -> list[str]:
    (found,) = (m for m in matchers if m.startswith("alertname"))
    return found.partition('"')[2].strip('"').split("|")


def test_no_page_is_silenced() -> None:
    """Verify that whatever rings, a page is heard: what silences it may be about another version, or another part."""
    pages = {alert.name for alert in document.alerts() if alert.severity == "page"}
    assert pages and pages.isdisjoint(name for _, targets in NAMES for name in names(targets))


@pytest.mark.parametrize("place", range(len(NAMES)), ids=[names(source)[0] for source, _ in NAMES])
def test_a_cause_silences_what_follows_from_it(watch: Watch, place: int) -> None:
    """Verify each inhibition in a real Alertmanager: what follows is suppressed for that model and for no other, nor
    for a model of that name in another namespace; and that it works where there are no namespaces."""
    source, targets = names(NAMES[place][0]), names(NAMES[place][1])
    known = {alert.name for alert in document.alerts()}
    assert {*source, *targets} <= known
    of_all = "model" not in read()["inhibit_rules"][place]["equal"]
    ours, theirs, elsewhere, other = f"team{place}", f"theirs{place}", f"away{place}", f"other{place}"
    # an alert of the cause for (namespace, model); what follows from it is posted everywhere
    causes = [(ours, "flights"), ("", f"local{place}")]
    places = [*causes, (theirs, "flights"), (ours, other), ("", elsewhere)]

    def alert(name: str, where: tuple[str, str]) -> dict[str, object]:
        severity = next(a.severity for a in document.alerts() if a.name == name)
        namespace, model = where
        labels = {"alertname": name, "model": model, "version": "3", "severity": severity, "case": str(place)}
        return {"labels": {**labels, **({"namespace": namespace} if namespace else {})}}

    posted = [alert(source[0], where) for where in causes]
    posted += [alert(name, where) for name in targets for where in places]
    request = urllib.request.Request(  # noqa: S310
        f"{watch.alertmanager}/api/v2/alerts",
        json.dumps(posted).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        assert answer.status == 200
    filtered = f"{watch.alertmanager}/api/v2/alerts?filter=case%3D%22{place}%22"

    def states() -> dict[tuple[str, str, str], str]:
        with urllib.request.urlopen(filtered, timeout=10) as answer:  # noqa: S310
            told = json.load(answer)
        return {
            (a["labels"]["alertname"], a["labels"].get("namespace", ""), a["labels"]["model"]): a["status"][
                "state"
            ]
            for a in told
        }

    # the source itself may be told later; only what it silences is asked for
    silenced = [*causes, *([(ours, other), ("", elsewhere)] if of_all else [])]
    expected = {(name, *where) for name in targets for where in silenced}
    deadline = time.monotonic() + WAIT_S
    while {at for at, state in states().items() if state == "suppressed"} != expected:
        assert time.monotonic() < deadline, states()
        time.sleep(0.05)


def test_a_notification_is_about_one_namespace() -> None:
    """Verify that no route groups what two teams have by one name."""
    shipped = read()["route"]
    groups = [route["group_by"] for route in (shipped, *shipped["routes"]) if "group_by" in route]
    assert len(groups) == 2 and all("namespace" in group for group in groups)
    assert all("namespace" in rule["equal"] for rule in read()["inhibit_rules"])
