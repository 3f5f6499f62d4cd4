"""The process that sums up, over its pipe."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson

from monitoring.release_evidence.pipe import LENGTH_DIGITS, frame

#: a library that says something on the standard output, and below Python too
NOISY = """
import os, sys
from monitoring.release_evidence import __main__ as process
answered = process.answered
def noisy(*arguments):
    print("said by Python", flush=True)
    os.write(1, b"said below it\\n")
    return answered(*arguments)
process.answered = noisy
process.main(["--home", sys.argv[1]])
"""


def test_what_a_library_prints_is_no_answer(tmp_path: Path) -> None:
    """Verify that answers stay in step, and that the words are in the log."""
    done = subprocess.run(
        [sys.executable, "-c", NOISY, str(tmp_path)],
        input=2 * frame(b"no JSON"),
        capture_output=True,
        timeout=120,
    )
    answers, rest = [], done.stdout
    while rest:
        length = int(rest[:LENGTH_DIGITS])
        answers.append(orjson.loads(rest[LENGTH_DIGITS : LENGTH_DIGITS + length]))
        rest = rest[LENGTH_DIGITS + length :]
    assert [answer["status"] for answer in answers] == [400, 400]
    assert done.stderr.count(b"said by Python") == done.stderr.count(b"said below it") == 2
