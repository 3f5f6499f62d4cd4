"""`python -m monitoring.release_evidence --home DIR`: answers questions about releases out of the collector's store.

The collector starts it with the first question, as a process of its own: reading a store and summing up its rows never
stands between a sender and its acknowledgement. Questions come on stdin and answers leave on stdout, one after the
other (`pipe`). It ends when stdin does.
"""

from __future__ import annotations

import argparse
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from monitoring.collector.names import Names
from monitoring.collector.place import place
from monitoring.release_evidence import question
from monitoring.release_evidence.live import ConflictError, Releases
from monitoring.release_evidence.pipe import LENGTH_DIGITS, frame
from monitoring.release_evidence.recomputing import Recomputing
from windlass import settings, telemetry
from windlass.errors import UsageError, WindlassError

#: behind what acknowledges and what stores: an answer may wait, an event may not
NICE = 10


def answered(releases: Releases, body: bytes, now: float) -> tuple[int, Any]:
    """The HTTP status and the JSON values of an answer."""
    try:
        return 200, releases.answer(question.read(orjson.loads(body), now=now))
    except orjson.JSONDecodeError as error:
        return 400, {"error": f"the body is not JSON ({error}); send release, champion and since"}
    except ConflictError as error:
        return 409, {"error": str(error)}
    except UsageError as error:
        return 400, {"error": str(error)}
    except WindlassError as error:
        return 503, {"error": str(error)}
    except Exception as error:  # a damaged file is read by one release; the others are answered
        traceback.print_exc()
        return 503, {"error": f"the store could not be read: {type(error).__name__}: {error}"}


def thresholds(names: Names) -> Callable[[str], float]:
    """Of a model the score from which a false alarm costs as much as is saved in expectation."""

    def threshold(model: str) -> float:
        workload = names.workload(model)
        if workload is None:
            return 0.5
        return workload.false_positive_cost / (workload.false_positive_cost + workload.false_negative_cost)

    return threshold


def serve(
    releases: Releases, take: Callable[[float | None], bytes | None], give: Callable[[bytes], None]
) -> None:
    """Answer until `take` gives nothing more.

    Args:
        take: waits so many seconds for a question, None for ever; raises queue.Empty where none came.
    """
    behind, told_rows = False, 0
    while True:
        try:
            body = take(0.0 if behind else None)
        except queue.Empty:
            behind = releases.work()
            continue
        if body is None:
            return
        releases.forget()
        status, plain = answered(releases, body, time.time())
        told = {
            "status": status,
            "body": orjson.dumps(plain).decode(),
            "releases": len(releases),
            "rows": releases.rows - told_rows,
            "rebuild_s": releases.rebuild_s,
        }
        told_rows = releases.rows
        give(orjson.dumps(told))
        behind = True


def _read(stream: BinaryIO, questions: queue.SimpleQueue[bytes | None]) -> None:
    while True:
        head = stream.read(LENGTH_DIGITS)
        if len(head) < LENGTH_DIGITS:
            questions.put(None)
            return
        questions.put(stream.read(int(head)))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m monitoring.release_evidence", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    arguments = parser.parse_args(argv)
    telemetry.switch_off()
    os.nice(NICE)
    configured = replace(settings.load(), home=arguments.home.resolve())
    questions: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, questions), daemon=True).start()

    def take(wait_s: float | None) -> bytes | None:
        return questions.get(block=wait_s is None or wait_s > 0, timeout=wait_s or None)

    # what a library prints goes beside the answers and not among them
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def give(answer: bytes) -> None:
        answers.write(frame(answer))
        answers.flush()

    names = Names(configured)
    serve(Releases(place(configured), thresholds(names), Recomputing(configured, names)), take, give)
    return 0


if __name__ == "__main__":
    sys.exit(main())
