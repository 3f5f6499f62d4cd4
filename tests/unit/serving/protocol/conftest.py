"""Contracts of real bundles: of rows with and without features, and of tensors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import serving_bundles

from serving.runtime import bundle
from serving.runtime.app import Server
from serving.runtime.options import Options
from serving.runtime.repository import Loaded


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles by the names of their models; "store" is the online store."""
    folder = tmp_path_factory.mktemp("bundles")
    serving_bundles.write_store(folder / "online.db")
    return {
        "tumours": serving_bundles.plain(folder / "plain").folder,
        "flights": serving_bundles.with_features(folder / "features").folder,
        "kinds": serving_bundles.tensors(folder / "tensors"),
        "store": folder / "online.db",
    }


@dataclass(frozen=True)
class Made:
    """A server that does not listen, and what it was made of."""

    server: Server
    options: Options
    loop: asyncio.AbstractEventLoop

    @property
    def loaded(self) -> Loaded:
        """Its first model."""
        return next(iter(self.server.repository))


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture
def serve(folders: dict[str, Path], loop: asyncio.AbstractEventLoop) -> Iterator[Callable[..., Made]]:
    """Make a server of the named models; options may be given."""
    made: list[Made] = []

    def make(*models: str, **stated: object) -> Made:
        options = Options(port=0, online=f"sqlite:{folders['store']}", **stated)  # type: ignore[arg-type]
        made.append(Made(Server([bundle.load(folders[m]) for m in models], options, loop), options, loop))
        return made[-1]

    yield make
    for one in made:
        one.server.close()
