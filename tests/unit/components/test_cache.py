"""Step outputs are reused when nothing changed, and never half there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from components import cache


def writes(text: str) -> Callable[[Path], None]:
    def produce(folder: Path) -> None:
        (folder / "x").write_text(text)

    return produce


def test_the_second_run_of_a_key_does_not_produce_again(tmp_path: Path) -> None:
    calls = []

    def produce(folder: Path) -> None:
        calls.append(folder)
        (folder / "x").write_text("1")

    first = cache.run("s", tmp_path / "a", tmp_path / "cache", "k", produce)
    second = cache.run("s", tmp_path / "b", tmp_path / "cache", "k", produce)
    assert (first.reused, second.reused, len(calls)) == (False, True, 1)
    assert first.content == second.content
    assert (tmp_path / "b" / "x").read_text() == "1"
    # each output says of itself whether it was reused, although the files are shared
    assert not cache.read(tmp_path / "a").reused
    assert cache.read(tmp_path / "b").reused


def test_another_key_produces_again_and_the_content_follows_the_files(tmp_path: Path) -> None:
    def produce(key: str) -> str:
        return cache.run("s", tmp_path / key, tmp_path / "cache", key, writes(key[0])).content

    assert produce("a1") == produce("a2")
    assert produce("a1") != produce("b1")


def test_what_was_measured_is_no_part_of_the_content(tmp_path: Path) -> None:
    def produce(measured: str) -> cache.StepRecord:
        def write(folder: Path) -> None:
            (folder / "x").write_text("1")
            (folder / cache.REPORT).write_text(measured)

        return cache.run("s", tmp_path / measured, tmp_path / "cache", measured, write)

    assert produce("3 ms").content == produce("4 ms").content


def test_a_step_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def produce(folder: Path) -> None:
        (folder / "half").write_text("1")
        raise RuntimeError("died")

    with pytest.raises(RuntimeError):
        cache.run("s", tmp_path / "out", tmp_path / "cache", "k", produce)
    assert list((tmp_path / "cache" / "steps" / "s").iterdir()) == []
    assert not (tmp_path / "out").exists()


def test_an_entry_without_its_record_is_made_again(tmp_path: Path) -> None:
    entry = tmp_path / "cache" / "steps" / "s" / "k"
    entry.mkdir(parents=True)
    (entry / "x").write_text("damaged")
    record = cache.run("s", tmp_path / "out", tmp_path / "cache", "k", writes("good"))
    assert not record.reused
    assert (tmp_path / "out" / "x").read_text() == "good"


def test_only_the_newest_entries_are_kept(tmp_path: Path) -> None:
    for i in range(cache.KEPT_ENTRIES + 5):
        cache.run(
            "s",
            tmp_path / "out",
            tmp_path / "cache",
            str(i),
            writes("1"),
        )
    assert len(list((tmp_path / "cache" / "steps" / "s").iterdir())) == cache.KEPT_ENTRIES


def test_the_code_version_follows_source_and_packages() -> None:
    one = cache.code_version(["components.delong"], ["numpy"])
    assert one == cache.code_version(["components.delong"], ["numpy"])
    assert one != cache.code_version(["components.gate"], ["numpy"])
    assert one != cache.code_version(["components.delong"], ["numpy", "pandas"])
