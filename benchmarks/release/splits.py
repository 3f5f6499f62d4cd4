"""Splits through the real Envoy: shares as decided, users that stay, copies that are all accounted for.

What stands behind and before the proxy is in `stage.py`.
"""

from __future__ import annotations

import collections
import math
import statistics
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path

from benchmarks.release.parts import Chart, Options, Part, Progress, measurement, spread, target
from benchmarks.release.stage import MODEL, USER_HEADER, VERSIONS, Stage, request, staged
from serving.release import buckets
from serving.release.traffic import BUCKETS, Assignment, Traffic, Unit, all_to

DECIDED = {"12": 60, "13": 30, "14": 10}
#: What an experiment's weights go through; the users' versions must follow the buckets at each step.
STEPS = (
    {"12": 90, "13": 10},
    {"12": 50, "13": 50},
    {"12": 40, "13": 30, "14": 30},
    {"12": 0, "13": 40, "14": 60},
)
SALT = "splits"
#: Measurements of a cost, each of which visits every case.
ROUNDS = 10


def measure(options: Options, progress: Progress) -> Part:
    """All of it, in about two minutes of two cores."""
    part = Part()
    _hash(part, options, progress)
    with tempfile.TemporaryDirectory(prefix="windlass-splits-") as folder, staged(Path(folder)) as stage:
        _shares_and_copies(part, stage, options.repetitions(200_000, 10_000), progress)
        _lost_copies(part, stage, options.repetitions(10_000, 1_000), progress)
        _users(part, stage, options, progress)
        _cost(part, stage, options.repetitions(5_000, 500), progress)
    return part


# --- the parts


def _hash(part: Part, options: Options, progress: Progress) -> None:
    """Whether a million numbered users fill the 10,000 buckets evenly."""
    from scipy.stats import chi2

    units = options.repetitions(1_000_000, 100_000)
    pieces = [(low, min(low + 50_000, units)) for low in range(0, units, 50_000)]
    counts: collections.Counter[int] = collections.Counter()
    for found in spread(_bucket_counts, pieces, options, progress, "units hashed"):
        counts.update(found)
    expected = units / BUCKETS
    statistic = sum((counts[b] - expected) ** 2 / expected for b in range(BUCKETS))
    p = float(chi2.sf(statistic, BUCKETS - 1))
    part.measurements.append(
        measurement("uniformity of the hash, chi-square", "windlass", statistic, "", f"{units} users", p=p)
    )
    part.targets.append(target("hash: p of uniformity over 10,000 buckets", p, ">=", 0.001))


def _bucket_counts(piece: tuple[int, int]) -> dict[int, int]:
    return dict(collections.Counter(buckets.bucket(SALT, f"user-{i}") for i in range(*piece)))


def _shares_and_copies(part: Part, stage: Stage, requests: int, progress: Progress) -> None:
    """Shares of requests, and both ends of every copy."""
    stage.backend.set_traffic(MODEL, Traffic(DECIDED, mirror_to="14"))
    received = stage.received()
    answered = stage.send([request()] * requests, progress, "requests split and copied")
    lines = stage.logged(requests)
    by_version = collections.Counter(answered)
    outside = 0
    for version, weight in DECIDED.items():
        low, high = binomial_interval(requests, weight / 100)
        outside += not low <= by_version[version] <= high
        part.measurements.append(
            measurement("share of requests", "decided", weight, "%", f"version {version}")
        )
        part.measurements.append(
            measurement(
                "share of requests",
                "observed",
                100 * by_version[version] / requests,
                "%",
                f"version {version}",
                low=100 * low / requests,
                high=100 * high / requests,
            )
        )
    part.targets.append(target("shares outside the binomial 99.9 % interval", outside, "==", 0))
    logged = collections.Counter(line.version for line in lines)
    part.targets.append(target("requests without a line in the log", requests - logged.total(), "==", 0))
    part.targets.append(target("answers unlike their line in the log", _unlike(by_version, logged), "==", 0))

    sent = {"14": logged["12"] + logged["13"], "12": logged["14"]}
    unaccounted = 0
    for version, copies in sent.items():
        counted = stage.settled(version, copies)
        unaccounted += abs(copies - counted.answered - counted.failed - counted.in_flight)
        case = f"to version {version}"
        part.measurements.append(measurement("copies", "sent", copies, "", case))
        part.measurements.append(measurement("copies", "answered", counted.answered, "", case))
        part.measurements.append(measurement("copies", "failed", counted.failed, "", case))
        part.measurements.append(measurement("copies", "in flight", counted.in_flight, "", case))
    after = stage.received()
    arrived = {v: after[v] - received[v] - logged[v] for v in VERSIONS}
    unaccounted += sum(abs(arrived[v] - sent.get(v, 0)) for v in VERSIONS)
    accounted = 100 * (1 - unaccounted / sum(sent.values()))
    part.targets.append(target("copies accounted for at both ends (%)", accounted, "==", 100))
    names = [f"version {v}" for v in DECIDED]
    part.plots["splits"] = [
        Chart(
            f"{requests:,} requests through Envoy",
            "",
            "share of requests (%)",
            {
                "decided": (names, [float(w) for w in DECIDED.values()]),
                "windlass: observed": (names, [100 * by_version[v] / requests for v in DECIDED]),
            },
            kind="bar",
        )
    ]


def _lost_copies(part: Part, stage: Stage, requests: int, progress: Progress) -> None:
    """Copies to a server that is down: each is counted as failed, and no caller notices."""
    stage.backend.set_server(MODEL, "15", "127.0.0.1:1")
    stage.backend.set_traffic(MODEL, Traffic({"12": 100}, mirror_to="15"))
    answered = stage.send([request()] * requests, progress, "requests beside a dead shadow")
    stage.logged(requests)
    counted = stage.settled("15", requests)
    part.measurements.append(measurement("copies", "sent", requests, "", "to a server that is down"))
    part.measurements.append(
        measurement("copies", "answered", counted.answered, "", "to a server that is down")
    )
    part.measurements.append(measurement("copies", "failed", counted.failed, "", "to a server that is down"))
    part.targets.append(
        target("copies to a dead server accounted for (%)", 100 * counted.given / requests, "==", 100)
    )
    part.targets.append(target("callers of a dead shadow without an answer", answered.count(""), "==", 0))


def _users(part: Part, stage: Stage, options: Options, progress: Progress) -> None:
    """Each user asks several times at each step; only those whose bucket moved may get another version."""
    users = options.repetitions(20_000, 1_000)
    names = [f"user-{i}" for i in range(users)]
    held = [buckets.bucket(SALT, name) for name in names]
    order = options.rng("users").permutation([number for number in range(users) for _ in range(3)]).tolist()
    asked = [request(names[number]) for number in order]
    owned = buckets.initial(STEPS[0])
    before: list[str] | None = None
    switched = wrong = misplaced = outside = 0
    for step, weights in enumerate(STEPS):
        after = buckets.move(owned, weights)
        assignment = Assignment(Unit("header", USER_HEADER), SALT, after, "12")
        weights = {version: weight for version, weight in weights.items() if weight}
        stage.backend.set_traffic(MODEL, Traffic(weights, assignment=assignment))
        answered = stage.send(asked, progress, f"requests of {users} users, step {step + 1} of {len(STEPS)}")
        lines = stage.logged(len(asked))
        owner = {b: v for v, ranges in after.items() for low, high in ranges for b in range(low, high)}
        got: list[str] = [""] * users
        for number, version in zip(order, answered, strict=True):
            switched += got[number] not in ("", version)
            got[number] = version
        misplaced += sum(version != owner[bucket] for version, bucket in zip(got, held, strict=True))
        exposed = {(line.unit, line.bucket, line.arm) for line in lines}
        wrong += exposed != {
            (buckets.pseudonym(SALT, name), bucket, owner[bucket])
            for name, bucket in zip(names, held, strict=True)
        }
        if before is not None:
            past = {b: v for v, ranges in owned.items() for low, high in ranges for b in range(low, high)}
            moved = sum(old != new for old, new in zip(before, got, strict=True))
            due = sum(past[bucket] != owner[bucket] for bucket in held)
            switched += abs(moved - due)
            case = f"step {step + 1}"
            part.measurements.append(measurement("users who changed version", "observed", moved, "", case))
            part.measurements.append(measurement("users who changed version", "buckets moved", due, "", case))
        counts = collections.Counter(got)
        for version, weight in weights.items():
            low, high = binomial_interval(users, weight / 100)
            outside += not low <= counts[version] <= high
        owned, before = after, got
    part.targets += [
        target("users who switched while assigned", switched, "==", 0),
        target("users with another version than their bucket's", misplaced, "==", 0),
        target("steps whose exposure log differs from the assignment", wrong, "==", 0),
        target("shares of users outside the binomial 99.9 % interval", outside, "==", 0),
    ]


def _cost(part: Part, stage: Stage, requests: int, progress: Progress) -> None:
    """Envoy's own CPU time for a request: without a release, beside another model's experiment, and in one."""
    unit = Unit("header", USER_HEADER)
    few = buckets.initial({"12": 50, "13": 50})
    stage.backend.set_server("other", "12", stage.address("12"))
    stage.backend.set_server("other", "13", stage.address("13"))
    asked = [request(f"user-{i}") for i in range(requests)]
    experiment = Traffic({"12": 50, "13": 50}, assignment=Assignment(unit, SALT, few, "12"))
    cases = (
        ("one version", all_to("12"), all_to("12")),
        ("beside another model's experiment", all_to("12"), experiment),
        ("weights", Traffic({"12": 50, "13": 50}), all_to("12")),
        ("in an experiment", experiment, all_to("12")),
    )
    rounds: dict[str, list[float]] = {name: [] for name, _, _ in cases}
    for number in range(ROUNDS):
        for name, own, other in cases:
            stage.backend.set_traffic("other", other)
            stage.backend.set_traffic(MODEL, own)
            begun = stage.cpu_seconds()
            stage.send(asked, progress, f"requests: cost, {name}, round {number + 1} of {ROUNDS}")
            rounds[name].append((stage.cpu_seconds() - begun) / requests * 1e6)
            stage.logged(requests)
    middle = {name: statistics.median(values) for name, values in rounds.items()}
    for name, value in middle.items():
        part.measurements.append(measurement("Envoy's CPU time for a request", "windlass", value, "us", name))
    part.plots["splits"].append(
        Chart(
            "what a request costs Envoy",
            "",
            "CPU time (us)",
            {"windlass": ([textwrap.fill(name, 16) for name in middle], list(middle.values()))},
            kind="bar",
        )
    )


def binomial_interval(n: int, p: float, mass: float = 0.999) -> tuple[int, int]:
    """The counts between which a binomial lies with at least `mass`, equal tails."""
    from scipy.stats import binom

    if p in (0, 1):
        return round(n * p), round(n * p)
    low, high = binom.interval(mass, n, p)
    return math.floor(low), math.ceil(high)


def _unlike(one: Mapping[str, int], other: Mapping[str, int]) -> int:
    return sum(abs(one.get(key, 0) - other.get(key, 0)) for key in {*one, *other})
