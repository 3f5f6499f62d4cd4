"""What a run's arguments mean: as stated, or found where the run is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines import span
from windlass.errors import UsageError
from windlass.settings import Settings


@pytest.fixture
def tiny(tmp_path: Path, new_project: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = new_project(tmp_path)
    monkeypatch.setenv("WINDLASS_HOME", str(settings.home))
    monkeypatch.setenv("WINDLASS_PROJECT", str(settings.project))
    return settings


def test_what_is_stated_is_taken_as_it_is(tiny: Settings) -> None:
    asked = span.asked("tiny", "2024-01-03", "2024-01-20", "/data/rows.parquet")
    assert asked == span.Asked("2024-01-03", "2024-01-20", "/data/rows.parquet")
    assert span.file_of("tiny", asked.data) == "/data/rows.parquet"
    assert span.file_of("tiny", "") == ""


def test_without_a_champion_all_rows_are_trained_on(tiny: Settings) -> None:
    assert span.asked("tiny", "", "", "") == span.Asked("2024-01-01", "2024-02-09", "")
    assert span.asked("tiny", "2024-01-10", "", "") == span.Asked("2024-01-10", "2024-02-09", "")


def test_the_ends_of_a_named_file_are_found_in_it(tiny: Settings, rows: Any) -> None:
    path = tiny.project / "part.parquet"
    rows[rows["at"] < "2024-01-15"].to_parquet(path, index=False)
    assert span.asked("tiny", "", "", str(path)) == span.Asked("2024-01-01", "2024-01-14", str(path))


@pytest.mark.parametrize(
    ("start", "end", "source", "said"),
    [
        pytest.param("2024-02-01", "2024-01-01", "", "reversed", id="reversed"),
        pytest.param("soon", "2024-01-01", "", "soon", id="no-date"),
        pytest.param("", "", "data-version:ffff", "no data version", id="no-version"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tiny: Settings, start: str, end: str, source: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        span.asked("tiny", start, end, source)


def test_a_signals_detail_becomes_a_runs_arguments() -> None:
    detail = {"from": "2024-01-01", "to": "2024-02-01", "data_version": "3f2a", "trials": 4, "share": 0.4}
    assert span.arguments(detail) == {
        "start": "2024-01-01", "end": "2024-02-01", "data": "data-version:3f2a", "trials": 4,
    }  # fmt: skip
    assert span.arguments({"share": 0.4}) == {}
    with pytest.raises(UsageError, match="reversed"):
        span.arguments({"from": "2024-02-01", "to": "2024-01-01"})
