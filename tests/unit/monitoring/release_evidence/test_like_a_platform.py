"""Evidence out of the collector's store is what a platform on one machine computes of the same traffic."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pytest
from event_store import EventStore, home, label, prediction, request, response

from monitoring.collector.place import place
from monitoring.labels import Label
from monitoring.predictions import Prediction
from monitoring.release_evidence import question
from monitoring.release_evidence.live import Releases
from serving.release import route_header, spec
from serving.release.envoy.access_log import Access
from serving.release.journal import evidence_json
from windlass.local.watch import READ_WITHIN, ReleaseWatch

MODEL = "m"
BEGAN = 1_700_049_600
LASTS_S = 240
#: times on a grid that a double and a microsecond hold alike, and sums of them without rounding
STEP = 0.25

GUARD = {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "prometheus", "bound": 2}


def reward(value_type: str, **more: Any) -> dict[str, Any]:
    return {
        "name": "worth", "kind": "decision", "metric": "reward", "source": "feedback", "valueType": value_type,
        "minimumDetectableEffect": 5, **more,
    }  # fmt: skip


PAIRED = [
    {"name": "same", "kind": "guardrail", "metric": "disagreement", "source": "predictions", "bound": 5},
    {"name": "near", "kind": "guardrail", "metric": "scoreDistance", "source": "predictions", "bound": 5},
]
LOSS = {"name": "loss", "kind": "decision", "metric": "brier", "source": "feedback"}
WORTH = {
    "name": "worth", "kind": "guardrail", "metric": "reward", "source": "feedback", "valueType": "binary",
    "margin": 0.1,
}  # fmt: skip
EXPERIMENT = {
    "type": "experiment", "unit": {"header": "x-user"}, "allocation": {"1": 50, "2": 50}, "outcomeDelay": "40s",
    "maxDuration": "150s", "period": "50s",
}  # fmt: skip
BANDIT = {"type": "bandit", "outcomeDelay": "30s"}
CONTEXT = {"header": "x-device", "values": ["mobile", "desk top"]}
GATEWAY = {"backend": "gateway", "gateway": {"name": "public", "extension": "envoyGateway"}}
CANARY = {"type": "canary", "steps": [{"weight": 50}]}

RELEASES = {
    "shadow": ({"type": "shadow"}, [*PAIRED, LOSS]),
    "canary-mirrored": ({**CANARY, "mirror": True}, [*PAIRED, LOSS, WORTH]),
    "canary-reward": (CANARY, [GUARD, reward("continuous")]),
    "experiment-binary": (EXPERIMENT, [GUARD, reward("binary")]),
    "experiment-ratio": (EXPERIMENT, [GUARD, reward("ratio")]),
    "experiment-covariate": (EXPERIMENT, [GUARD, reward("continuous", covariate=True)]),
    "bandit": (BANDIT, [GUARD, reward("binary")]),
    "contextual-bandit": ({**BANDIT, "context": CONTEXT}, [GUARD, reward("continuous")]),
}


def document(name: str) -> dict[str, Any]:
    strategy, checks = RELEASES[name]
    several = strategy["type"] in ("experiment", "bandit")
    return {
        "apiVersion": spec.API_VERSION,
        "kind": "Release",
        "metadata": {"name": "r"},
        "spec": {
            "model": MODEL,
            **({"candidates": ["2"]} if several else {"candidate": "2"}),
            "champion": "1",
            # a Gateway copies nobody's requests to both
            **({"backend": "local"} if strategy.get("mirror") else GATEWAY),
            "strategy": strategy,
            "checks": checks,
        },
    }


@dataclass
class Traffic:
    """What was sent in one second, as each side sees it."""

    accesses: list[Access] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)


def simulated(name: str, seed: int) -> list[Traffic]:
    """The traffic of each second; predictions by halves that pair late are answered when the second half comes."""
    draw = random.Random(seed)
    strategy, _ = RELEASES[name]
    mirrored = strategy["type"] == "shadow" or strategy.get("mirror", False)
    seconds = [Traffic() for _ in range(LASTS_S + 1)]

    def at(moment: float) -> Traffic | None:
        index = -int(-(moment - BEGAN) // 1)
        return seconds[index] if 0 < index <= LASTS_S else None

    def ask(number: int) -> None:
        moment = BEGAN + draw.randrange(1, int(LASTS_S / STEP)) * STEP
        identity = f"q{number}"
        unit = (
            f"{draw.randrange(12):016x}" if strategy["type"] == "experiment" and draw.random() < 0.9 else None
        )
        version = "1" if strategy["type"] == "shadow" else draw.choice("12")
        kind, segment = "weights", None
        if strategy["type"] == "experiment":
            # now and then a unit is met in the other version: its bucket has moved
            version = "12"[(int(unit, 16) + (draw.random() < 0.1)) % 2] if unit else "1"
            kind = "arm" if unit else "unassigned"
        elif "context" in strategy and draw.random() < 0.8:
            kind, segment = "segment", draw.choice(CONTEXT["values"])
        elif draw.random() < 0.1:
            kind = "match"
        route = route_header.segment(segment) if segment is not None else kind
        copies = ["12"[version == "1"]] if mirrored and kind != "match" and draw.random() < 0.9 else []
        for position, answering in enumerate((version, *copies)):
            received = moment + position * STEP * draw.randrange(4)
            score = draw.randrange(65) / 64
            told = {"route": route, "unit": unit} if not position else {"route": route}
            if draw.random() < 0.3:  # a CloudEvent by halves, the response first or last
                first, second = received, received + draw.randrange(60) * STEP
                source = f"/pod/models/{MODEL}/versions/{answering}"
                halves = [
                    request(identity, source=source, at=first, received=first),
                    response(identity, source=source, version=answering, at=first, scores=[score],
                             mirrored=position > 0, answered_by="model", **told),
                ]  # fmt: skip
                draw.shuffle(halves)
                halves[0]["received"], halves[1]["received"] = first, second
                if at(second) is None:
                    continue
                for half in halves:
                    at(half["received"]).entries.append(half)
                received = second
            elif at(received) is None:
                continue
            else:
                found = prediction(identity, version=answering, at=received, received=received, score=score,
                                   mirrored=position > 0, **told)  # fmt: skip
                at(received).entries += [found] * draw.choice((1, 1, 2))
            at(received).predictions.append(
                Prediction(
                    identity, MODEL, answering, received, {}, {}, (), score, float("nan"), "", position > 0
                )
            )
            if not position:
                at(received).accesses.append(
                    Access(
                        identity,
                        MODEL,
                        answering,
                        received,
                        200,
                        1.0,
                        1.0,
                        "",
                        None,
                        kind,
                        segment,
                        None,
                        unit,
                    )
                )
        known = received
        for turn in range(draw.choice((0, 1, 1, 1, 2, 3))):
            known += (1 + draw.randrange(240)) * STEP
            if at(known) is None:
                break
            value = draw.choice((0, 1, 1)) if turn == 0 or draw.random() < 0.8 else None
            more = {"reward": draw.randrange(16) / 4} if value is None or draw.random() < 0.7 else {}
            more |= {"per": draw.randrange(1, 9) / 2} if draw.random() < 0.5 else {}
            more |= {"covariate": draw.randrange(9) / 2} if draw.random() < 0.5 else {}
            stated = known - draw.randrange(400) * STEP  # a caller's word, which decides nothing
            at(known).labels.append(Label(identity, value, stated, received=known, **more))
            at(known).entries.append(label(identity, value, at=stated, received=known, **more))

    for number in range(150):
        ask(number)
    for second in seconds:
        second.labels.sort(key=lambda found: (found.received, found.request_id, found.label is None))
        second.entries.sort(key=lambda entry: (entry["received"], entry["type"] == "label"))
    return seconds


def without_prometheus(plain: dict[str, Any]) -> dict[str, Any]:
    """What the collector is asked for, of evidence as JSON."""
    arms = {
        version: {
            name: value for name, value in arm.items() if name not in ("requests", "errors", "latencies")
        }
        for version, arm in plain["arms"].items()
    }
    return {**{name: value for name, value in plain.items() if name != "at"}, "arms": arms}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", RELEASES)
def test_the_store_says_what_a_platform_computes(name: str, seed: int, tmp_path: Path) -> None:
    """Verify every sum, bit by bit, over late, repeated and contradictory labels and halves that pair late."""
    draw = random.Random(f"{name}{seed}")
    watch = ReleaseWatch(spec.parse(document(name)), "1", BEGAN, {}, lambda rows: pd.DataFrame())
    store = EventStore(home(tmp_path), compact_parts=2)
    releases = Releases(place(store.settings), now=lambda: BEGAN + LASTS_S, clock=lambda: 0.0)
    asked = question.read(
        {"release": document(name), "champion": "1", "since": datetime.fromtimestamp(BEGAN, UTC).isoformat()},
        now=BEGAN + LASTS_S,
    )
    for index, second in enumerate(simulated(name, seed)):
        moment = BEGAN + index
        watch.add_predictions(second.predictions)
        watch.add_accesses(second.accesses)
        watch.add_labels(second.labels)
        here = watch.evidence(datetime.fromtimestamp(moment, UTC) + READ_WITHIN)
        if second.entries:
            store.add(*second.entries)
        if index and (draw.random() < 0.06 or index == LASTS_S):
            store.consolidate_until(moment)
            if draw.random() < 0.7 or index == LASTS_S:
                found = releases.answer(asked)
                assert datetime.fromisoformat(found["at"]).timestamp() == moment
                assert without_prometheus(found) == without_prometheus(evidence_json.to_json(here, {}))
    # this traffic says something
    assert found.get("pairs", {}).get("n", 0) > 30 or any("n" in m for a in found["arms"].values()
                                                          for m in a.get("outcomes", {}).values())  # fmt: skip
    again = Releases(place(store.settings), now=lambda: BEGAN + LASTS_S, clock=lambda: 0.0).answer(asked)
    assert orjson.dumps(again) == orjson.dumps(found)
