"""What one seed simulates: a release, who its versions truly are, what people want meanwhile, and what fails."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from serving.release import spec
from serving.release.release import Release
from serving.release.simulation import faults
from serving.release.simulation.faults import Fault
from serving.release.simulation.world import Behaviour, Rewards, worse

MODEL, CHAMPION = "flights", "12"

#: Level of the checks: small, so that ten thousand seeds see next to no false alarm of theirs.
ALPHA = 0.001

#: Ticks of calm after the last fault in which everything must come to its end.
CALM = 90

Quality = Literal["good", "harmful", "equal"]
Special = Literal["none", "misspelled", "crooked", "refused", "bothFail", "stuck"]

STRATEGIES = ("canary", "mirrored", "blueGreen", "shadow", "experiment", "bandit")

#: The harm that each strategy's checks are there to find.
HARMS: Mapping[str, tuple[str, ...]] = {
    "canary": ("errors", "latency", "reward"),
    "mirrored": ("errors", "latency", "skew", "disagreement", "distance", "loss"),
    "blueGreen": ("errors", "latency", "smoke"),
    "shadow": ("errors", "latency", "skew", "disagreement", "distance", "loss"),
    "experiment": ("errors", "latency", "reward"),
    "bandit": ("errors", "reward"),
}


@dataclass(frozen=True)
class Wish:
    """What a person wants at a tick: a command, or another release."""

    tick: int
    command: str | None = None
    to: str | None = None
    release: Release | None = None


@dataclass(frozen=True)
class Scenario:
    """All that a seed decides.

    Attributes:
        quality: of the first candidate.
        harm: what the harmful ones do.
        special: a fault that lasts for ever: a metric that does not exist, a router that splits otherwise than it
            says or refuses the candidate, both versions failing alike, or a release that cannot go on.
        calm_from: tick at which the last fault is over.
        onset: ticks that the harmful candidates are like the champion before they begin to do harm.
    """

    seed: int
    strategy: str
    release: Release
    quality: Quality
    harm: str | None
    special: Special
    behaviours: Mapping[str, Behaviour]
    rewards: Rewards
    faults: tuple[Fault, ...]
    wishes: tuple[Wish, ...]
    calm_from: int
    onset: int = 0
    missing: str | None = None

    @property
    def interfered(self) -> bool:
        """A person may end the release before the engine does."""
        return any(wish.command in ("abort", "promote", "rollback") for wish in self.wishes)

    def promises(self, name: str) -> Literal["Promoted", "RolledBack"] | None:
        """How the release `name` must end once the faults are over; None where nothing is promised."""
        if self.interfered or self.special not in ("none", "refused"):
            return None
        if name != self.release.name:
            return "Promoted" if self.special == "none" else None
        if self.special == "refused" or self.quality == "equal":
            return None
        return "Promoted" if self.quality == "good" else "RolledBack"


def draw(seed: int) -> Scenario:
    """The scenario of a seed."""
    rng = random.Random(f"scenario/{seed}")  # noqa: S311 - a simulation
    strategy = rng.choice(STRATEGIES)
    special = _special(rng, strategy)
    quality: Quality = rng.choices(("good", "harmful", "equal"), (5, 6, 2))[0]
    if special in ("misspelled", "crooked", "refused", "stuck"):
        quality = "good"
    elif special == "bothFail":
        quality = "equal"
    harm = rng.choice(HARMS[strategy]) if quality == "harmful" else None
    several = strategy == "bandit" or (strategy == "experiment" and rng.random() < 0.6)
    candidates = ("13", "14") if several else ("13",)
    kind = rng.choice(("binary", "continuous", "ratio")) if strategy == "experiment" else "binary"
    rewards = Rewards(kind, rng.choice((0, 2, 4)))
    decides = strategy in ("experiment", "bandit") or harm in ("reward", "loss") or rng.random() < 0.5
    document = _document(rng, strategy, candidates, kind, decides, special)
    if (quality == "equal" or special == "misspelled") and strategy in ("experiment", "bandit"):
        document["spec"]["strategy"]["maxDuration"] = "50m"
    release = spec.parse(document)
    behaviours = _behaviours(rng, candidates, quality, harm, decides)
    if special == "bothFail":
        bounded = any(
            check.metric == "latencyP99" and not check.relative_to_champion for check in release.checks
        )
        failing = Behaviour(slow=0.3) if bounded and rng.random() < 0.7 else Behaviour(error=0.4)
        behaviours = dict.fromkeys(behaviours, failing)
    missing = None
    if special in ("misspelled", "stuck"):
        sources = sorted({check.source for check in release.checks})
        # one that counts no requests is the harder case: everything else goes on
        missing = "predictions" if "predictions" in sources and seed % 3 else rng.choice(sources)
    begin, calm_from = 1, rng.randint(18, 34)
    without = frozenset({"outage"}) if strategy == "blueGreen" else frozenset()
    found = faults.schedule(random.Random(f"faults/{seed}"), begin, calm_from, without)  # noqa: S311
    if special == "stuck":
        found = [fault for fault in found if fault.kind not in ("clockForward", "clockBackward")]
    onset = rng.randint(2, 7) if harm in ("errors", "latency") and rng.random() < 0.6 else 0
    wishes = _wishes(random.Random(f"wishes/{seed}"), calm_from)  # noqa: S311
    wishes, more = _together(random.Random(f"together/{seed}"), wishes, special, onset, calm_from)  # noqa: S311
    found += more
    for wish in wishes:
        if wish.release is not None:
            behaviours[wish.release.candidate] = Behaviour()
    return Scenario(
        seed=seed,
        strategy=strategy,
        release=release,
        quality=quality,
        harm=harm,
        special=special,
        behaviours=behaviours,
        rewards=rewards,
        faults=tuple(found),
        wishes=wishes,
        calm_from=calm_from,
        onset=onset,
        missing=missing,
    )


def _special(rng: random.Random, strategy: str) -> Special:
    allowed: tuple[Special, ...] = ("misspelled", "refused", "stuck")
    if strategy in ("canary", "mirrored", "experiment"):
        allowed = (*allowed, "crooked")
    if strategy in ("canary", "mirrored"):
        allowed = (*allowed, "bothFail", "bothFail")
    return rng.choice(allowed) if rng.random() < 0.3 else "none"


def _behaviours(
    rng: random.Random, candidates: tuple[str, ...], quality: Quality, harm: str | None, decides: bool
) -> dict[str, Behaviour]:
    usual = Behaviour()
    better = Behaviour(loss=-0.02, reward=usual.reward * 1.8)
    found = {CHAMPION: usual}
    for place, version in enumerate(candidates):
        if quality == "harmful" and harm is not None:
            found[version] = worse(usual, harm)
        elif quality == "good" and place == 0:
            found[version] = better if decides else usual
        else:
            # at the margin of its decision nobody is to be promoted
            same = replace(usual, loss=0.012)
            found[version] = rng.choice((usual, worse(usual, "errors"))) if place else same
    return found


def _document(
    rng: random.Random, strategy: str, candidates: tuple[str, ...], kind: str, decides: bool, special: Special
) -> dict[str, Any]:
    content: dict[str, Any] = {
        "model": MODEL,
        "strategy": _strategy(rng, strategy, candidates),
        "checks": _checks(rng, strategy, kind, decides),
        "onConflict": "queue",
        "inconclusiveAfter": "40m" if special == "stuck" else "24h",
        "whenInconclusive": rng.choice(("hold", "abort")),
    }
    if strategy in ("experiment", "bandit"):
        content["candidates"] = list(candidates)
    else:
        content["candidate"] = candidates[0]
    if strategy == "experiment":
        content["champion"] = CHAMPION
    return {"kind": "Release", "metadata": {"name": "flights-13"}, "spec": content}


def _strategy(rng: random.Random, strategy: str, candidates: tuple[str, ...]) -> dict[str, Any]:
    if strategy in ("canary", "mirrored"):
        steps = rng.choice(
            (
                [{"weight": 10, "minSamples": 100, "minDuration": "3m"}, {"weight": 50, "minSamples": 400}],
                [
                    {"weight": 5, "minSamples": 50},
                    {"weight": 25, "minSamples": 200},
                    {"weight": 60, "minSamples": 500},
                ],
                [{"weight": 40, "minSamples": 300, "minDuration": "5m"}],
            )
        )
        found: dict[str, Any] = {"type": "canary", "mirror": strategy == "mirrored", "steps": steps}
        if rng.random() < 0.3:
            found["match"] = {"header": "x-tester", "value": "yes"}
        return found
    if strategy == "blueGreen":
        return {"type": "blueGreen", "keepWarm": "5m", "smoke": [{}, {}, {}], "warmUp": 5, "minSamples": 500}
    if strategy == "shadow":
        return {"type": "shadow", "percent": rng.choice((50, 100)), "minSamples": 1500, "minDuration": "4m"}
    if strategy == "experiment":
        share = 50 if len(candidates) == 1 else 33
        allocation = {CHAMPION: 100 - share * len(candidates), **dict.fromkeys(candidates, share)}
        return {
            "type": "experiment",
            "unit": {"header": "x-user"},
            "allocation": allocation,
            "minDuration": "6m",
            "maxDuration": "12h",
        }
    policy = rng.choice(("thompson", "epsilonGreedy"))
    return {
        "type": "bandit",
        "policy": policy,
        "floor": 10,
        "update": "2m",
        "minDuration": "4m",
        "maxDuration": "12h",
    }


def _checks(rng: random.Random, strategy: str, kind: str, decides: bool) -> list[dict[str, Any]]:
    source = "predictions" if strategy == "shadow" else rng.choice(("envoy", "prometheus"))
    guard = {"kind": "guardrail", "source": source, "alpha": ALPHA}
    errors: dict[str, Any] = {"name": "errors", "metric": "errorRate", **guard}
    if strategy == "blueGreen":
        errors["bound"] = 5
    else:
        errors["relativeToChampion"] = True
    latency: dict[str, Any] = {"name": "slow", "metric": "latencyP99", "bound": "50ms", **guard}
    if strategy not in ("blueGreen", "shadow"):
        how = rng.choice(("bound", "relative", "tail"))
        latency["relativeToChampion"] = how != "bound"
        if how == "tail":
            del latency["bound"]
    found = [errors, latency]
    if strategy in ("mirrored", "shadow"):
        logged = {**guard, "source": "predictions"}
        found += [
            {"name": "skew", "metric": "featureSkew", "bound": 2, **logged},
            {"name": "disagreement", "metric": "disagreement", "bound": 10, **logged},
            {"name": "distance", "metric": "scoreDistance", "bound": 10, **logged},
        ]
        if decides:
            found.append(
                {"name": "brier", "kind": "decision", "metric": "brier", "source": "feedback", "margin": 0.01}
            )
        return found
    if decides and strategy != "blueGreen":
        found.append(
            {
                "name": "reward",
                "kind": "decision",
                "metric": "reward",
                "source": "feedback",
                "valueType": kind,
                "alpha": 0.01,
            }
        )
        if strategy == "experiment":
            found.append(
                {
                    "name": "second",
                    "kind": "secondary",
                    "metric": "reward",
                    "source": "feedback",
                    "valueType": kind,
                    "alpha": 0.01,
                }
            )
    return found


def _wishes(rng: random.Random, calm_from: int) -> tuple[Wish, ...]:
    wishes = []
    if rng.random() < 0.25:
        pause = rng.randint(2, calm_from - 4)
        wishes += [Wish(pause, "pause"), Wish(pause + rng.randint(2, 6), "resume")]
    if rng.random() < 0.35:
        for name in ("15", "16")[: rng.randint(1, 2)]:
            wishes.append(Wish(rng.randint(1, calm_from), release=_next(name)))
    if rng.random() < 0.25:
        command = rng.choice(("abort", "promote", "rollback", "rollback"))
        to = CHAMPION if command == "rollback" and rng.random() < 0.5 else None
        # late ones come after a promotion
        wishes.append(Wish(rng.randint(1, calm_from + 30), command, to=to))
    return tuple(sorted(wishes, key=lambda wish: wish.tick))


def _together(
    rng: random.Random, wishes: tuple[Wish, ...], special: Special, onset: int, calm_from: int
) -> tuple[tuple[Wish, ...], list[Fault]]:
    """What happens at the same time more often than chance has it: things go wrong while people act."""
    found = []
    if onset and rng.random() < 0.7:
        others = [wish for wish in wishes if wish.command not in ("pause", "resume")]
        wishes = (*others, Wish(onset + 1, "pause"), Wish(onset + 6, "resume"))
    if special == "bothFail":
        found = [Fault("duplicatedEvent", tick, tick + 1, 0) for tick in range(2, calm_from, 3)]
    rollback = next((wish.tick for wish in wishes if wish.command == "rollback"), calm_from)
    if 8 <= rollback < calm_from - 3 and rng.random() < 0.9:
        # a version is taken back, the next one is submitted, and the registry is down
        wishes = tuple(wish for wish in wishes if wish.release is None)
        wishes = (*wishes, Wish(rollback + rng.randint(1, 2), release=_next("15")))
        found.append(Fault("registryDown", rollback, rollback + 2, 0))
    return tuple(sorted(wishes, key=lambda wish: wish.tick)), found


def _next(version: str) -> Release:
    return spec.parse(
        {
            "kind": "Release",
            "metadata": {"name": f"flights-{version}"},
            "spec": {
                "model": MODEL,
                "candidate": version,
                "strategy": {"type": "canary", "steps": [{"weight": 30, "minSamples": 200}]},
                "checks": [
                    {
                        "name": "errors",
                        "kind": "guardrail",
                        "metric": "errorRate",
                        "source": "envoy",
                        "relativeToChampion": True,
                        "alpha": ALPHA,
                    }
                ],
                "onConflict": "queue",
            },
        }
    )
