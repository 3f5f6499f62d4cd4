"""Which version a starting platform serves, whatever the registry says or does not say."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from serving.release.envoy.config import ModelRoute, Routing
from serving.release.envoy.files import EnvoyFiles
from serving.release.journal import mailbox
from serving.release.journal.mailbox import Order
from windlass.errors import WindlassError
from windlass.local import in_force
from windlass.local.plane import DataPlane, Plan
from windlass.settings import Settings

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", project=tmp_path)


def broken(model: str) -> str | None:
    raise OSError("the database is gone")


def says(version: str | None) -> Callable[[str], str | None]:
    return lambda model: version


def served(home: Settings, stable: str, *, now: bool = False) -> None:
    """`stable` had all the traffic of a plane that still is, or of one that was ended."""
    EnvoyFiles(home.run_dir / "envoy").desire(Routing(models={"flights": ModelRoute(stable=stable)}))
    bundle = home.bundles_dir / "flights" / stable / "serving.json"
    bundle.parent.mkdir(parents=True)
    bundle.write_text("{}")
    if now:
        DataPlane(home).begin(Plan("python", "/", "/", "/", "sqlite:none", "none", as_of=5.0))


@pytest.mark.parametrize(
    ("stable", "now", "ask", "version"),
    [
        pytest.param(None, False, says("13"), "13", id="from-nothing-the-registry"),
        pytest.param("12", False, says("13"), "13", id="after-an-orderly-end-the-registry"),
        pytest.param("12", True, says("13"), "12", id="what-is-in-force-before-the-registry"),
        pytest.param("12", True, broken, "12", id="what-is-in-force-asks-nobody"),
        pytest.param("12", False, broken, "12", id="the-registry-is-down"),
        pytest.param("12", False, says(None), "12", id="the-registry-was-moved-away"),
        pytest.param(None, False, says(None), None, id="nobody-knows"),
    ],
)
def test_what_is_in_force_comes_first(
    home: Settings, stable: str | None, now: bool, ask: in_force.Ask, version: str | None
) -> None:
    """Verify whose word counts, and that a person is told where the registry's was not to be had."""
    if stable is not None:
        served(home, stable, now=now)
    found = in_force.version(home, "flights", ask)
    assert (found.version if found else None) == version
    unusual = stable is not None and not now and version == stable
    assert (found is not None and found.warning is not None) == unusual


def test_an_order_that_waits_comes_before_all(home: Settings) -> None:
    """Verify that the newest rollback that no engine has carried out decides."""
    served(home, "13", now=True)
    for minute, to in enumerate(("11", "12")):
        at = NOW.replace(minute=minute)
        mailbox.order(mailbox.commands(home), Order("flights", "rollback", "ada", at.isoformat(), to), at)
    mailbox.order(mailbox.commands(home), Order("taxis", "rollback", "ada", NOW.isoformat(), "3"), NOW)
    found = in_force.version(home, "flights", says("13"))
    assert found == in_force.InForce("12")


def test_with_nothing_known_the_registrys_failure_is_said(home: Settings) -> None:
    with pytest.raises(WindlassError, match=r"the database is gone.*windlass doctor"):
        in_force.version(home, "flights", broken)


def test_a_bundle_that_is_not_there_is_not_served(home: Settings) -> None:
    """Verify that the last version is no fallback where its files are gone."""
    EnvoyFiles(home.run_dir / "envoy").desire(Routing(models={"flights": ModelRoute(stable="12")}))
    assert in_force.version(home, "flights", says(None)) is None


def test_the_clock_of_a_plane_is_kept_without_the_registry(home: Settings) -> None:
    """Verify that "now" stays where it stood, for a plane that is and for the one after it."""
    served(home, "12", now=True)
    workload: Any = None  # only a registry that answers is asked about it
    assert in_force.clock(home, workload, "12") == datetime.fromtimestamp(5.0, UTC)
    plane = DataPlane(home)
    assert plane.end() == []
    assert not plane.exists()
    last = plane.last_plan()
    assert last is not None
    assert last.as_of == 5.0
    assert json.loads((home.run_dir / "plane-last.json").read_text())["as_of"] == 5.0
