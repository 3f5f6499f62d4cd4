"""The command line's frame: what it imports, how errors leave it."""

from __future__ import annotations

import argparse
import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from windlass.cli import app
from windlass.errors import AlreadyRunningError, UsageError, WindlassError

HEAVY = (
    "boto3", "duckdb", "evidently", "feast", "httpx", "kfp", "mlflow", "numpy", "onnx", "onnxruntime", "optuna",
    "pandas", "pandera", "psutil", "pyarrow", "ray", "scipy", "sklearn", "tensorflow", "xgboost", "yaml",
)  # fmt: skip


def raising(error: BaseException | None) -> argparse.ArgumentParser:
    parser = app.Parser(prog="windlass")
    parser.add_argument("--json", action="store_true")

    def handle(arguments: argparse.Namespace) -> int:
        if error is not None:
            raise error
        return 0

    parser.set_defaults(handler=handle)
    return parser


@pytest.mark.parametrize(
    "arguments", [["--help"], ["doctor", "--help"], ["train", "--help"], ["release", "--help"]]
)
def test_help_imports_no_heavy_package(arguments: list[str]) -> None:
    """Verify that asking for help pays for no dependency: the whole budget is a fraction of a second."""
    program = (
        "import sys\nfrom windlass.cli.app import run\n"
        f"code = run({arguments!r})\n"
        f"print(*sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.split() == []


def test_every_group_is_there() -> None:
    """Verify that the tree holds every command of the README and the architecture."""
    parser = app.build_parser()
    subcommands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    assert set(app.GROUPS) <= set(subcommands.choices)


def test_every_command_shows_an_example_and_takes_json() -> None:
    """Verify that each leaf of the tree has a machine-readable form, and it or its group an example in its help."""
    without_json, without_example = [], []

    def walk(parser: argparse.ArgumentParser, has_example: bool) -> None:
        has_example = has_example or "example:" in parser.format_help()
        nested = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        for action in nested:
            for child in action.choices.values():
                walk(child, has_example)
        if not nested:
            without_json.extend([parser.prog] if "--json" not in parser._option_string_actions else [])
            without_example.extend([parser.prog] if not has_example else [])

    tree = app.build_parser()
    for group in next(a for a in tree._actions if isinstance(a, argparse._SubParsersAction)).choices.values():
        walk(group, has_example=False)
    assert (without_json, without_example) == ([], [])


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        pytest.param(None, 0, "", id="done"),
        pytest.param(
            UsageError("no such workload"), 2, "windlass: error: no such workload", id="cannot-be-meant"
        ),
        pytest.param(WindlassError("port taken"), 1, "windlass: error: port taken", id="failed"),
        pytest.param(AlreadyRunningError("it runs"), 1, "windlass: error: it runs", id="running"),
        pytest.param(KeyboardInterrupt(), 130, "windlass: interrupted", id="interrupted"),
        pytest.param(OSError(errno.ENOSPC, "No space left on device"), 1, "free some space", id="disk-full"),
        pytest.param(
            RuntimeError("first\nsecond"), 1, "RuntimeError: first; the traceback is in ", id="unforeseen"
        ),
    ],
)
def test_an_error_becomes_a_line_and_a_code(
    error: BaseException | None, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verify the exit codes, and that stdout stays clean for whoever reads it."""
    assert app.run([], parser=raising(error)) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == (1 if error else 0)
    assert captured.out == ""


def test_json_gets_the_error_as_an_object_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Verify that a program that asked for JSON gets one object whatever happens."""
    assert app.run(["--json"], parser=raising(UsageError("dates are reversed"))) == 2
    assert json.loads(capsys.readouterr().out) == {
        "error": {"type": "UsageError", "message": "dates are reversed", "exit_code": 2}
    }


def test_wrong_arguments_are_refused_like_any_other_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Verify that argparse's own complaints name the help and end with 2."""
    assert app.run(["no-such-command", "--json"]) == 2
    captured = capsys.readouterr()
    assert "no-such-command" in captured.err
    assert "--help" in captured.err
    assert json.loads(captured.out)["error"]["exit_code"] == 2


def test_an_unforeseen_error_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify that the file named in the message holds the whole traceback and the command."""
    monkeypatch.setenv("WINDLASS_HOME", str(tmp_path))
    app.run(["--json"], parser=raising(RuntimeError("surprise")))
    (kept,) = (tmp_path / "logs").glob("error-*.txt")
    assert "windlass --json" in kept.read_text()
    assert "raise error\nRuntimeError: surprise" in kept.read_text()


def test_a_full_disk_is_known_behind_another_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Verify that a wrapped cause is found: a pipeline or a database reports its own exception."""
    error = RuntimeError("task failed")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert app.run([], parser=raising(error)) == 1
    assert "no space left" in capsys.readouterr().err


def test_output_into_a_closed_pipe_ends_quietly() -> None:
    """Verify that `windlass … | head` leaves no traceback behind."""
    command = f"{sys.executable} -m windlass --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "141")
