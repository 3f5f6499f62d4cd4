"""The compiled pipeline under version control: the same bytes every time, held to its source by `--check`."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from pipelines.pods import DEFAULT, Pods, load
from windlass import atomic
from windlass.errors import WindlassError

COMPILED = Path(__file__).parent / "compiled"
FILE = "training.yaml"


def render(pods: Pods | None = None) -> str:
    """Compile the training pipeline to KFP's IR YAML, with what its pods get in a second document."""
    import warnings

    from kfp import compiler

    from pipelines import training

    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        # our image's name has no "python" in it, which KFP takes for a mistake
        warnings.simplefilter("ignore", RuntimeWarning)
        path = Path(name) / FILE
        compiler.Compiler().compile(training.build_for_cluster(pods or DEFAULT), str(path))
        return path.read_text()


def write(path: Path, pods: Pods | None = None) -> None:
    """Compile into `path`."""
    atomic.write_text(path, render(pods))


def stated(config: Path | None, image: str | None) -> Pods:
    """What is stated for one namespace; an image that is given by itself wins.

    Raises:
        UsageError: the file cannot be meant.
    """
    pods = DEFAULT if config is None else load(config)
    return pods if image is None else replace(pods, image=image)


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
