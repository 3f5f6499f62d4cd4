"""The real programs are found, fetched once, and their absence is explained."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from monitoring.rules.programs import binary
from windlass.errors import UsageError, WindlassError


@pytest.mark.parametrize("name", ["prometheus", "promtool", "alertmanager", "amtool"])
def test_program_runs(name: str, project: Path) -> None:
    """Verify that each program is there, from PATH or from Debian's archive, and runs."""
    ended = subprocess.run(
        [binary(name, project / ".tools"), "--version"], capture_output=True, text=True, check=True
    )
    assert name in ended.stdout + ended.stderr


def test_a_program_on_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that what is installed is preferred, whichever of its names it has."""
    mine = tmp_path / "prometheus-alertmanager"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert binary("alertmanager", tmp_path / "tools") == mine


def test_a_program_unpacked_before_is_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that a package that lies there is used, and Alertmanager's is not taken for Prometheus's."""
    place = tmp_path / "prometheus-2.42.0" / "usr" / "bin" / "promtool"
    other = tmp_path / "prometheus-alertmanager-0.25.0" / "usr" / "bin" / "promtool"
    for path in (place, other):
        path.parent.mkdir(parents=True)
        path.touch()
    monkeypatch.setenv("PATH", "")
    assert binary("promtool", tmp_path) == place


def test_absence_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that a machine without apt is told what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WindlassError, match=r"no amtool on PATH and no apt-get .* install amtool"):
        binary("amtool", tmp_path)


def test_an_archive_that_fails_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that apt's own words are in the error, and that nothing is left that looks unpacked."""
    for name in ("apt-get", "dpkg-deb"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'could not resolve the archive' >&2; exit 100\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(
        WindlassError, match=r"ended with 100.*make Debian's archive reachable.*could not resolve"
    ):
        binary("prometheus", tmp_path / "tools")
    assert not list((tmp_path / "tools").glob("prometheus-*"))


def test_an_unknown_program_is_refused(tmp_path: Path) -> None:
    """Verify that a program nobody needs here is not looked for."""
    with pytest.raises(UsageError, match="'grafana' is not known; known are prometheus"):
        binary("grafana", tmp_path)
