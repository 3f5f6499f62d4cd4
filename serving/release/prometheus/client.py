"""Prometheus' HTTP API, as much of it as evidence needs: the raw samples of some series up to a moment.

Raw samples and not `increase()` or `rate()`: those extrapolate to the edges of their range, so that 3 errors become
3.2, and forget what they said a moment ago. An instant query of a range selector returns what was scraped, with the
times of the scrapes (a plain instant query gives every sample the time of the question, and hides how old it is).
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from windlass.errors import UsageError, WindlassError


class SilentError(WindlassError):
    """Prometheus said nothing that counts: it is down, overloaded, or answered in part."""


class NonsenseError(WindlassError):
    """Prometheus, or what stands at its address, said something that cannot be true."""


@dataclass(frozen=True)
class Series:
    """One series.

    Attributes:
        labels: with `__name__`.
        samples: time in seconds since the epoch and value, oldest first.
    """

    labels: Mapping[str, str]
    samples: tuple[tuple[float, float], ...]


class Prometheus:
    """One server, or whatever speaks its API.

    Args:
        url: with the path before `/api`, where there is one.
        headers: sent with every query, for example {"Authorization": "Bearer ..."}.
    """

    def __init__(
        self, url: str, *, timeout_s: float = 10.0, headers: Mapping[str, str] | None = None
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"Prometheus at {url}: give an address like http://prometheus.monitoring:9090")
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._headers = {"Accept": "application/json", **(headers or {})}
        # it stands beside the models: a proxy for the outside world is never the way to it
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def samples(self, promql: str, at: datetime) -> list[Series]:
        """What a range selector gives at `at`.

        Raises:
            SilentError, NonsenseError.
        """
        found = self._data(promql, at)
        try:
            if found["resultType"] != "matrix":
                raise NonsenseError(
                    f"{promql} gives a {found['resultType']}, not a matrix: its last part must be a range like [60s]"
                )
            return [_series(item) for item in found["result"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise NonsenseError(
                f"Prometheus at {self.url} answered in no form of its own: {error!r}"
            ) from error

    def has(self, promql: str, at: datetime) -> bool:
        """Whether an instant query gives anything at `at`.

        Raises:
            SilentError, NonsenseError.
        """
        found = self._data(promql, at).get("result")
        if not isinstance(found, list):
            raise NonsenseError(f"Prometheus at {self.url} answered in no form of its own: {found!r}")
        return bool(found)

    def _data(self, promql: str, at: datetime) -> Mapping[str, Any]:
        query = urllib.parse.urlencode({"query": promql, "time": f"{at.timestamp():.3f}"})
        request = urllib.request.Request(f"{self.url}/api/v1/query?{query}", headers=self._headers)  # noqa: S310
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(promql, error.code, error.read(500)) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise SilentError(f"Prometheus at {self.url} does not answer: {reason}") from error
        try:
            found = json.loads(body)
            status, data = found["status"], found.get("data")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NonsenseError(
                f"what answers at {self.url} is no Prometheus ({body[:60]!r}); check the address"
            ) from error
        if status != "success" or not isinstance(data, dict):
            raise SilentError(f"Prometheus at {self.url} failed: {found.get('error', status)}")
        if found.get("warnings"):
            # Thanos and its like answer with what they could get
            raise SilentError(
                f"Prometheus at {self.url} answered in part: {'; '.join(map(str, found['warnings']))}"
            )
        return data

    def _refusal(self, promql: str, code: int, body: bytes) -> WindlassError:
        try:
            words = str(json.loads(body)["error"])
        except (ValueError, KeyError, TypeError):
            words = body[:120].decode(errors="replace").strip()
        if code == 400:
            return NonsenseError(f"Prometheus refuses the query {promql}: {words}")
        return SilentError(f"Prometheus at {self.url} answered {code}: {words}")


def _series(item: Mapping[str, Any]) -> Series:
    labels = {str(key): str(value) for key, value in item["metric"].items()}
    if "histograms" in item:
        raise NonsenseError(
            f"{labels.get('__name__')} is a native histogram; let the target expose classic buckets (le) as well"
        )
    # float() reads "NaN" and "+Inf" too; whether they can be true is judged where their meaning is known
    return Series(labels, tuple((float(at), float(value)) for at, value in item["values"]))
