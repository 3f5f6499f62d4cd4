"""The disk of the home is full: nothing more is acknowledged, nothing that was is lost, and all goes on by itself."""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import shutil
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from monitoring.collector.reading import Events
from windlass.drill import drill, orders, runbook
from windlass.drill.alerts import Phase
from windlass.drill.drill import Drill
from windlass.drill.record import Record
from windlass.drill.stage import CHAMPION, MODEL, Stage
from windlass.errors import WindlassError
from windlass.local.plane import COLLECTOR, DataPlane

ALERT = "WindlassCollectorStorage"
SIZE = "128m"
BALLAST = "ballast"
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def play(stage: Stage, record: Record) -> None:
    with _disk(stage) as small:
        stage.up()
        sent = stage.ask(orders.now(60, 1))
        stage.tell(sent)
        calm = drill.calm(stage, sent, orders.now(60, 2))

        free = _fill(stage, small, record)
        answers = stage.ask(orders.now(120, 3))
        sent += answers
        code, said = _labels(stage)
        reason = str(said.get("error", {}).get("message", said))
        record.expect(
            "state", f"labels are refused and not acknowledged: {reason}", code == 1 and "507" in reason
        )
        first = stage.scrape()
        senders = Senders(stage)
        statuses = {senders.send(number) for number in range(8)}
        record.expect("state", f"predictions of other senders are refused with {statuses}", statuses == {507})
        drill.rings(record, ALERT, calm, Phase(first, stage.scrape()))
        record.expect("state", "predictions are answered all the same", all(a.status == 200 for a in answers))
        runbook.follow(stage, record, ALERT)

        free()
        record.note("restored", "the disk has space again")
        stage.wait(
            lambda: stage.scrape().value("windlass_collector_storage_ok") == 1,
            "the collector finds that it can write again",
        )
        record.expect("state", "the collector goes on by itself, without a restart", True)
        told = stage.tell(sent)
        record.note("restored", f"the labels are sent again, {told['accepted']} are acknowledged")
        statuses = {senders.send(number) for number in range(8)}
        record.expect("state", f"what the other senders send again is taken ({statuses})", statuses == {200})
        dropped = int(stage.scrape().value("windlass_log_dropped_total", model=MODEL) or 0)
        record.expect("lost", "no request failed", all(a.status == 200 for a in sent), requests=len(sent))
        drill.kept(stage, record, sent, dropped=dropped)
        senders.kept(record)
        _acknowledged(stage, record, told["accepted"])


class Senders:
    """Servers elsewhere that send batches of their predictions to the collector, each again until it is taken."""

    BATCH = 25

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        (log,) = (stage.settings.logs_dir / "predictions").glob(f"{MODEL}-{CHAMPION}.jsonl")
        self._like: dict[str, Any] = json.loads(log.read_text().splitlines()[0])
        self._taken: list[int] = []

    def send(self, number: int) -> int:
        """Send a batch; the status."""
        child = DataPlane(self._stage.settings).records.find(COLLECTOR)
        if child is None:
            return 0
        lines = [json.dumps({**self._like, "request_id": name}) for name in self._names(number)]
        request = urllib.request.Request(
            f"http://127.0.0.1:{child.port}/predictions",
            ("\n".join(lines) + "\n").encode(),
            {"content-type": "application/x-ndjson"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                self._taken.append(number)
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def kept(self, record: Record) -> None:
        """Expect that every acknowledged prediction is stored once."""
        wanted = {name for number in self._taken for name in self._names(number)}
        stored = Counter(i for i in Events(self._stage.settings).window(MODEL).request_ids if i in wanted)
        record.expect(
            "lost",
            f"each of {len(wanted)} predictions that other senders were acknowledged is stored once",
            bool(wanted) and stored.keys() == wanted and set(stored.values()) == {1},
        )

    def _names(self, number: int) -> list[str]:
        return [f"elsewhere-{number}-{i}" for i in range(self.BATCH)]


def _acknowledged(stage: Stage, record: Record, count: int) -> None:
    """Expect that every acknowledged label is stored: with its prediction, or as early where that one is missing."""
    events = Events(stage.settings)
    ids = {json.loads(line)["request_id"] for line in stage.labels.read_text().splitlines()}
    window = events.window(MODEL)
    joined = {i for i, label in zip(window.request_ids, window.labels, strict=True) if not math.isnan(label)}
    early = set(events.early().column("request_id").to_pylist())
    missing = len(ids - joined - early)
    record.expect("lost", f"each of {count} acknowledged labels is stored ({missing} missing)", not missing)


def _labels(stage: Stage) -> tuple[int, dict[str, Any]]:
    """Send again the labels that were sent before."""
    return stage.attempt("feedback", "--file", stage.labels)


@contextlib.contextmanager
def _disk(stage: Stage) -> Iterator[bool]:
    """Have the home on a small disk of its own; yields whether this system allows it."""
    home, aside = stage.settings.home, stage.settings.home.with_name("aside")
    shutil.rmtree(aside, ignore_errors=True)  # of a drill that was killed
    home.rename(aside)
    home.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", home], capture_output=True, check=False
        ).returncode
    )
    try:
        shutil.copytree(aside, home, dirs_exist_ok=True)
        yield mounted
    finally:
        # what runs is known by files that are about to go
        (home / BALLAST).unlink(missing_ok=True)
        try:
            stage.down()
        finally:
            if mounted:
                subprocess.run(["umount", "-l", home], check=True)
            shutil.rmtree(aside)


def _fill(stage: Stage, small: bool, record: Record) -> Callable[[], None]:
    """Fill the disk, or forbid the collector larger files where it has none of its own; returns what undoes it."""
    if small:
        ballast = stage.settings.home / BALLAST
        # the error is the aim: it says that the disk is full
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        record.note("injected", f"the disk of the home ({SIZE}) is full")
        return ballast.unlink
    child = DataPlane(stage.settings).records.find(COLLECTOR)
    if child is None:
        # 0 would mean this process itself
        raise WindlassError("no collector runs on this stage; `windlass up` starts it")
    pid = child.pid
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    record.note(
        "injected",
        "the collector may write no file of more than 1000 bytes (no disk of its own without root)",
    )
    return lambda: _allow(pid)


def _allow(pid: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_FSIZE, UNLIMITED)


DRILL = Drill(
    name="disk-full",
    fault="the disk of the platform's home is full",
    alert=ALERT,
    end_state="predictions go on; labels are refused with 507 and not acknowledged; with space the collector goes on "
    "by itself, and what is sent again is taken",
    proof="no request failed; every acknowledged event and label is stored once; a prediction whose record found no "
    "room is counted in `windlass_log_dropped_total`",
    play=play,
)
