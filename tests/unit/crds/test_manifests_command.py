"""`windlass manifests` writes what is generated, all or nothing, and says what it changed."""

from __future__ import annotations

import json

from windlass.cli import app
from windlass.crds import files


def test_it_writes_once(tmp_path, capsys):
    """Verify that a second run finds nothing to do, and that what is there is what is generated."""
    out = tmp_path / "manifests"
    assert app.run(["manifests", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changed"] == [str(out / name) for name in files.rendered()]
    assert {str(path.relative_to(out)) for path in out.rglob("*.yaml")} == files.rendered().keys()
    assert app.run(["manifests", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changed"] == []


def test_a_check_tells_what_is_stale_and_leaves_it(tmp_path, capsys):
    """Verify that a pipeline can ask: exit code 1, the file by its name, and not a byte written."""
    app.run(["manifests", "--out", str(tmp_path)])
    stale = tmp_path / "crds" / "releases.yaml"
    stale.write_text("kind: Something\n")
    capsys.readouterr()
    assert app.run(["manifests", "--out", str(tmp_path), "--check"]) == 1
    assert f"{stale} is not what is generated" in capsys.readouterr().out
    assert stale.read_text() == "kind: Something\n"
    assert app.run(["manifests", "--out", str(tmp_path)]) == 0
    assert app.run(["manifests", "--out", str(tmp_path), "--check"]) == 0


def test_a_file_that_is_missing_is_stale(tmp_path):
    """Verify that an empty folder does not pass for an up-to-date one."""
    assert app.run(["manifests", "--out", str(tmp_path / "nowhere"), "--check"]) == 1
    assert not (tmp_path / "nowhere").exists()
