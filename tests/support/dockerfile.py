"""A Dockerfile as its text tells it: the instructions of each stage, and the files of ours that it copies."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

PROJECT = Path(__file__).parents[2]
#: Where our images have the project's files.
TARGET = "/opt/windlass/"

Stage = list[tuple[str, str]]


def stages(name: str) -> list[Stage]:
    """The instructions of each stage of `docker/<name>.Dockerfile`, without comments, lines joined."""
    text = (PROJECT / "docker" / f"{name}.Dockerfile").read_text()
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    found: list[Stage] = []
    for line in filter(None, text.splitlines()):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            found.append([])
        found[-1].append((instruction, " ".join(rest.split())))
    return found


def said(stage: Stage, name: str) -> list[str]:
    """What follows each instruction of that name."""
    return [rest for found, rest in stage if found == name]


def environment(stage: Stage) -> dict[str, str]:
    """The variables that a stage sets."""
    pairs = [pair.partition("=") for line in said(stage, "ENV") for pair in shlex.split(line)]
    return {name: value for name, _, value in pairs}


def copy(stage: Stage, folder: Path) -> None:
    """Put into `folder` what the stage copies of us, and nothing else."""
    for line in said(stage, "COPY"):
        *sources, target = line.split()
        if not target.startswith(TARGET):
            continue
        for source in sources:
            place = folder / Path(target).relative_to(TARGET)
            if (PROJECT / source).is_dir():
                shutil.copytree(PROJECT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(PROJECT / source, place)
