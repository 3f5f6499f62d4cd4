"""What Prometheus counted of the serving side: requests, failures, slow answers, CPU and memory.

The edge of `monitoring.analysis.slo`. Whatever goes wrong in asking gives no counts and a reason: a metrics source
that is down is no good news.
"""

from __future__ import annotations

import http.client
import json
import math
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass

from monitoring.analysis.slo import PERIOD, WINDOWS, Counted, Objective, Resources
from windlass.errors import WindlassError

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Metrics:
    """One Prometheus server, asked as of one moment.

    Attributes:
        url: without the path `/api`.
        at: epoch seconds.
        namespace: of a cluster, whose models are meant: another team may have one of the same name. None asks for a
            model wherever it is.
    """

    url: str
    at: float
    namespace: str | None = None

    def counted(self, model: str, objective: Objective) -> Counted | None:
        """Count the requests of an objective; None where Prometheus has no series of the model.

        Raises:
            WindlassError: it does not answer, or not as Prometheus does.
        """
        spans = {"period": f"{PERIOD.days}d", **{name: name for name in WINDOWS}}
        found: dict[str, tuple[float, float]] = {}
        for name, span in spans.items():
            if (pair := self._pair(model, objective, span)) is not None:
                found[name] = pair
        period = found.pop("period", None)
        return None if period is None else Counted("Prometheus", period, found)

    def resources(self, model: str) -> Resources:
        """CPU and memory of the processes that serve the model.

        Raises:
            WindlassError: as `counted`.
        """
        span = f"{PERIOD.days}d"
        # the processes' own series name no model: those of the targets that count requests for it
        of = self._of(model)
        serves = f"group by (job, instance) (windlass_requests_total{{{of}}})"
        cpu = self._value(
            f"sum(increase(process_cpu_seconds_total[{span}]) * on (job, instance) group_left () {serves})"
        )
        requests = self._value(f"sum(increase(windlass_requests_total{{{of}}}[{span}]))")
        memory = self._value(
            f"max(process_resident_memory_bytes * on (job, instance) group_left () {serves})"
        )
        per_1000 = cpu / requests * 1000 if cpu is not None and requests else None
        return Resources(per_1000, memory)

    def _pair(self, model: str, objective: Objective, span: str) -> tuple[float, float] | None:
        of = self._of(model)
        if objective.within_ms is None:
            total = self._value(f"sum(increase(windlass_requests_total{{{of}}}[{span}]))")
            bad = self._value(f'sum(increase(windlass_requests_total{{{of},code=~"5.."}}[{span}]))')
            # no failure yet is a counter that does not exist: a true zero where requests are counted
            return None if total is None else (total, bad or 0.0)
        total = self._value(f"sum(increase(windlass_request_seconds_count{{{of}}}[{span}]))")
        bound = f"{objective.within_ms / 1000:g}"
        fast = self._value(f'sum(increase(windlass_request_seconds_bucket{{{of},le="{bound}"}}[{span}]))')
        # without the bucket nobody knows how many were fast
        return None if total is None or fast is None else (total, max(total - fast, 0.0))

    def _of(self, model: str) -> str:
        team = "" if self.namespace is None else f'namespace="{self.namespace}",'
        return f'{team}model="{model}"'

    def _value(self, promql: str) -> float | None:
        query = urllib.parse.urlencode({"query": promql, "time": f"{self.at:.3f}"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.url}/api/v1/query?{query}", timeout=TIMEOUT_S) as answer:
                result = json.loads(answer.read())["data"]["result"]
            value = float(result[0]["value"][1]) if result else None
        except (OSError, http.client.HTTPException, urllib.error.URLError) as error:
            raise WindlassError(f"Prometheus at {self.url} does not answer: {error}") from error
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise WindlassError(
                f"what answers at {self.url} is no Prometheus ({error!r}); check WINDLASS_PROMETHEUS_URL"
            ) from error
        return value if value is not None and math.isfinite(value) else None
