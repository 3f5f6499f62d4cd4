"""Counters of one server, and their page in Prometheus' text format.

Plain integers, written by the event loop's thread alone: an increment of a client library's counter takes a
lock and costs more than the rest of the bookkeeping of a request.
"""

from __future__ import annotations

import os
import resource
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

from serving.runtime.bundle import Bundle
from serving.runtime.features import ladder
from serving.runtime.payload import lines as log

BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What is counted of the requests; features and log keep their own counts."""

    def __init__(self, bundle: Bundle) -> None:
        self._labels = f'model="{bundle.model}",version="{bundle.version}"'
        self.responses: dict[tuple[str, int], int] = {}
        self.rows = 0
        self.connections = 0
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0

    def answered(self, protocol: str, status: int, seconds: float) -> None:
        """Count one response; `seconds` is the time from the complete request to its response."""
        key = (protocol, status)
        self.responses[key] = self.responses.get(key, 0) + 1
        self._buckets[bisect_left(BUCKETS, seconds)] += 1
        self._seconds += seconds

    def page(self, features: ladder.Counts, records: log.Counts) -> bytes:
        """Render everything."""
        lines: list[str] = []

        def family(name: str, kind: str, text: str, samples: dict[str, float]) -> None:
            lines.append(f"# HELP {name} {text}")
            lines.append(f"# TYPE {name} {kind}")
            for labels, value in samples.items():
                lines.append(f"{name}{{{self._labels}{labels and ',' + labels}}} {value}")

        family(
            "windlass_requests_total",
            "counter",
            "Responses by protocol and status code.",
            {f'protocol="{p}",code="{c}"': n for (p, c), n in sorted(self.responses.items())},
        )
        lines.extend(
            self._histogram("windlass_request_seconds", "Time from a complete request to its response.")
        )
        family("windlass_predictions_total", "counter", "Rows scored.", {"": self.rows})
        family(
            "windlass_feature_rows_total",
            "counter",
            "Rows by the lowest rung of the ladder that a feature came from.",
            {f'source="{source}"': n for source, n in features.rows.items()},
        )
        family(
            "windlass_feature_store_failures_total",
            "counter",
            "Reads of the online store that failed or were not tried, by reason.",
            {f'reason="{reason}"': n for reason, n in sorted(features.failures.items())},
        )
        family(
            "windlass_log_records_total",
            "counter",
            "Prediction records written to the log.",
            {"": records.written},
        )
        family(
            "windlass_log_dropped_total",
            "counter",
            "Prediction records dropped because the log could not follow.",
            {"": records.dropped},
        )
        family(
            "windlass_log_queued_bytes",
            "gauge",
            "Prediction records that wait to be written.",
            {"": records.queued_bytes},
        )
        family("windlass_connections", "gauge", "Open connections.", {"": self.connections})
        usage = resource.getrusage(resource.RUSAGE_SELF)
        family(
            "process_cpu_seconds_total",
            "counter",
            "CPU time of this process.",
            {"": usage.ru_utime + usage.ru_stime},
        )
        family(
            "process_resident_memory_bytes",
            "gauge",
            "Memory of this process.",
            {"": _resident_bytes(usage.ru_maxrss)},
        )
        return ("\n".join(lines) + "\n").encode()

    def _histogram(self, name: str, text: str) -> Iterator[str]:
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} histogram"
        total = 0
        for bound, count in zip((*BUCKETS, "+Inf"), self._buckets, strict=True):
            total += count
            yield f'{name}_bucket{{{self._labels},le="{bound}"}} {total}'
        yield f"{name}_sum{{{self._labels}}} {self._seconds}"
        yield f"{name}_count{{{self._labels}}} {total}"


def _resident_bytes(most_kilobytes: int) -> int:
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # no /proc here: the peak is the nearest thing
        return most_kilobytes * 1024
