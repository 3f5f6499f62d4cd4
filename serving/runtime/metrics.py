"""Counters of one process, and their page in Prometheus' text format.

Plain integers, written by the event loop's thread alone: an increment of a client library's counter takes a
lock and costs more than the rest of the bookkeeping of a request. Several workers show the sum of all: each
leaves what it counted in a file now and then, and whoever is asked adds up.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from serving.runtime.counts import BUCKETS, RequestCounts, VersionCounts
from serving.runtime.repository import Loaded

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
BURIED = "buried.json"
PHASES = ("closed", "half_open", "open")

Samples = dict[str, float]
"""Labels to value; labels as they stand between the braces."""


@dataclass
class Family:
    """A metric and its samples."""

    name: str
    kind: str
    text: str
    samples: Samples = field(default_factory=dict)


class Metrics:
    """What a process counted.

    Args:
        shared: folder in which the workers of one server leave their counts; None for a single process.
    """

    def __init__(self, shared: Path | None = None) -> None:
        self.connections = 0
        self._shared = shared
        self._requests: dict[tuple[str, str], VersionCounts] = {}

    def of(self, model: str, version: str) -> VersionCounts:
        """The counts of one version; they outlive it. Empty names are for what is about no model."""
        return self._requests.setdefault((model, version), VersionCounts(RequestCounts(), RequestCounts()))

    def page(self, models: Iterable[Loaded]) -> bytes:
        """Render everything, the other workers' counts included."""
        families = self._families(models)
        for other in self._others():
            for name, samples in other.items():
                if name in families:
                    own = families[name].samples
                    for labels, value in samples.items():
                        own[labels] = own.get(labels, 0) + value
        lines = []
        for f in families.values():
            lines.append(f"# HELP {f.name} {f.text}\n# TYPE {f.name} {f.kind}")
            for labels, value in f.samples.items():
                suffix, _, inside = labels.partition("|")
                lines.append(
                    f"{f.name}{suffix}{{{inside}}} {value}" if inside else f"{f.name}{suffix} {value}"
                )
        return ("\n".join(lines) + "\n").encode()

    def leave(self, models: Iterable[Loaded]) -> None:
        """Leave the counts where the other workers find them."""
        if self._shared is None:
            return
        place = self._shared / f"{os.getpid()}.json"
        content = {name: f.samples for name, f in self._families(models).items()}
        beside = place.with_suffix(".part")
        beside.write_bytes(orjson.dumps(content))
        beside.rename(place)

    def _others(self) -> Iterable[Mapping[str, Samples]]:
        if self._shared is None:
            return
        own = f"{os.getpid()}.json"
        for path in sorted(self._shared.glob("*.json")):
            if path.name != own:
                with contextlib.suppress(FileNotFoundError):  # a worker that ended meanwhile
                    yield orjson.loads(path.read_bytes())

    def _counts(self) -> Iterable[tuple[str, RequestCounts]]:
        """Labels and counts; those of a model from the start on, since a counter that appears later hides its first."""
        for (model, version), counts in list(self._requests.items()):  # a load adds to it from its thread
            of = f'model="{model}",version="{version}",assigned='
            yield f'{of}"true"', counts.assigned
            if model:
                yield f'{of}"false"', counts.unassigned

    def _families(self, models: Iterable[Loaded]) -> dict[str, Family]:
        families: dict[str, Family] = {}

        def add(name: str, kind: str, text: str, samples: Mapping[str, float]) -> None:
            families.setdefault(name, Family(name, kind, text)).samples.update(samples)

        for of, counts in self._counts():
            add(
                "windlass_requests_total",
                "counter",
                "Responses by protocol and status code.",
                {f'|{of},protocol="{p}",code="{c}"': n for (p, c), n in sorted(counts.responses.items())},
            )
            add(
                "windlass_request_seconds",
                "histogram",
                "Time from a complete request to its response.",
                _histogram(of, counts),
            )
        for loaded in models:
            of = f'model="{loaded.model}",version="{loaded.version}"'
            for name, kind, text, samples in _of_model(loaded):
                add(name, kind, text, {f"|{of}{labels and ',' + labels}": v for labels, v in samples.items()})
        usage = resource.getrusage(resource.RUSAGE_SELF)
        add("windlass_connections", "gauge", "Open connections.", {"|": self.connections})
        cpu = usage.ru_utime + usage.ru_stime
        add("process_cpu_seconds_total", "counter", "CPU time of the processes.", {"|": cpu})
        resident = _resident_bytes(usage.ru_maxrss)
        add("process_resident_memory_bytes", "gauge", "Memory of the processes.", {"|": resident})
        return families


def bury(shared: Path, pid: int) -> None:
    """Keep what a worker counted that is gone: counters go on, what it held at the time does not."""
    left, kept = shared / f"{pid}.json", shared / BURIED
    if not left.exists():
        return
    total: dict[str, Samples] = orjson.loads(kept.read_bytes()) if kept.exists() else {}
    for name, samples in orjson.loads(left.read_bytes()).items():
        if name.endswith(("_total", "_seconds")):
            own = total.setdefault(name, {})
            for labels, value in samples.items():
                own[labels] = own.get(labels, 0) + value
    beside = kept.with_suffix(".part")
    beside.write_bytes(orjson.dumps(total))
    beside.rename(kept)
    left.unlink()


def _of_model(loaded: Loaded) -> Iterable[tuple[str, str, str, Samples]]:
    served, lane = loaded.served, loaded.lane
    yield (
        "windlass_predictions_total",
        "counter",
        "Rows answered.",
        {"": sum(served.counts.rows.values())},
    )
    yield (
        "windlass_answers_total",
        "counter",
        "Rows by what answered them.",
        {f'by="{by}"': n for by, n in served.counts.rows.items()},
    )
    yield "windlass_model_failures_total", "counter", "Runs that failed.", {"": served.counts.failures}
    features = served.ladder.counts
    yield (
        "windlass_feature_rows_total",
        "counter",
        "Rows by the lowest rung of the ladder that a feature came from.",
        {f'source="{source}"': n for source, n in features.rows.items()},
    )
    yield (
        "windlass_feature_store_failures_total",
        "counter",
        "Rows that were not read from the online store, by reason.",
        {f'reason="{reason}"': n for reason, n in sorted(features.failures.items())},
    )
    breakers = {"model": served.breaker, "store": features.breaker}
    yield (
        "windlass_breaker_state",
        "gauge",
        "1 for the state that a circuit breaker is in.",
        {f'of="{of}",state="{p}"': float(b.state.phase == p) for of, b in breakers.items() for p in PHASES},
    )
    yield (
        "windlass_breaker_opens_total",
        "counter",
        "Times that a circuit breaker opened.",
        {f'of="{of}"': b.opens for of, b in breakers.items()},
    )
    yield (
        "windlass_shed_total",
        "counter",
        "Requests not run, by reason: the lane was full, too slow for them, or their deadline was over.",
        {f'reason="{reason}"': n for reason, n in sorted(lane.counts.shed.items())},
    )
    yield "windlass_pending_requests", "gauge", "Requests that wait or run.", {"": lane.pending}
    yield "windlass_model_runs_total", "counter", "Runs of the model.", {"": lane.counts.runs}
    yield "windlass_model_run_rows_total", "counter", "Rows of those runs.", {"": lane.counts.rows}
    if served.cache is not None:
        yield (
            "windlass_cache_lookups_total",
            "counter",
            "Requests looked up in the prediction cache.",
            {'result="hit"': served.cache.hits, 'result="miss"': served.cache.misses},
        )
    if served.sink is not None:
        records = served.sink.counts
        yield (
            "windlass_log_records_total",
            "counter",
            "Prediction records written to the log.",
            {"": records.written},
        )
        yield (
            "windlass_log_dropped_total",
            "counter",
            "Prediction records dropped because the log could not follow.",
            {"": records.dropped},
        )
        yield (
            "windlass_log_queued_bytes",
            "gauge",
            "Prediction records that wait to be written.",
            {"": records.queued_bytes},
        )


def _histogram(of: str, counts: RequestCounts) -> Samples:
    samples: Samples = {}
    total = 0
    for bound, count in zip((*BUCKETS, "+Inf"), counts.buckets, strict=True):
        total += count
        samples[f'_bucket|{of},le="{bound}"'] = total
    return {**samples, f"_sum|{of}": counts.seconds, f"_count|{of}": total}


def _resident_bytes(most_kilobytes: int) -> int:
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # no /proc here: the peak is the nearest thing
        return most_kilobytes * 1024
