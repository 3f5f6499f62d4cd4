"""The collector's `POST /v1/evidence`: what it made of all predictions and feedback of one release.

The answer is cumulative and the same to whoever asks; of paired values, which only grow, it holds those that the asker
has not got. Requests, errors and latencies are not the collector's to count: a request that failed left no prediction.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from serving.release import spec
from serving.release.evidence import Evidence
from serving.release.journal import evidence_json
from serving.release.journal.evidence_json import Values
from serving.release.release import Release
from windlass.errors import UsageError, WindlassError

PATH = "/v1/evidence"

#: An answer may lie so many seconds behind the question: what arrives counts once it is in the collector's store, which
#: takes half a minute as a rule.
LATE_S = 180.0


class SilentError(WindlassError):
    """The collector said nothing that counts: it is down, reads its store after a start, or lies behind."""


class RefusedError(WindlassError):
    """The collector does not take the question, or answers in no form of its own: a person must look."""


@dataclass(frozen=True)
class Question:
    """Whose evidence is asked for; the same release is always asked for with the same champion and beginning.

    Attributes:
        since: when the release began; what was predicted before is not its evidence.
        enrolled_until: no unit of an experiment begins after it; None where no end is known.
    """

    release: Release
    champion: str
    since: datetime
    enrolled_until: datetime | None = None

    @property
    def versions(self) -> tuple[str, ...]:
        return (self.champion, *self.release.candidates)


class Collector:
    """One collector.

    Args:
        url: with the path before `/v1`, where there is one.
    """

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"the collector at {url}: give an address like http://windlass-collector:8088")
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        # it stands beside the models: a proxy for the outside world is never the way to it
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def evidence(self, question: Question, known: Values, at: datetime) -> Evidence:
        """Everything that the collector has received since the release began, of the question's versions alone.

        Args:
            known: metric -> paired values that the asker has; the answer's begin with them.
            at: the moment of the question.

        Raises:
            SilentError, RefusedError.
        """
        found = self._read(self._ask(question, known), known)
        behind = (at - found.at).total_seconds()
        if behind > LATE_S:
            raise SilentError(
                f"late: what the collector at {self.url} has ends {behind:.0f} s ago, the limit is {LATE_S:g} s"
            )
        arms = {version: found.arms[version] for version in question.versions if version in found.arms}
        return replace(found, arms=arms)

    def _ask(self, question: Question, known: Values) -> bytes:
        until = question.enrolled_until
        body = {
            "release": spec.document(question.release),
            "champion": question.champion,
            "since": question.since.isoformat(),
            "enrolledUntil": None if until is None else until.isoformat(),
            "pairedAfter": {name: len(values) for name, values in known.items()},
        }
        request = urllib.request.Request(  # noqa: S310 - http or https
            f"{self.url}{PATH}",
            json.dumps(body).encode(),
            {"Accept": "application/json", "Content-Type": "application/json"},
            method="POST",
        )
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error.code, error.read(2000)) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise SilentError(f"the collector at {self.url} does not answer: {reason}") from error

    def _refusal(self, code: int, body: bytes) -> WindlassError:
        try:
            words = str(json.loads(body)["error"])
        except (ValueError, KeyError, TypeError):
            words = body[:120].decode(errors="replace").strip()
        if code in (404, 405):
            return RefusedError(
                f"what answers at {self.url} has no {PATH} ({code}: {words}); check the address, and that the "
                "collector is no older than the operator"
            )
        if code >= 500 or code in (408, 429):
            return SilentError(f"the collector at {self.url} answered {code}: {words}")
        return RefusedError(f"the collector at {self.url} refuses the release ({code}): {words}")

    def _read(self, body: bytes, known: Values) -> Evidence:
        try:
            plain = json.loads(body)
            for name, told in plain.get("paired", {}).items():
                _require_joined(name, told, known.get(name, ()))
            found = evidence_json.from_json(plain, known)
            found.at.timestamp()
            if found.at.tzinfo is None:
                raise ValueError(f"{plain['at']} states no offset from UTC")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RefusedError(
                f"the collector at {self.url} answered in no form of its own ({error!r}); check that it is no older "
                "than the operator"
            ) from error
        return found


def _require_joined(name: str, told: dict[str, Any], known: Sequence[float]) -> None:
    """Raise ValueError where values are missing between what is known and what is told."""
    if not 0 <= told["from"] <= len(known):
        raise ValueError(f"values of {name} from {told['from']} on, and {len(known)} are known")
