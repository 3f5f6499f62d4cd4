"""Which model `windlass up` serves when none is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from windlass.errors import UsageError, WindlassError
from windlass.local import up
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
