"""Users whose requests a live HTTPRoute shares out, servers that log what they answer, and what users tell of it.

There is no proxy and no model server here. What a proxy would do with a request is read from the live objects: rules
by their matches, the policy's hash of a unit, weights, copies, the headers that a rule sets. What a server would log is
sent to the collector in the form of `POST /predictions`, what users tell as `POST /feedback`, and every answer is
counted on the page that Prometheus scrapes. The collector is the real one.
"""

from __future__ import annotations

import http.client
import itertools
import json
import random
import re
import threading
import time
import urllib.error
import urllib.request
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from serving.release import buckets
from serving.release.cluster import naming, policy
from serving.release.envoy.lua import BUCKET_HEADER, UNIT_HEADER
from serving.release.route_header import ROUTE_HEADER
from serving.runtime.counts import UNASSIGNED
from tests.cluster.operator_stage import Controllers, Traffic

Object = dict[str, Any]
DEVICES = ("mobile", "desktop")
PREVIEW = ("x-windlass-preview", "13")


@dataclass(frozen=True)
class Way:
    """Where a request goes.

    Attributes:
        copy_to: version that gets a copy of it; None where none does.
        headers: what the server sees.
    """

    version: str
    copy_to: str | None
    headers: Mapping[str, str]


class Proxy:
    """Does what a live route and its policy say; shares are exact over many requests."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._owed: dict[tuple[int, str], float] = {}

    def way(self, route: Object, script: Object | None, sent: Mapping[str, str]) -> Way:
        headers = {name: value for name, value in sent.items() if name not in (BUCKET_HEADER, UNIT_HEADER)}
        assigned = policy.read(script, naming.route(self._model))
        if assigned is not None and headers.get(assigned[0].name):
            unit, salt = headers[assigned[0].name], assigned[1]
            headers[BUCKET_HEADER] = f"{buckets.bucket(salt, unit):04d}"
            headers[UNIT_HEADER] = buckets.pseudonym(salt, unit)
        index, rule = self._rule(route["spec"]["rules"], headers)
        copy_to = None
        for found in rule.get("filters", ()):
            if found["type"] == "RequestHeaderModifier":
                headers |= {item["name"]: item["value"] for item in found["requestHeaderModifier"]["set"]}
            elif found["type"] == "RequestMirror":
                mirror = found["requestMirror"]
                if self._due({"copy": mirror.get("percent", 100), "none": 0}, index) == "copy":
                    copy_to = naming.version_of(self._model, mirror["backendRef"]["name"])
        weights: Counter[str] = Counter()
        for ref in rule["backendRefs"]:
            weights[naming.version_of(self._model, ref["name"]) or ""] += ref.get("weight", 1)
        version = self._due(weights, index)
        assert version is not None, rule
        return Way(version, copy_to, headers)

    def _rule(self, rules: list[Object], headers: Mapping[str, str]) -> tuple[int, Object]:
        """The rule of a request: of those that match, that with the most headers, of these the first."""
        found = [
            (-len(match.get("headers", ())), index)
            for index, rule in enumerate(rules)
            for match in rule["matches"]
            if all(_matches(item, headers) for item in match.get("headers", ()))
        ]
        index = min(found)[1]
        return index, rules[index]

    def _due(self, weights: Mapping[str, int], rule: int) -> str | None:
        """Whose turn it is, so that everyone has had their percent; None where it is nobody's."""
        for name, weight in weights.items():
            self._owed[rule, name] = self._owed.get((rule, name), 0.0) + weight / 100
        name = max(weights, key=lambda each: self._owed[rule, each])
        if self._owed[rule, name] < 0.5 and sum(weights.values()) < 100:
            return None
        self._owed[rule, name] -= 1
        return name


def _matches(item: Object, headers: Mapping[str, str]) -> bool:
    value = headers.get(item["name"])
    if value is None:
        return False
    if item.get("type") == "RegularExpression":
        return re.fullmatch(item["value"], value) is not None
    return bool(value == item["value"])


@dataclass
class Audience:
    """The users of one model in one namespace; a context manager, within which they ask.

    Attributes:
        collector: its address; what it does not take is sent again.
        earns: version, or version and device, -> chance that a request has a good end; 0.5 of others.
        scores: version -> what it answers; 0.3 of others.
        served: what a version logs of a request beside its answer, made of the request's number, the version and the
            time; a vector of one value where it is None.
        per_turn: requests at once.
        each: requests of one user, one after another.
        pause_s: between two turns.
        previewing: every n-th user sends `PREVIEW`, and whatever these ask fails; 0 where nobody does.
        answered: requests that callers waited for, by version.
    """

    controllers: Controllers
    traffic: Traffic
    collector: str
    model: str
    earns: dict[str | tuple[str, str], float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    more: bool = False
    per_turn: int = 40
    each: int = 2
    pause_s: float = 0.1
    served: Callable[[int, str, float], Object] | None = None
    previewing: int = 0

    def __post_init__(self) -> None:
        self._proxy = Proxy(self.model)
        self._rng = random.Random(7)
        self._numbers = itertools.count()
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.asked = 0
        self.answered: Counter[str] = Counter()
        self.failure: BaseException | None = None

    def __enter__(self) -> Audience:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)
        if self.failure is not None:
            raise self.failure

    def _ask(self) -> None:
        try:
            while not self._stop.wait(self.pause_s):
                self._turn()
                self._deliver()
        except BaseException as error:
            self.failure = error

    def _turn(self) -> None:
        name = naming.route(self.model)
        route, script = self.controllers.routes.get(name), self.controllers.policies.get(name)
        if route is None or not route["spec"].get("rules"):
            return
        lines, told = [], []
        for _ in range(self.per_turn):
            number = next(self._numbers)
            user = number // self.each
            sent = {"x-user-id": f"user-{user}", "x-device": DEVICES[user % 2]}
            fails = self.previewing > 0 and user % self.previewing == 0
            sent |= {PREVIEW[0]: PREVIEW[1]} if fails else {}
            way = self._proxy.way(route, script, sent)
            request_id = f"{self.controllers.place}-{self.model}-{number}"
            for version, copied in ((way.version, False), (way.copy_to, True)):
                if version is None:
                    continue
                assigned = way.headers.get(ROUTE_HEADER, "").encode() not in UNASSIGNED
                place = self.controllers.place
                self.traffic.count(place, self.model, version, assigned=assigned, failed=fails)
                if not fails:
                    lines.append(self._logged(number, request_id, version, way.headers, copied))
            if not fails:
                told.append(self._told(request_id, way.version, sent["x-device"]))
            self.asked += 1
            self.answered[way.version] += 1
        self._waiting.append(("/predictions", b"\n".join(json.dumps(line).encode() for line in lines)))
        self._waiting.append(("/feedback", json.dumps(told).encode()))

    def _logged(
        self, number: int, request_id: str, version: str, headers: Mapping[str, str], copied: bool
    ) -> Object:
        at = time.time()
        found: Object = {
            "at": at,
            "mirrored": copied,
            "answered_by": "model",
            "latency_ms": 3.0,
            "request_id": request_id,
            "model": self.model,
            "version": version,
            "entities": {},
            "request": {},
            "features": [1.0],
            "score": self.scores.get(version, 0.3),
            "source": "online",
        }
        if self.served is not None:
            found |= self.served(number, version, at)
        if ROUTE_HEADER in headers:
            found["route"] = headers[ROUTE_HEADER]
            if found["route"] == "arm":
                found["unit"] = headers[UNIT_HEADER]
        return found

    def _told(self, request_id: str, version: str, device: str) -> Object:
        chance = self.earns.get((version, device), self.earns.get(version, 0.5))
        label = int(self._rng.random() < chance)
        told: Object = {"request_id": request_id, "label": label}
        if self.more:
            told |= {"reward": float(label), "covariate": self._rng.random()}
        return told

    def _deliver(self) -> None:
        """Send what waits, the oldest first; a collector that is away gets it later, as from a server's queue."""
        while self._waiting:
            path, body = self._waiting[0]
            request = urllib.request.Request(f"{self.collector}{path}", body, method="POST")  # noqa: S310 - a loopback address
            try:
                urllib.request.urlopen(request, timeout=5.0).close()  # noqa: S310 - a loopback address
            except urllib.error.HTTPError as error:
                with error:
                    assert error.code >= 500, error.read().decode()
                return
            except (OSError, http.client.HTTPException):
                return
            self._waiting.popleft()
