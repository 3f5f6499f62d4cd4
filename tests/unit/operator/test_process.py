"""The process: who leads takes turns, who does not leads nobody astray. Threads are real, cluster and kopf are not."""

from __future__ import annotations

import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import kubernetes_server
import pytest

from serving.release.cluster.kinds import HTTP_ROUTE, RELEASE, Kind
from windlass.errors import WindlassError
from windlass.operator import process
from windlass.operator.fenced_api import DeposedError, FencedApi
from windlass.operator.metrics import Metrics
from windlass.operator.page import Page
from windlass.operator.process import Process
from windlass.operator.reconciler import Key, Object, Watched

WITHIN_S = 20.0
DEPLOYMENT = Path(__file__).parents[3] / "helm" / "windlass" / "templates" / "operator" / "deployment.yaml"


class Lead:
    """A lease that a test gives and takes."""

    def __init__(self) -> None:
        self.has = threading.Event()
        self.led = False
        self.kept = 0
        self.given_back = False
        self.fail: Exception | None = None

    def leads(self) -> bool:
        return self.led and self.has.is_set()

    def reached(self) -> bool:
        return self.has.is_set()

    def keep(self, stop: threading.Event, changed: Callable[[], None]) -> str | None:
        self.kept += 1
        while not stop.wait(0.01):
            if self.fail is not None:
                raise self.fail
            if self.has.is_set() != self.led:
                self.led = not self.led
                changed()
                if not self.led:
                    return "somebody has it now"
        self.given_back = True
        return None


class Work:
    """A reconciler that counts its turns."""

    name = "work"

    def __init__(self) -> None:
        self.turns: list[Key] = []
        self.left: list[Key] = []
        self.unanswered = 0
        self.closed = 0
        self.running = 0
        self.most = 0
        self.fail: Exception | None = None
        self.go = threading.Event()
        self.go.set()
        self._lock = threading.Lock()

    @property
    def watched(self) -> Sequence[Watched]:
        return (Watched(RELEASE),)

    def heard(self, kind: Kind, event: str | None, body: Object) -> Iterable[Key]:
        return [(body["key"],)]

    def unfinished(self) -> Iterable[Key]:
        if self.unanswered:
            self.unanswered -= 1
            raise WindlassError("nobody answers")
        return self.left

    def turn(self, key: Key) -> float | None:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
            self.turns.append(key)
        self.go.wait(WITHIN_S)
        with self._lock:
            self.running -= 1
        if self.fail is not None:
            error, self.fail = self.fail, None
            raise error
        return None

    def close(self) -> None:
        self.closed += 1


class Stage:
    """A process that runs in a thread, and what it is told."""

    def __init__(self) -> None:
        self.lead, self.work, self.metrics = Lead(), Work(), Metrics()
        self.watching = threading.Event()
        self.end_watch = threading.Event()
        self.hear: Any = None
        self.process = Process([self.work], self.lead, self.metrics, self._watch, threads=2)
        self.code: int | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        assert self.watching.wait(WITHIN_S)

    def _run(self) -> None:
        self.code = self.process.run()

    def _watch(self, watched: Sequence[Watched], heard: Any, stop: threading.Event) -> None:
        self.hear = lambda key: heard(RELEASE, "ADDED", {"key": key})
        heard(HTTP_ROUTE, "ADDED", {"key": "not ours"})
        self.watching.set()
        while not stop.wait(0.02):
            if self.end_watch.is_set():
                raise RuntimeError("the watch broke")

    def until(self, there: Callable[[], bool]) -> None:
        end = time.monotonic() + WITHIN_S
        while not there():
            assert time.monotonic() < end
            time.sleep(0.01)


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.work.go.set()
    made.process.stop()
    made.thread.join(WITHIN_S)
    assert not made.thread.is_alive()


def test_a_standby_hears_and_waits(stage: Stage) -> None:
    """Verify that nothing is done before the lease is there, and all of it after."""
    for key in ("a", "b", "a"):
        stage.hear(key)
    assert stage.process.ready() is not None and not stage.process.acts()
    stage.until(lambda: stage.process._dispatcher.waiting == 2 and stage.process._news.empty())
    time.sleep(0.3)
    assert stage.work.turns == []
    stage.lead.has.set()
    stage.until(lambda: len(stage.work.turns) == 2)
    assert sorted(stage.work.turns) == [("a",), ("b",)] and stage.process.ready() is None


def test_no_news_is_lost_where_there_are_many() -> None:
    """Verify that the first listing of thousands of objects is taken in whole: a lost key is a Release nobody sees."""
    made = Process([Work()], Lead(), Metrics(), lambda *_: None)
    for number in range(3000):
        made._heard(RELEASE, "ADDED", {"key": f"{number}"})
    while not made._news.empty():
        made._listen(0.0)
    assert made._dispatcher.waiting == 3000


def test_no_more_turns_at_a_time_than_threads_and_one_for_a_key(stage: Stage) -> None:
    """Verify both limits, and that a key which is heard of during its turn gets another."""
    stage.work.go.clear()
    stage.lead.has.set()
    for key in ("a", "b", "c"):
        stage.hear(key)
    stage.until(lambda: len(stage.work.turns) == 2)
    stage.hear(stage.work.turns[0][0])
    stage.work.go.set()
    stage.until(lambda: len(stage.work.turns) == 4)
    assert stage.work.most == 2


def test_a_turn_that_fails_comes_again(stage: Stage) -> None:
    """Verify that an error is counted and tried again, and holds nobody else up."""
    stage.work.fail = WindlassError("the gateway is away")
    stage.lead.has.set()
    stage.hear("a")
    stage.until(lambda: len(stage.work.turns) == 2)
    assert stage.work.turns == [("a",), ("a",)]
    failures = stage.metrics.registry.get_sample_value(
        "windlass_operator_reconcile_failures_total", {"kind": "work"}
    )
    assert failures == 1.0


def test_who_begins_to_lead_looks_for_what_nobody_tells_of(stage: Stage) -> None:
    """Verify that work without an object gets its turn each time that this process begins to lead, and that an API
    server which is down then is asked again."""
    stage.work.left, stage.work.unanswered = [("gone",)], 1
    stage.lead.has.set()
    stage.until(lambda: stage.work.turns == [("gone",)])
    stage.lead.has.clear()
    stage.until(lambda: not stage.process.acts())
    stage.until(lambda: stage.work.closed == 1)
    stage.lead.has.set()
    stage.until(lambda: stage.work.turns == [("gone",), ("gone",)])


def test_who_loses_the_lease_forgets_and_may_lead_again(stage: Stage) -> None:
    """Verify that a deposed leader acts no more, not even once it leads again, before its old turns have ended."""
    stage.lead.has.set()
    stage.until(stage.process.acts)
    stage.work.go.clear()
    stage.hear("a")
    stage.until(lambda: stage.work.running == 1)
    stage.lead.has.clear()
    stage.until(lambda: not stage.process.acts())
    stage.until(stage.process._lost.is_set)
    stage.lead.has.set()
    time.sleep(0.2)
    assert not stage.process.acts() and stage.work.closed == 0  # that turn is still of the time before
    stage.work.go.set()
    stage.until(stage.process.acts)
    assert stage.work.closed == 1 and stage.lead.kept == 2
    stage.hear("b")
    stage.until(lambda: ("b",) in stage.work.turns)


def test_an_end_in_order_gives_the_lease_back(stage: Stage) -> None:
    """Verify that a turn that runs is waited for, none begins any more, and the exit code is 0."""
    stage.lead.has.set()
    stage.work.go.clear()
    stage.hear("a")
    stage.until(lambda: stage.work.running == 1)
    stage.process.stop()
    time.sleep(0.1)
    assert not stage.lead.given_back
    stage.hear("b")
    stage.work.go.set()
    stage.thread.join(WITHIN_S)
    assert stage.code == 0 and stage.lead.given_back and stage.work.turns == [("a",)]


def test_watches_that_end_end_the_process(stage: Stage) -> None:
    """Verify that a process that would be blind is started again by whoever looks after it."""
    stage.end_watch.set()
    stage.thread.join(WITHIN_S)
    assert stage.code == 1


def test_a_lease_that_cannot_be_kept_ends_the_process_as_a_failure(stage: Stage) -> None:
    """Verify that it is no end in order: whoever looks after the process must see that it failed."""
    stage.lead.fail = TypeError("a fault of ours")
    stage.thread.join(WITHIN_S)
    assert stage.code == 1


def test_the_end_is_within_a_pods_grace() -> None:
    """Verify that all that is waited for at the end fits into what the chart gives, with seconds to spare."""
    grace = re.search(r"terminationGracePeriodSeconds: (\d+)", DEPLOYMENT.read_text())
    assert grace is not None
    waits = process.GRACE_S + process.GIVE_BACK_S + process.UNWATCH_S
    assert waits <= int(grace[1]) - 3


def test_the_page_says_how_it_is(stage: Stage) -> None:
    """Verify the three addresses, and that a standby without API server is healthy and not ready."""
    page = Page(
        stage.metrics.registry, 0, healthy=stage.process.healthy, ready=stage.process.ready, host="127.0.0.1"
    )

    def get(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{page.port}{path}", timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    try:
        assert get("/healthz") == (200, "ok\n")
        assert get("/readyz")[0] == 503
        stage.lead.has.set()
        assert get("/readyz") == (200, "ok\n")
        stage.until(lambda: "windlass_operator_leader 1.0" in get("/metrics")[1])
        assert get("/")[0] == 404
    finally:
        page.close()


def test_who_does_not_lead_sends_nothing() -> None:
    """Verify that the fence is asked before every request, for copies with another patience too, and counts answers."""
    with kubernetes_server.running() as server:
        leads, told = [True], []
        api = FencedApi(server.client(), sleep=lambda s: None)
        api.fence(lambda: leads[0], lambda verb, code: told.append((verb, code)))
        assert api.get(RELEASE, "team", "none") is None
        leads[0] = False
        asked = len(server.asked)
        for one in (api, api.within(1.0)):
            with pytest.raises(DeposedError, match="does not lead any more"):
                one.get(RELEASE, "team", "none")
        assert len(server.asked) == asked and told == [("get", "404")]
