"""Which model `windlass up` serves: the one of a plane that is taken over, the named one, the only one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.release.envoy.config import ModelRoute, Routing
from serving.release.envoy.files import EnvoyFiles
from windlass.errors import UsageError, WindlassError
from windlass.local import up
from windlass.local.plane import DataPlane, Plan
from windlass.settings import Settings


class Champions:
    """What a registry answers; `up` asks it nothing else here."""

    def __init__(self, **versions: str) -> None:
        self._versions = versions

    def champion(self, model: str) -> str | None:
        return self._versions.get(model)


def chosen(project: Path, **versions: str) -> str:
    place = project / "workloads" / "orders"
    place.mkdir(parents=True)
    (place / "workload.py").write_text("")
    registry: Any = Champions(**versions)
    return up._only_one(Settings(home=project / "home", project=project), registry)


def test_the_only_champion_is_served(tmp_path: Path) -> None:
    assert chosen(tmp_path, orders="3") == "orders"


def test_of_several_one_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"flights, orders have a champion; .*windlass up flights"):
        chosen(tmp_path, orders="3", flights="1")


def test_without_a_champion_the_remedy_is_training(tmp_path: Path) -> None:
    with pytest.raises(WindlassError, match=r"known: flights, orders\); train one first: `windlass train "):
        chosen(tmp_path)


class Down:
    """A registry that does not answer."""

    def champion(self, model: str) -> str | None:
        raise OSError("the database is gone")


def model(home: Settings, named: str | None, served: list[str]) -> str:
    routes = {name: ModelRoute(stable="1") for name in served}
    EnvoyFiles(home.run_dir / "envoy").desire(Routing(models=routes))
    registry: Any = Down()
    return up._model(home, registry, named)


def test_a_plane_that_serves_names_its_model(tmp_path: Path) -> None:
    """Verify that a takeover asks no registry, and refuses another model than the one that is served."""
    home = Settings(home=tmp_path, project=tmp_path)
    DataPlane(home).begin(Plan("python", "/", "/", "/", "sqlite:none", "none"))
    assert model(home, None, ["orders"]) == model(home, "orders", ["orders"]) == "orders"
    with pytest.raises(UsageError, match="serves orders, not flights; `windlass down`"):
        model(home, "flights", ["orders"])


def test_without_a_registry_the_last_model_is_served_again(tmp_path: Path) -> None:
    """Verify that a start from nothing goes by what was served last, where that is one model."""
    home = Settings(home=tmp_path, project=tmp_path)
    assert model(home, None, ["orders"]) == "orders"
    with pytest.raises(OSError, match="the database is gone"):
        model(home, None, ["flights", "orders"])
