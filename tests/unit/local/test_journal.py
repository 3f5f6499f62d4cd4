"""Journals of lines, read from either end."""

from __future__ import annotations

from pathlib import Path

import pytest

from windlass import journal
from windlass.journal import Journal


@pytest.mark.parametrize("block", [1, 2, 7, 40, 4096])
@pytest.mark.parametrize("torn", [b"", b"{", b'{"n":9}'])
def test_backwards_gives_the_same_records_the_newest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, torn: bytes
) -> None:
    """Verify it wherever the blocks that it reads are cut, and that a line without an end is none."""
    monkeypatch.setattr(journal, "BLOCK", block)
    path = tmp_path / "journal.jsonl"
    book = Journal(path)
    for n in range(5):
        book.append({"n": n, "text": "x" * n * 5})
    book.close()
    path.write_bytes(path.read_bytes() + torn)
    assert list(journal.read_backwards(path)) == list(journal.read(path))[::-1]
    assert len(list(journal.read(path))) == 5


@pytest.mark.parametrize("content", [None, b"", b"{"])
def test_backwards_of_nothing_is_nothing(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "journal.jsonl"
    if content is not None:
        path.write_bytes(content)
    assert list(journal.read_backwards(path)) == []
