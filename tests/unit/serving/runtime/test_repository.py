"""Models come and go while others answer."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from row_contracts import numbers

from serving.runtime import loading
from serving.runtime.flow.call import Asked, Call
from serving.runtime.metrics import Metrics
from serving.runtime.options import Options
from serving.runtime.refusal import NotFound
from serving.runtime.repository import Loaded, Repository
from serving.runtime.signature import doubles
from windlass.errors import UsageError, WindlassError

from .conftest import write_bundle

INPUTS = [{"name": f"f{i}", "view": None} for i in range(5)]


def shelve(folder: Path, version: str, model: str = "flights", place: str | None = None) -> Path:
    """Put a version of a model of five sent numbers into a repository's folder."""
    target = folder / model / (place or version)
    target.parent.mkdir(parents=True, exist_ok=True)
    return write_bundle(
        target, model=model, version=version, inputs=INPUTS, views=[], entities=[], feature_service=""
    )


class Bench:
    """A repository, and how often it said that it changed."""

    def __init__(self, folder: Path | None) -> None:
        self.changes = 0
        self.options = Options(port=0, repository=folder)
        self.loop = asyncio.get_running_loop()
        self.metrics = Metrics()
        self.repository = Repository(folder, self.open, self._changed)
        self.threads: set[str] = set()

    def open(self, folder: Path) -> Loaded:
        self.threads.add(threading.current_thread().name)
        return loading.loaded(loading.verified(folder, self.options), self.options, self.loop, self.metrics)

    def _changed(self) -> None:
        self.changes += 1

    @property
    def versions(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for loaded in self.repository:
            found.setdefault(loaded.model, []).append(loaded.version)
        return found


def run(folder: Path | None, test: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        bench = Bench(folder)
        try:
            await test(bench)
        finally:
            bench.repository.close()

    uvloop.run(main())


@pytest.mark.parametrize(
    ("versions", "newest"),
    [
        pytest.param(["1", "9", "10"], "10", id="numbers-by-value"),
        pytest.param(["2", "beta", "zeta"], "2", id="a-number-before-names"),
        pytest.param(["a", "b"], "b", id="names-by-the-alphabet"),
    ],
)
def test_the_newest_version_is_loaded_where_none_is_named(
    tmp_path: Path, versions: list[str], newest: str
) -> None:
    """Verify which version answers, that it was opened beside the event loop, and that the change was told."""
    for version in versions:
        shelve(tmp_path, version)

    async def test(bench: Bench) -> None:
        loaded = await bench.repository.load("flights")
        assert loaded.version == newest
        assert bench.repository.find("flights") is loaded
        assert bench.repository.find("flights", newest) is loaded
        assert threading.current_thread().name not in bench.threads
        assert bench.changes == 1

    run(tmp_path, test)


def test_a_version_takes_the_place_of_those_before_it(tmp_path: Path) -> None:
    """Verify that the next request gets the new version, and the old one answers what it has before it is closed."""
    for version in ("1", "2"):
        shelve(tmp_path, version)

    async def test(bench: Bench) -> None:
        old = await bench.repository.load("flights", "1")
        answers: list[str] = []

        def reply(call: Call) -> None:
            assert call.outcome.problem is None
            answers.append(call.context)

        def ask(loaded: Loaded) -> None:
            call = Call(Asked(1, values=doubles([0.0] * 5)), "id", 0.0, math.inf, 0.0, reply, loaded.version)
            call.deadline = bench.loop.time() + 60
            assert numbers(call.asked) == [[0.0] * 5]
            loaded.lane.submit(call)

        loading_new = bench.loop.create_task(bench.repository.load("flights", "2"))
        while not loading_new.done():
            ask(bench.repository.find("flights"))
            await asyncio.sleep(0)
        ask(old)
        ask(bench.repository.find("flights"))
        while old.lane.pending:
            await asyncio.sleep(0)
        assert bench.versions == {"flights": ["2"]}
        assert set(answers[:-1]) <= {"1", "2"} and answers[-1] == "2"
        while bench.repository._leaving:
            await asyncio.sleep(0.001)

    run(tmp_path, test)


def test_what_cannot_be_loaded_leaves_what_answers(tmp_path: Path) -> None:
    """Verify that a broken bundle, and one of another model, are refused while the version before them stays."""
    shelve(tmp_path, "1")
    shelve(tmp_path, "2")
    (tmp_path / "flights" / "2" / "model.onnx").write_bytes(b"changed")
    shelve(tmp_path, "4", place="3")

    async def test(bench: Bench) -> None:
        loaded = await bench.repository.load("flights", "1")
        for version, problem in (("2", "changed after registration"), ("3", "holds flights version 4")):
            with pytest.raises(WindlassError, match=problem):
                await bench.repository.load("flights", version)
        assert list(bench.repository) == [loaded]
        assert bench.changes == 1

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("model", "version"),
    [
        pytest.param("trains", None, id="model"),
        pytest.param("flights", "9", id="version"),
        pytest.param("..", None, id="above-the-folder"),
        pytest.param("flights", "../../secret/1", id="another-folder"),
        pytest.param("", "", id="nothing"),
        pytest.param("flights/1", None, id="a-path"),
        pytest.param("\x00", None, id="nul"),
    ],
)
def test_only_what_lies_in_the_folder_is_loaded(tmp_path: Path, model: str, version: str | None) -> None:
    """Verify that a name from a request is looked up among those that are there, and is never a path."""
    shelve(tmp_path / "shelf", "1")
    shelve(tmp_path / "shelf" / ".." / "secret", "1")

    async def test(bench: Bench) -> None:
        with pytest.raises(NotFound):
            await bench.repository.load(model, version)
        assert bench.threads == set()

    run(tmp_path / "shelf", test)


def test_a_server_without_a_folder_loads_nothing() -> None:
    """Verify that the message says how to allow it."""

    async def test(bench: Bench) -> None:
        with pytest.raises(NotFound, match="--repository"):
            await bench.repository.load("flights")
        assert bench.repository.index() == []

    run(None, test)


def test_the_index_lists_what_answers_and_what_could(tmp_path: Path) -> None:
    """Verify the states before, while and after a model is served."""
    for version in ("1", "2"):
        shelve(tmp_path, version)

    async def test(bench: Bench) -> None:
        def states() -> dict[str, str]:
            return {e.version: e.state for e in bench.repository.index()}

        assert states() == {"1": "UNAVAILABLE", "2": "UNAVAILABLE"}
        await bench.repository.load("flights", "1")
        assert states() == {"1": "READY", "2": "UNAVAILABLE"}
        await bench.repository.unload("flights")
        assert states() == {"1": "UNAVAILABLE", "2": "UNAVAILABLE"}
        with pytest.raises(NotFound, match="model 'flights' is not served here; served is none"):
            bench.repository.find("flights")
        with pytest.raises(NotFound):
            await bench.repository.unload("flights")

    run(tmp_path, test)


def test_versions_of_the_start_stand_beside_each_other(tmp_path: Path) -> None:
    """Verify that several versions of a model answer by name, and the last one where none is named."""
    folders = [shelve(tmp_path, v) for v in ("1", "2")] + [shelve(tmp_path, "5", model="trains")]

    async def test(bench: Bench) -> None:
        added = [await asyncio.to_thread(bench.open, f) for f in folders]
        for loaded in added:
            bench.repository.add(loaded)
        assert bench.versions == {"flights": ["1", "2"], "trains": ["5"]}
        assert bench.repository.names == ["flights", "trains"]
        assert bench.repository.find("flights") is added[1]
        assert bench.repository.find("flights", "1") is added[0]
        with pytest.raises(NotFound, match="version '3' of 'flights' is not served here; served is '1', '2'"):
            bench.repository.find("flights", "3")

    run(tmp_path, test)


def test_two_loads_at_once_come_one_after_the_other(tmp_path: Path) -> None:
    """Verify that of two loads of a model one version is left, the second's, and nothing of the first."""
    for version in ("1", "2"):
        shelve(tmp_path, version)

    async def test(bench: Bench) -> None:
        loads: list[Any] = [bench.repository.load("flights", v) for v in ("1", "2")]
        await asyncio.gather(*loads)
        assert bench.versions == {"flights": ["2"]}

    run(tmp_path, test)


def test_a_folder_of_another_name_is_a_mistake_that_is_named(tmp_path: Path) -> None:
    """Verify that a version is served under the name of its folder or not at all."""
    shelve(tmp_path, "1", place="2")

    async def test(bench: Bench) -> None:
        with pytest.raises(UsageError, match="2 of flights holds flights version 1; rename the folder"):
            await bench.repository.load("flights")

    run(tmp_path, test)
