"""The trigger's metrics, made of the journal at each scrape: a restart loses none."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from monitoring.retrain.decision import escalated
from monitoring.retrain.history import History
from monitoring.retrain.service.core import UNKNOWN_WORKLOAD, Service
from monitoring.retrain.service.events import STATES as ENDINGS
from monitoring.retrain.signals import PastTrigger

STATES = ("accepted", "submitted", "running", "finished")
RESULTS = ("accepted", "unauthorized", "invalid", "full")


class Metrics(Collector):
    """What `/metrics` shows. `requests` counts what became of webhook requests, by result."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.requests: Counter[str] = Counter(dict.fromkeys(RESULTS, 0))

    def count(self, result: str) -> None:
        self.requests[result] += 1

    def collect(self) -> Iterator[Metric]:
        watched, now = self._service.watched, self._service.now().at
        states = {name: w.trigger.state() for name, w in watched.items()}
        yield _counts(states)
        triggers = GaugeMetricFamily(
            "windlass_retrain_triggers", "Accepted signals by how far they are", labels=["model", "state"]
        )
        age = _gauge("queue_age_seconds", "Age of the oldest accepted signal whose run has not ended")
        held = _gauge("held", "Signals that are held back and will be decided again")
        stuck = _gauge("escalated", "1 while retraining does not help and a person has to decide")
        refused = _gauge("data_refused", "1 while the newest training data fails validation")
        success = _gauge("last_success_timestamp_seconds", "When a run last ended with a version")
        seconds = CounterMetricFamily(
            "windlass_retrain_run_seconds", "What runs took, in all", labels=["model"]
        )
        for name, state in states.items():
            past = state.past
            running = self._service.running(name)
            by_state = Counter(_state(t, running) for t in past)
            for each in STATES:
                triggers.add_metric([name, each], by_state[each])
            open_ = [t.elapsed(now) for t in past if not t.finished]
            age.add_metric([name], max((*open_, timedelta(0))).total_seconds())
            held.add_metric([name], len(state.held))
            platform, policy = watched[name].platform, watched[name].trigger.policy
            # a registry that is silent leaves out what only it knows, not everything else
            with contextlib.suppress(Exception):
                stuck.add_metric([name], float(escalated(past, policy, platform.champion())))
            with contextlib.suppress(Exception):
                refused.add_metric([name], float(platform.data_refused()))
            seconds.add_metric([name], state.seconds)
            if state.succeeded_at is not None:
                success.add_metric([name], _epoch(state.succeeded_at))
        yield from (triggers, age, held, stuck, refused, success, seconds)
        jumps = CounterMetricFamily("windlass_retrain_clock_jumps", "Times that the wall clock was set")
        # every workload's journal notes the same jumps
        jumps.add_metric([], max((state.jumps for state in states.values()), default=0))
        yield jumps
        ended = CounterMetricFamily(
            "windlass_retrain_runs_ended",
            "Pipeline runs that their exit task told of, since the process began",
            labels=["model", "state"],
        )
        # each from zero on: of a counter that begins with its first failure nobody sees that it rose
        for name in (*sorted(watched), UNKNOWN_WORKLOAD):
            for outcome in ENDINGS:
                ended.add_metric([name, outcome], self._service.ended[name, outcome])
        yield ended
        requests = CounterMetricFamily(
            "windlass_retrain_webhook_requests",
            "Requests with signals, by what became of them",
            labels=["result"],
        )
        for result, count in self.requests.items():
            requests.add_metric([result], count)
        yield requests


def _counts(states: Mapping[str, History]) -> Metric:
    family = CounterMetricFamily(
        "windlass_retrain_signals", "Signals by the rule that decided", labels=["model", "kind", "rule"]
    )
    for name, state in states.items():
        for (kind, rule), count in sorted(state.counts.items()):
            family.add_metric([name, kind, rule], count)
    return family


def _gauge(name: str, doc: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"windlass_retrain_{name}", doc, labels=["model"])


def _state(past: PastTrigger, running: frozenset[str]) -> str:
    if past.finished:
        return "finished"
    if not past.submitted:
        return "accepted"
    return "running" if past.id in running else "submitted"


def _epoch(moment: datetime) -> float:
    return moment.timestamp()
