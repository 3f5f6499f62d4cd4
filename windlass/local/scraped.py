"""Answers counted by Prometheus instead of the access log, for a release whose checks ask it; kept across restarts."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from serving.release.evidence import Evidence
from serving.release.prometheus.client import Prometheus
from serving.release.prometheus.source import PrometheusSource
from windlass import atomic

#: A look may not wait longer for an answer: the platform has other things to do.
PATIENCE_S = 2.0


class ScrapedAnswers:
    """What Prometheus says of one release's versions.

    Args:
        path: where the counts are kept, since counters of servers that were started again begin anew.
    """

    def __init__(self, url: str, model: str, versions: tuple[str, ...], since: datetime, path: Path) -> None:
        self._versions = versions
        self._path = path
        kept = json.loads(path.read_bytes()) if path.exists() else None
        self._source = PrometheusSource(Prometheus(url, timeout_s=PATIENCE_S), model, since, state=kept)
        self._kept = kept

    def evidence(self, at: datetime) -> Evidence:
        """Counts up to `at`; a source that says nothing is silent, and what it said before stands."""
        found = self._source.evidence(self._versions, at)
        state = self._source.state()
        if state != self._kept:
            atomic.write_text(self._path, json.dumps(state))
            self._kept = state
        return found
