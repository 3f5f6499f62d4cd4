"""The training pipeline on this machine: KFP's local runner, one folder a run, a run id that is honoured once.

The runner keeps its settings in module globals and prints everything, so one run at a time goes through it in a
process; what the steps print lands in the run's `log.txt`, and their progress on stderr.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import re
import secrets
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components import steps, window
from windlass import atomic, catalog, telemetry
from windlass.errors import DataError, UsageError, WindlassError
from windlass.settings import Settings

RESULT = "result.json"
LOG = "log.txt"
_one_at_a_time = threading.Lock()

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What to train; `start` and `end` as on the command line (a bare end date counts as a whole day)."""

    workload: str
    start: str
    end: str
    data: Path | None = None
    trials: int | None = None
    run_id: str | None = None


def to_stderr(text: str) -> None:
    """Print one line of progress."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def train(settings: Settings, request: Request, progress: Progress = to_stderr) -> dict[str, Any]:
    """Run the pipeline and return its result; a finished run of the same id is returned as it is.

    Raises:
        UsageError: the request cannot be meant, or the data breaks the contract; nothing is left behind.
        WindlassError: a step failed; the run's folder keeps its log.
    """
    run_id = request.run_id or _new_id(request.workload)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", run_id):
        raise UsageError(f"run id {run_id!r} is no name of a folder; use letters, digits, '.', '_' and '-'")
    catalog.load(request.workload, settings.project)
    window.parse(request.start, request.end)
    if request.trials is not None and request.trials < 1:
        raise UsageError(f"--trials {request.trials} leaves nothing to train; use 1 or more")
    if request.data is not None and not request.data.is_file():
        raise DataError(f"data file {request.data}: there is no such file; name a CSV or parquet file")
    folder = settings.runs_dir / run_id
    with _claimed(settings, run_id):
        if (folder / RESULT).is_file():
            finished: dict[str, Any] = json.loads((folder / RESULT).read_text())
            progress(f"run {run_id} has finished before")
            return finished
        folder.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        try:
            result = _run(settings, request, run_id, folder, progress)
        except UsageError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        result["seconds"] = round(time.monotonic() - started, 2)
        atomic.write_text(folder / RESULT, json.dumps(result, indent=1))
        return result


def _run(
    settings: Settings, request: Request, run_id: str, folder: Path, progress: Progress
) -> dict[str, Any]:
    telemetry.switch_off()
    with _one_at_a_time:
        from kfp import local

        from pipelines import training

        error_file = folder / "error.json"
        error_file.unlink(missing_ok=True)
        scratch = folder / "tmp"
        scratch.mkdir(exist_ok=True)
        arguments: dict[str, Any] = {
            "workload": request.workload,
            "start": request.start,
            "end": request.end,
            "run_id": run_id,
            "data": str(request.data.resolve()) if request.data else "",
            "trials": request.trials or training.DEFAULT_TRIALS,
        }
        with (
            _environment(settings, error_file, scratch),
            (folder / LOG).open("a") as log,
            contextlib.redirect_stdout(_Sorter(log, progress)),
            warnings.catch_warnings(),
        ):
            # our image's name has no "python" in it, which KFP takes for a mistake
            warnings.simplefilter("ignore", RuntimeWarning)
            local.init(
                runner=local.SubprocessRunner(use_venv=False),
                pipeline_root=str(folder / "artifacts"),
                workspace_root=str(folder / "workspace"),
            )
            try:
                output = Path(training.build()(**arguments).output.path)
            except RuntimeError as error:
                raise _as_ours(error, error_file, folder) from error
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        result: dict[str, Any] = json.loads((output / RESULT).read_text())
        # the next run finds what it needs in the cache and the registry
        shutil.rmtree(folder / "artifacts", ignore_errors=True)
        return result


def _as_ours(error: RuntimeError, error_file: Path, folder: Path) -> WindlassError:
    kinds = {"UsageError": UsageError, "DataError": DataError}
    try:
        told = json.loads(error_file.read_text())
    except (OSError, ValueError):
        plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
        return WindlassError(f"the training run failed without a word: {plain} The log is {folder / LOG}")
    kind = kinds.get(told["type"], UsageError if told["exit_code"] == 2 else WindlassError)
    if kind is WindlassError:
        return WindlassError(f"the training run failed: {told['message']}; the log is {folder / LOG}")
    return kind(told["message"])


class _Sorter(io.TextIOBase):
    """Takes what the runner prints: everything goes to the log, lines of progress also to the caller."""

    def __init__(self, log: io.TextIOBase | Any, progress: Progress) -> None:
        self._log = log
        self._progress = progress
        self._line = ""

    def write(self, text: str) -> int:
        self._log.write(text)
        self._line += text
        *lines, self._line = self._line.split("\n")
        for line in lines:
            _, found, told = line.partition(steps.PROGRESS)
            if found:
                self._progress(told)
        return len(text)

    def flush(self) -> None:
        self._log.flush()


@contextlib.contextmanager
def _environment(settings: Settings, error_file: Path, scratch: Path) -> Iterator[None]:
    """What the steps' processes inherit: these settings, and where to leave an error and temporary files."""
    wanted = {
        "WINDLASS_HOME": str(settings.home),
        "WINDLASS_PROJECT": str(settings.project),
        "WINDLASS_ONLINE_STORE": settings.online_store,
        "WINDLASS_REDIS_URL": settings.redis_url,
        "WINDLASS_OBJECT_STORE": settings.object_store,
        "WINDLASS_S3_ENDPOINT": settings.s3_endpoint,
        "WINDLASS_RUN_ERROR": str(error_file),
        # KFP makes temporary folders and leaves them there
        "TMPDIR": str(scratch),
        # read when OpenMP starts: limiting its threads later leaves them spinning, at three times the CPU
        "OMP_NUM_THREADS": os.environ.get("WINDLASS_TRAIN_THREADS", "1"),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }
    before = {name: os.environ.get(name) for name in wanted}

    def put(values: dict[str, str | None]) -> None:
        for name, value in values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    put(wanted)
    try:
        yield
    finally:
        put(before)


@contextlib.contextmanager
def _claimed(settings: Settings, run_id: str) -> Iterator[None]:
    """A second caller with the same id waits for the first and then finds its result."""
    path = settings.runs_dir / ".locks" / run_id
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(file.fileno(), path):
                continue  # the one we waited for has taken the name away: the lock is on nothing that others see
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _new_id(workload: str) -> str:
    return f"{workload}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
