"""Metrics pages of real processes, as Prometheus would scrape them."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Labels = tuple[tuple[str, str], ...]
TIMEOUT_S = 10.0


@dataclass(frozen=True, order=True)
class Series:
    """A name with its labels, sorted."""

    name: str
    labels: Labels

    def __str__(self) -> str:
        inside = ",".join(f'{k}="{_escaped(v)}"' for k, v in self.labels)
        return f"{self.name}{{{inside}}}" if inside else self.name


@dataclass(frozen=True)
class Target:
    """A process that has a page."""

    job: str
    url: str

    @property
    def instance(self) -> str:
        return self.url.split("//", 1)[1].split("/", 1)[0]


@dataclass(frozen=True)
class Scrape:
    """The samples of all targets at one moment.

    Attributes:
        at: epoch seconds.
        counters: series that only grow.
    """

    at: float
    samples: Mapping[Series, float]
    counters: frozenset[Series]

    def value(self, name: str, **labels: str) -> float | None:
        """The sum of the series of this name that have these labels; None where there is none."""
        found = [
            v
            for series, v in self.samples.items()
            if series.name == name and labels.items() <= dict(series.labels).items()
        ]
        return sum(found) if found else None


def scrape(targets: Sequence[Target], timeout_s: float = TIMEOUT_S) -> Scrape:
    """Get every target's page; one that does not answer has no sample but `up` 0, as in Prometheus."""
    samples: dict[Series, float] = {}
    counters: set[Series] = set()
    for target in targets:
        own = {"job": target.job, "instance": target.instance}
        text = _page(target.url, timeout_s)
        samples[_series("up", own)] = 0.0 if text is None else 1.0
        for series, value, counts in [] if text is None else parse(text, own):
            samples[series] = value
            if counts:
                counters.add(series)
    return Scrape(time.time(), samples, frozenset(counters))


def parse(text: str, target: Mapping[str, str]) -> list[tuple[Series, float, bool]]:
    """Read a page in Prometheus's text format: (series, value, whether it only grows).

    A label of the page that the target has as well becomes `exported_…`, as Prometheus has it.
    """
    from prometheus_client.parser import text_string_to_metric_families

    found = []
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.endswith("_created"):
                continue  # when a client library's counter was made: no Prometheus rule of ours reads it
            labels = {(f"exported_{k}" if k in target else k): v for k, v in sample.labels.items()}
            counts = family.type in ("counter", "histogram")
            found.append((_series(sample.name, {**labels, **target}), float(sample.value), counts))
    return found


def _page(url: str, timeout_s: float) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:  # noqa: S310 - loopback
            content: bytes = answer.read()
    except (OSError, urllib.error.URLError, http.client.HTTPException):
        return None
    return content.decode()


def _series(name: str, labels: Mapping[str, str]) -> Series:
    return Series(name, tuple(sorted(labels.items())))


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
