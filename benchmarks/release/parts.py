"""The frame that the parts of `windlass bench release` fill: what each is given and what it hands back.

A part is a module `benchmarks/release/<part>.py` with

    def measure(options: Options, progress: Progress) -> Part

It is imported only when it is run. It simulates with `options.rng(...)` (or `options.seed`) and nothing else that is
random, spreads its work with `spread`, and judges itself with `target`. A part that cannot run raises
`WindlassError`, and is listed under "not_run" with that reason.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from benchmarks.report import judged

if TYPE_CHECKING:
    import numpy as np

PARTS = ("aa", "power", "guardrails", "bandit", "splits", "sim", "rollback", "mutation")

Given = TypeVar("Given")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        quick: few repetitions: does it work at all. Its figures mean nothing, and its targets are still judged.
        workers: processes at a time.
        seed: everything random follows from it: the same seed gives the same figures, whatever `workers` is.
    """

    quick: bool = False
    workers: int = 1
    seed: int = 1

    def seed_of(self, *key: object) -> int:
        """A seed of its own for the work that `key` names (63 bits, the same in every process)."""
        text = "/".join(map(str, (self.seed, *key))).encode()
        return (zlib.crc32(text) << 31) | (zlib.crc32(text[::-1]) >> 1)

    def rng(self, *key: object) -> np.random.Generator:
        """A generator of its own for the work that `key` names."""
        import numpy as np

        return np.random.default_rng(self.seed_of(*key))

    def repetitions(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True)
class Chart:
    """One panel of a picture, drawn the same way for every part.

    Attributes:
        series: name of the line or of the bars -> its x and y values; x are texts for bars.
        kind: "line", "step" or "bar".
        bound: a horizontal line: the target.
        log: "", "x", "y" or "xy".
    """

    title: str
    x: str
    y: str
    series: dict[str, tuple[Sequence[Any], Sequence[float]]]
    kind: Literal["line", "step", "bar"] = "line"
    bound: float | None = None
    log: str = ""


@dataclass
class Part:
    """What a part found.

    Attributes:
        measurements: made by `measurement`.
        targets: made by `target`.
        plots: name of the picture (`release-<name>.png`) -> its panels, side by side (a list of `Chart`).
    """

    measurements: list[dict[str, Any]] = field(default_factory=list)
    targets: list[dict[str, Any]] = field(default_factory=list)
    plots: dict[str, Any] = field(default_factory=dict)


def measurement(
    name: str, contender: str, value: float | None, unit: str, case: str = "", **more: Any
) -> dict[str, Any]:
    """One figure. In the table each `name` is a block with a row for each `case` and a column for each `contender`.

    Args:
        name: what was measured, "false decisions".
        contender: who was: "windlass", or what stands beside it.
        value: None where there is none, such as the median time of a test that mostly never decides.
        case: under which circumstances, "binary 5 %".
        more: other plain values for the JSON, such as low=, high=, repetitions=.
    """
    shown = None if value is None else round(float(value), 6)
    return {"name": name, "contender": contender, "case": case, "value": shown, "unit": unit, **more}


def target(name: str, value: float | None, op: str, bound: float) -> dict[str, Any]:
    """One figure that an issue named, met or not; `value` None: not measured."""
    return judged(name, value, op, bound)


class Progress:
    """A line of progress on stderr: redrawn on a terminal, a line every few seconds where it is not one."""

    def __init__(self, part: str = "", every_s: float = 10.0) -> None:
        self.part = part
        self._every_s = every_s
        self._last = 0.0

    def __call__(self, done: int, total: int, what: str = "") -> None:
        """`done` of `total` pieces of work are done."""
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if done < total and now - self._last < (0.1 if terminal else self._every_s):
            return
        self._last = now
        filled = 24 * done // max(total, 1)
        bar = "#" * filled + "." * (24 - filled)
        end = "\n" if done >= total or not terminal else ""
        start = "\r\x1b[2K" if terminal else ""
        sys.stderr.write(f"{start}{self.part:12}[{bar}] {done}/{total} {what}{end}")
        sys.stderr.flush()

    def say(self, text: str) -> None:
        sys.stderr.write(f"{self.part:12}{text}\n")


def spread(
    work: Callable[[Given], Found],
    pieces: Iterable[Given],
    options: Options,
    progress: Progress,
    what: str = "",
) -> list[Found]:
    """`work` on every piece, in `options.workers` processes; the results in the order of the pieces.

    `work` must be a function of a module and its pieces plain values (they are pickled). Pieces should take some
    seconds at most, so that progress shows.
    """
    listed = list(pieces)
    if options.workers <= 1 or len(listed) <= 1:
        found = []
        for number, piece in enumerate(listed):
            found.append(work(piece))
            progress(number + 1, len(listed), what)
        return found
    context = multiprocessing.get_context("spawn")  # a fork would copy whatever threads hold
    results: dict[int, Found] = {}
    with ProcessPoolExecutor(min(options.workers, len(listed)), mp_context=context) as pool:
        waiting = {pool.submit(work, piece): number for number, piece in enumerate(listed)}
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                results[waiting[future]] = future.result()
                progress(done, len(listed), what)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [results[number] for number in range(len(listed))]
