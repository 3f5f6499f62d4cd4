"""The operator's process: one thread watches, one keeps the lease, a few take turns, and this one says whose it is.

Leader and standby run the same code: both watch and know every object, so that who takes over need read nothing again;
only the leader takes turns. A leader that has lost its lease sends nothing from that moment on, lets the turns that
run come to their end, forgets what it remembers of decisions, and is a standby again.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from serving.release.cluster.kinds import Kind
from windlass.errors import WindlassError
from windlass.operator.dispatcher import Dispatcher, Due
from windlass.operator.fenced_api import DeposedError
from windlass.operator.leadership import Leadership
from windlass.operator.metrics import Metrics
from windlass.operator.reconciler import Key, Object, Reconciler, Watched

LOG = logging.getLogger(__name__)

#: Turns at a time. One may wait for an answer for some seconds, and the others' must not wait for it.
THREADS = 16
#: Longest waits when the process is to end, for turns that run, for the lease to be given back and for the watches:
#: together below a pod's usual grace of 30 s.
GRACE_S = 20.0
GIVE_BACK_S = 4.0
UNWATCH_S = 2.0
#: A process whose main thread did not turn for so long is to be started again.
STUCK_S = 60.0

Watch = Callable[[Sequence[Watched], Callable[[Kind, str | None, Object], None], threading.Event], None]
"""Calls the function with each event until the flag is set."""


@dataclass(frozen=True)
class _Done:
    key: Key
    after_s: float | None = None
    error: Exception | None = None


class Process:
    """Runs reconcilers until it is stopped or deposed.

    Args:
        watch: see `handlers.watch`.
    """

    def __init__(
        self,
        reconcilers: Sequence[Reconciler],
        leadership: Leadership,
        metrics: Metrics,
        watch: Watch,
        *,
        threads: int = THREADS,
    ) -> None:
        self._by_name: Mapping[str, Reconciler] = {each.name: each for each in reconcilers}
        self._leadership = leadership
        self._metrics = metrics
        self._watch = watch
        self._threads = threads
        self._news: queue.SimpleQueue[Key | _Done | None] = queue.SimpleQueue()
        self._dispatcher = Dispatcher(time.monotonic)
        self._stop = threading.Event()
        self._done = threading.Event()
        self._lost = threading.Event()
        self._cleared = threading.Event()
        self._watch_ended = threading.Event()
        self._unled = False
        self._turned = time.monotonic()

    def acts(self) -> bool:
        """Whether this process may act, now: it leads, and has nothing left of a time when it led before.

        May be asked by any thread before every act.
        """
        return self._leadership.leads() and not self._lost.is_set()

    def stop(self) -> None:
        """End in order: no further turn begins, those that run are waited for. May be called by a signal."""
        self._stop.set()
        self._news.put(None)

    def healthy(self) -> str | None:
        """None, or why this process is to be started again; an API that is down is no reason."""
        silent = time.monotonic() - self._turned
        if silent > STUCK_S:
            return f"the main thread has not turned for {silent:.0f} s"
        return "the watches have ended" if self._watch_ended.is_set() and not self._stop.is_set() else None

    def ready(self) -> str | None:
        """None once the API server was reached, for a standby too: it is ready to take over."""
        return None if self._leadership.reached() else "the API server has not answered yet"

    def run(self) -> int:
        """Run; the exit code: 0 after `stop`, 1 where the watches ended by themselves, where the lease could not be
        kept, or where a turn did not end when it was lost."""
        watching = threading.Thread(target=self._watching, name="watches", daemon=True)
        leading = threading.Thread(target=self._keep_the_lease, name="lease", daemon=True)
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="turn")
        watching.start()
        leading.start()
        try:
            code = self._loop(pool)
        finally:
            self._stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            self._settle()
            self._done.set()
        for each in self._by_name.values():
            each.close()
        # where nothing acts any more the lease is given back, and the next one need not wait for its end
        leading.join(GIVE_BACK_S)
        watching.join(UNWATCH_S)
        return 1 if self._unled else code

    def _loop(self, pool: ThreadPoolExecutor) -> int:
        led = False
        while not self._stop.is_set():
            self._turned = time.monotonic()
            if self._lost.is_set():
                led = False
                self._metrics.leads(False)
                if not self._stand_by():
                    return 1
            leads = self.acts()
            self._metrics.leads(leads)
            if leads and not led:
                led = True
                self._dispatcher.begin()
                LOG.info("this replica leads")
                for name in self._by_name:
                    self._dispatcher.wake((name,))
            if self._watch_ended.is_set():
                LOG.error("the watches have ended: this process ends, and is to be started again")
                return 1
            if leads:
                for due in self._dispatcher.take(self._threads - self._dispatcher.running):
                    pool.submit(self._turn, due)
            self._listen(self._dispatcher.wait_s(1.0) if leads else 0.2)
        return 0

    def _stand_by(self) -> bool:
        """Become a standby: nothing of what was remembered or is still under way may act when this replica leads again.

        Returns whether that is so.
        """
        self._settle()
        if self._dispatcher.running:
            LOG.error(
                "%d turns have not ended: this process ends, and is to be started again",
                self._dispatcher.running,
            )
            return False
        for each in self._by_name.values():
            each.close()
        self._lost.clear()
        self._cleared.set()
        return True

    def _listen(self, longest: float) -> None:
        """Take the news that there are, and wait for some where there are none."""
        try:
            self._take(self._news.get(timeout=max(longest, 0.01)))
            for _ in range(1000):
                self._take(self._news.get_nowait())
        except queue.Empty:
            return

    def _take(self, news: Key | _Done | None) -> None:
        if news is None:
            return
        if not isinstance(news, _Done):
            self._dispatcher.wake(news)
        elif news.error is None:
            self._dispatcher.done(news.key, news.after_s)
        else:
            pause = self._dispatcher.failed(news.key)
            self._metrics.failed(news.key[0])
            known = isinstance(news.error, WindlassError)
            LOG.warning(
                "%s: %s; it is tried again in %.0f s",
                "/".join(news.key),
                news.error,
                pause,
                exc_info=None if known else news.error,
            )

    def _turn(self, due: Due) -> None:
        name, *key = due.key
        started = time.perf_counter()
        try:
            if not key:
                for found in self._by_name[name].unfinished():
                    self._news.put((name, *found))
            done = _Done(due.key, self._by_name[name].turn(tuple(key)) if key else None)
        except DeposedError as error:
            done = _Done(due.key, error=error)
        except Exception as error:  # whatever it is, other models' releases go on
            done = _Done(due.key, error=error)
        self._metrics.turned(name, time.perf_counter() - started, due.late_s)
        self._news.put(done)

    def _keep_the_lease(self) -> None:
        try:
            while not self._done.is_set():
                reason = self._leadership.keep(self._done, self._nudge)
                if reason is None:
                    return
                LOG.warning("the lease is lost: %s; this replica acts no more", reason)
                self._cleared.clear()
                self._lost.set()
                self._nudge()
                self._cleared.wait()
        except BaseException:
            LOG.exception("the lease cannot be kept")
            self._unled = True
            self.stop()

    def _watching(self) -> None:
        watched = [each for reconciler in self._by_name.values() for each in reconciler.watched]
        try:
            self._watch(watched, self._heard, self._stop)
        except BaseException:
            LOG.exception("the watches failed")
        finally:
            self._watch_ended.set()
            self._nudge()

    def _heard(self, kind: Kind, event: str | None, body: Object) -> None:
        for reconciler in self._by_name.values():
            if any(each.kind == kind for each in reconciler.watched):
                for key in reconciler.heard(kind, event, body):
                    self._news.put((reconciler.name, *key))

    def _nudge(self) -> None:
        self._news.put(None)

    def _settle(self) -> None:
        """Wait for the turns that run, as long as there is grace."""
        until = time.monotonic() + GRACE_S
        while self._dispatcher.running and time.monotonic() < until:
            self._listen(0.2)
