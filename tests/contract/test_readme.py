"""The README's commands: each block is run here, in order, or says which test runs it."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

PROJECT = Path(__file__).parent.parent.parent
README = (PROJECT / "README.md").read_text()


@dataclass(frozen=True)
class Block:
    text: str
    covered_by: str | None


def blocks() -> list[Block]:
    pattern = re.compile(r"(?:<!-- covered by: (.+?) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    found = list(pattern.finditer(README))
    assert {match[2] for match in found} == {"sh"}, (
        "a block that nobody can run does not belong in the README"
    )
    return [Block(match[3], match[1]) for match in found]


def test_a_block_that_is_not_run_here_is_run_elsewhere() -> None:
    """Verify that what stands in for a block exists and holds its command."""
    for block in blocks():
        if block.covered_by is None:
            continue
        path = PROJECT / block.covered_by
        text = path.read_text()
        for line in block.text.splitlines():
            program, command, *_ = line.split()
            # a test calls the command with a list of words, or in a script whose $W is windlass
            forms = (line,) if path.name == "run" else (f'"{command}"', f'"$W" {command} ')
            assert any(form in text for form in forms), f"{path} does not run {line!r}"
            assert program == "make" or "windlass" in text


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_blocks_work_one_after_another(tmp_path: Path) -> None:
    """Verify that the tour works as written, from an empty home, and leaves nothing running."""
    # as a reader would: in the project folder, with nothing of ours in the environment but where to write
    home = tmp_path / "home"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WINDLASS_")}
    environment |= {"WINDLASS_HOME": str(home), "HOME": str(tmp_path)}
    folder = tmp_path / "checkout"
    folder.mkdir()
    for path in PROJECT.iterdir():
        # the tour writes beside itself (report.html): a folder of links keeps the checkout clean
        if path.name not in (".windlass", ".git"):
            (folder / path.name).symlink_to(path)
    windlass = PROJECT / ".venv" / "bin" / "windlass"
    try:
        for block in blocks():
            if block.covered_by is None:
                done = subprocess.run(
                    ["bash", "-euo", "pipefail", "-c", block.text],
                    cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False,
                )  # fmt: skip
                assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
    finally:
        subprocess.run([windlass, "down"], env=environment, capture_output=True, check=False)
    assert (folder / "report.html").stat().st_size > 1000
    # asked for at once: a process may become a zombie between two questions
    lines = [" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])]
    assert [line for line in lines if str(home) in line] == []


def test_links_lead_somewhere() -> None:
    """Verify that every file that a document of ours names is there."""
    for document in (PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *(PROJECT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} names {target}"
