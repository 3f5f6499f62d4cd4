"""Prometheus metrics of releases: every decision counted, and where each release stands as gauges.

An `Exporter` is a listener of the controller. The numbers are copies of what the journal says, for dashboards and
alerts; nothing is decided on them. Series of what is over are removed, so that no dashboard shows a version that gets
no traffic any more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, write_to_textfile

from serving.release.decision import Decision
from serving.release.state import Phase, ReleaseState
from serving.release.verdict import Verdict
from windlass import metrics_page

PHASES: tuple[str, ...] = get_args(Phase)


class Families:
    """The metrics of releases in one registry, which the exporters of several namespaces share.

    Args:
        namespaces: whether each series says which namespace its release is of. On a cluster it must: of one target
            Prometheus knows where its pod is, and that is the operator's namespace.
    """

    def __init__(self, registry: CollectorRegistry | None = None, *, namespaces: bool = False) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self.namespaces = namespaces
        model = ("namespace", "model") if namespaces else ("model",)

        self.gauges: list[Gauge] = []

        def gauge(name: str, doc: str, *labels: str) -> Gauge:
            made = Gauge(f"windlass_release_{name}", doc, (*model, *labels), registry=self.registry)
            self.gauges.append(made)
            return made

        self.decisions = Counter(
            "windlass_release_decisions",
            "Decisions that changed something, by what was done and the check that decided",
            (*model, "action", "check"),
            registry=self.registry,
        )
        self.phase = gauge("phase", "1 for the phase that the model's newest release is in", "phase")
        self.step = gauge("step", "Step in force, from 1")
        self.weight = gauge("weight_percent", "Share of the requests that was decided", "version")
        self.alert = gauge("alert", "1 while a release waits for a person")
        self.at = gauge("last_decision_timestamp_seconds", "Time of the newest decision")
        verdict = ("check", "version")
        self.estimate = gauge("verdict_estimate", "Estimate of a check at the last look", *verdict)
        self.lower = gauge("verdict_lower", "Lower bound of its confidence sequence", *verdict)
        self.upper = gauge("verdict_upper", "Upper bound of its confidence sequence", *verdict)
        self.bound = gauge("verdict_bound", "What the estimate is held to", *verdict)
        self.observations = gauge("verdict_observations", "Observations it rests on", *verdict)
        self.evidence = gauge("verdict_evidence", "Its e-value: odds against the candidate's claim", *verdict)
        self.outcome = gauge("verdict_outcome", "1 for the outcome of the last look", *verdict, "outcome")


class Exporter:
    """Metrics of the releases of one controller; call it with each decision.

    A controller that starts again shows what its journal holds by `show`.

    Args:
        families: by default ones of its own, without namespaces.
        namespace: whose releases they are; stated exactly where the families say so.
    """

    def __init__(self, families: Families | None = None, namespace: str | None = None) -> None:
        self._of = families if families is not None else Families()
        if self._of.namespaces != (namespace is not None):
            raise ValueError(
                f"namespace {namespace!r} for families whose series have namespaces or have none"
            )
        self.registry = self._of.registry
        self._place = () if namespace is None else (namespace,)
        self._shown: dict[str, set[tuple[Gauge, tuple[str, ...]]]] = {}

    def __call__(self, name: str, decision: Decision) -> None:
        """Take a decision of release `name`."""
        model = decision.state.release.model
        self._of.decisions.labels(*self._place, model, decision.action, decision.check or "").inc()
        self.show(decision.state)
        self._of.at.labels(*self._place, model).set(decision.at.timestamp())
        for verdict in decision.verdicts:
            self._judged(model, verdict)

    def show(self, state: ReleaseState) -> None:
        """Show where a release stands, without a decision."""
        model = state.release.model
        for gauge, labels in self._shown.pop(model, ()):
            gauge.remove(*labels)
        for phase in PHASES:
            self._of.phase.labels(*self._place, model, phase).set(phase == state.phase)
        self._of.step.labels(*self._place, model).set(state.step + 1)
        self._of.alert.labels(*self._place, model).set(state.live and state.alert is not None)
        for version, weight in state.weights.items():
            self._set(model, self._of.weight, weight, version)

    def forget(self) -> None:
        """Show no release any more; what was counted stays. For who does not decide any longer: what it showed last
        would stand there for ever, an alert that somebody has answered elsewhere among it."""
        for gauge in self._of.gauges:
            if self._place:
                gauge.remove_by_labels({"namespace": self._place[0]})
            else:
                gauge.clear()
        self._shown.clear()

    def _judged(self, model: str, verdict: Verdict) -> None:
        of, labels = self._of, (verdict.check, verdict.version or "")
        for gauge, value in (
            (of.estimate, verdict.estimate),
            (of.lower, verdict.lower),
            (of.upper, verdict.upper),
            (of.bound, verdict.bound),
            (of.evidence, verdict.evidence),
            (of.observations, float(verdict.n)),
        ):
            # what is unknown has no series: a zero would be a claim
            if value is not None and math.isfinite(value):
                self._set(model, gauge, value, *labels)
        self._set(model, of.outcome, 1, *labels, verdict.outcome)

    def _set(self, model: str, gauge: Gauge, value: float, *labels: str) -> None:
        whole = (*self._place, model, *labels)
        gauge.labels(*whole).set(value)
        self._shown.setdefault(model, set()).add((gauge, whole))

    def write(self, path: Path) -> None:
        """Write all metrics as a text file, for a node exporter's textfile collector; atomic."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(path), self.registry)


def serve(exporter: Exporter, port: int, address: str = "127.0.0.1") -> Callable[[], None]:
    """Serve the metrics at `http://address:port/metrics` from a thread; the result ends it.

    Raises:
        WindlassError: the port is taken.
    """
    return metrics_page.serve(exporter.registry, port, address)
