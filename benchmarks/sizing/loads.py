"""What the parts are given to do: rows of the flights model, again and again, as requests, as answers and as labels."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

DAY = 86_400.0
SENT = ("sched_minute", "day_of_week", "distance", "sched_elapsed")
CARRIERS, ORIGINS = ("UA", "B6", "EV", "DL", "AA"), ("EWR", "LGA", "JFK")


class Flights:
    """Rows that a version was judged on, repeated without end."""

    def __init__(self, bundle: Path) -> None:
        self._inputs = [each["name"] for each in json.loads((bundle / "serving.json").read_text())["inputs"]]
        self._rows = pd.read_parquet(bundle / "evaluation.parquet")
        self._vectors = self._rows[self._inputs].to_numpy(np.float64)

    def request(self, number: int) -> dict[str, Any]:
        """One instance as a caller sends it."""
        row = self._rows.iloc[number % len(self._rows)]
        keys = {
            "carrier": CARRIERS[number % 5],
            "origin": ORIGINS[number % 3],
            "dest": "ORD",
            "tailnum": "N14228",
        }
        return keys | {name: float(row[name]) for name in SENT}

    def answers(self, count: int, since: float, until: float) -> Iterator[bytes]:
        """JSON lines of the prediction log, `count` evenly between two times, 1,000 a piece."""
        step = (until - since) / count
        for start in range(0, count, 1000):
            yield b"\n".join(
                json.dumps(self._answer(n, since + n * step)).encode() for n in range(start, start + 1000)
            )

    def labels(self, count: int, at: float) -> Iterator[bytes]:
        """Lists of labels of those answers, 1,000 a piece."""
        for start in range(0, count, 1000):
            yield json.dumps(
                [
                    {"request_id": f"s{n}", "label": self._of(n, "label"), "at": at}
                    for n in range(start, start + 1000)
                ]
            ).encode()

    def _answer(self, number: int, at: float) -> dict[str, Any]:
        sent = self.request(number)
        return {
            "request_id": f"s{number}",
            "model": "flights",
            "version": "1",
            "at": at,
            "mirrored": False,
            "answered_by": "model",
            "latency_ms": 1.25,
            "source": "online",
            "entities": {key: sent.pop(key) for key in ("carrier", "origin", "dest", "tailnum")},
            "request": sent,
            "features": [
                float(v) if np.isfinite(v) else None for v in self._vectors[number % len(self._vectors)]
            ],
            "score": self._of(number, "score"),
        }

    def _of(self, number: int, column: str) -> float:
        return float(self._rows[column].iloc[number % len(self._rows)])


class Caller:
    """One kept connection to a server of this machine."""

    def __init__(self, port: int, token: str | None = None) -> None:
        self._port, self._headers = port, {"content-type": "application/json"}
        if token is not None:
            self._headers["authorization"] = f"Bearer {token}"
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> int:
        """The status of the answer, 0 where there is none."""
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
            self._connection.request(method, path, body, {**self._headers, **headers})
            answer = self._connection.getresponse()
            answer.read()
            return answer.status
        except OSError:
            self._connection = None
            return 0
        except http.client.HTTPException:
            self._connection = None
            return 0


def paced(seconds: float, per_second: float) -> Iterator[int]:
    """Numbers from 0 at an even pace, for so long; what is behind is made up for."""
    began, number = time.monotonic(), 0
    while (now := time.monotonic() - began) < seconds:
        due = number / per_second
        if due > now:
            time.sleep(due - now)
        yield number
        number += 1
