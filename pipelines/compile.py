"""The compiled pipeline under version control: the same bytes every time, held to its source by `--check`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from windlass import atomic
from windlass.errors import WindlassError

COMPILED = Path(__file__).parent / "compiled"
FILE = "training.yaml"


def render(image: str | None = None) -> str:
    """Compile the training pipeline to KFP's IR YAML."""
    from kfp import compiler

    from pipelines import training

    pipeline = training.build(image) if image else training.build()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / FILE
        compiler.Compiler().compile(pipeline, str(path))
        return path.read_text()


def write(path: Path, image: str | None = None) -> None:
    """Compile into `path`."""
    atomic.write_text(path, render(image))


def check(path: Path = COMPILED / FILE) -> None:
    """Compare the file with what the source compiles to.

    Raises:
        WindlassError: it is missing or differs.
    """
    if not path.is_file():
        raise WindlassError(f"{path} is missing; run `windlass pipeline compile` and commit the file")
    if path.read_text() != render():
        raise WindlassError(
            f"{path} is not what pipelines/training.py compiles to; run `windlass pipeline compile` and commit it"
        )
