"""Requests of one span of time, whenever each target is scraped."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest

from serving.release.checks import SAMPLE_RATIO_ALPHA, judge_ratio, ratio_log_evidence
from serving.release.prometheus.client import SilentError
from serving.release.prometheus.shares import Shares, Target

INTERVAL_S = 15.0
LOOK_S = 5.0


def target(name: str) -> Target:
    return (("pod", name),)


def nobody(targets: Collection[Target]) -> dict[Target, dict[float, bool]]:
    """A Prometheus that knows no target."""
    return {}


class Served:
    """Two versions that count requests second by second, scraped at moments of their own."""

    def __init__(self, rps: float, weights: Callable[[float], float], phases: tuple[float, float]) -> None:
        self.rng = random.Random(3)
        self.totals = {"1": [0], "2": [0]}
        self.phases = dict(zip(self.totals, phases, strict=True))
        for second in range(1200):
            number = sum(self.rng.random() < rps / 1000 for _ in range(1000))
            second_one = sum(self.rng.random() < weights(second) for _ in range(number))
            for version, new in (("1", number - second_one), ("2", second_one)):
                self.totals[version].append(self.totals[version][-1] + new)

    def scraped(self, at: float, window_s: float = 65.0) -> dict[str, dict[Target, dict[float, int]]]:
        return {
            version: {
                target(version): {
                    float(moment): self.totals[version][moment]
                    for moment in range(max(0, int(at - window_s)), int(at) + 1)
                    if moment % INTERVAL_S == self.phases[version]
                }
            }
            for version in self.totals
        }

    def counts(self, at: float) -> dict[str, int]:
        """What the newest scrapes say, as far as each reaches."""
        found = self.scraped(at)
        return {
            version: max(times[target(version)].items(), default=(0.0, 0))[1]
            for version, times in found.items()
        }


def worst(counts: list[tuple[int, int]], weights: tuple[int, int]) -> float:
    return max(ratio_log_evidence(each, weights) for each in counts)


@pytest.mark.parametrize(
    ("phases", "plain"), [((7.0, 1.0), "FAIL"), ((2.0, 12.0), "FAIL"), ((5.0, 5.0), "PASS")]
)
def test_scrapes_of_different_moments_are_no_wrong_split(phases: tuple[float, float], plain: str) -> None:
    """Verify with 100 requests a second, and a canary that goes from 10 % to half: each alone counted as far as it was
    scraped would stop it."""
    changed = 300.0
    served = Served(100, lambda second: 0.1 if second < changed else 0.5, phases)
    shares = Shares({}, 0.0, interval_s=INTERVAL_S, late_s=60.0)
    found: dict[str, list[tuple[int, int]]] = {"ours": [], "plain": []}
    base: dict[str, tuple[int, int]] = {}
    at = LOOK_S
    while at < 1100:
        if at == changed + LOOK_S:
            shares.begin(at)
        shares.add(served.scraped(at), at, nobody)
        reached = served.counts(at)
        now = {"ours": (shares.count("1"), shares.count("2")), "plain": (reached["1"], reached["2"])}
        for name, pair in now.items():
            if at == changed + LOOK_S:
                base[name] = pair
            elif at > changed:
                found[name].append((pair[0] - base[name][0], pair[1] - base[name][1]))
        at += LOOK_S
    assert judge_ratio(worst(found["ours"], (50, 50)), 1).outcome == "PASS"
    assert judge_ratio(worst(found["plain"], (50, 50)), 1).outcome == plain
    # and what is left out is the time until all were scraped after the change, and the newest two intervals
    seconds = sum(found["ours"][-1]) / 100
    assert 1100 - changed - 4 * INTERVAL_S - LOOK_S <= seconds <= 1100 - changed


def test_a_wrong_split_is_found() -> None:
    """Verify that a router which gives 40 % instead of half is found within minutes."""
    served = Served(100, lambda second: 0.4, (3.0, 11.0))
    shares = Shares({}, 0.0, interval_s=INTERVAL_S, late_s=60.0)
    for at in range(5, 120, 5):
        shares.add(served.scraped(at), at, nobody)
    found = ratio_log_evidence((shares.count("1"), shares.count("2")), (50, 50))
    assert found > 1 / SAMPLE_RATIO_ALPHA / 100
    assert judge_ratio(found, 1).outcome == "FAIL"


def test_counts_go_on_from_those_of_the_process_before() -> None:
    """Verify that a takeover adds to the journal's counts what came after, of all versions over the same time."""
    served = Served(50, lambda second: 0.5, (2.0, 9.0))
    first = Shares({}, 0.0, interval_s=INTERVAL_S, late_s=60.0)
    for at in range(5, 305, 5):
        first.add(served.scraped(at), at, nobody)
    before = {version: first.count(version) for version in ("1", "2")}
    second = Shares(before, 300.0, interval_s=INTERVAL_S, late_s=60.0)
    assert {v: second.count(v) for v in before} == before
    for at in range(320, 1100, 5):
        second.add(served.scraped(at), at, nobody)
    total = second.count("1") + second.count("2")
    assert 50 * (1100 - 4 * INTERVAL_S - 20) * 0.97 < total < sum(served.counts(1100).values())
    assert ratio_log_evidence((second.count("1"), second.count("2")), (50, 50)) < 3


def test_a_version_that_answers_nothing_is_no_excuse() -> None:
    """Verify that requests of the other are counted: a split that gives one version nothing must be found."""
    shares = Shares({}, 0.0, interval_s=10.0, late_s=40.0)
    shares.add({"1": {target("a"): {0.0: 0, 10.0: 500}}}, 30.0, nobody)
    assert (shares.count("1"), shares.count("2")) == (500, 0)


def test_a_counter_that_appears_at_a_known_target_counts_from_zero() -> None:
    """Verify that the first answers of servers that were scraped, and had none yet, are all counted."""
    shares = Shares({}, 0.0, interval_s=10.0, late_s=40.0)
    old, new = target("old"), target("new")
    shares.add({"1": {old: {0.0: 0, 10.0: 100}}}, 12.0, nobody)
    asked: list[set[Target]] = []

    def up(targets: Collection[Target]) -> dict[Target, dict[float, bool]]:
        asked.append(set(targets))
        return {new: {4.0: True, 14.0: True, 24.0: True}}

    shares.add({"1": {old: {10.0: 100, 20.0: 200}}, "2": {new: {24.0: 90}}}, 26.0, up)
    later = {"1": {old: {20.0: 200, 30.0: 300, 40.0: 400}}, "2": {new: {24.0: 90, 34.0: 190}}}
    shares.add(later, 44.0, nobody)
    assert (shares.count("1"), shares.count("2")) == (240, 90)
    assert asked == [{old, new}]


@dataclass
class Pod:
    """Servers of a version: its life, and when it could not be scraped.

    Attributes:
        share: of the version's requests that it gets while it lives, beside the others' shares.
        unscraped: from when to when Prometheus fails at it.
        unknown: from when to when Prometheus does not try.
        restarts: when its process begins anew.
    """

    version: str
    name: str
    phase: int
    lives: tuple[int, int] = (0, 100_000)
    unscraped: tuple[int, int] = (0, 0)
    unknown: tuple[int, int] = (0, 0)
    restarts: int = -1
    counts: list[int] = field(default_factory=list)

    def is_alive(self, at: int) -> bool:
        return self.lives[0] <= at < self.lives[1]

    def tries(self, at: float, window_s: float) -> dict[float, bool]:
        """The scrapes within a window: time -> success."""
        return {
            float(moment): not self.unscraped[0] <= moment < self.unscraped[1]
            for moment in range(max(0, int(at - window_s) + 1), int(at) + 1)
            if moment % INTERVAL_S == self.phase
            and self.is_alive(moment)
            and not self.unknown[0] <= moment < self.unknown[1]
        }


class Fleet:
    """Pods of two versions, second by second."""

    def __init__(self, pods: list[Pod], rps: float, share_of_2: float, seconds: int = 900) -> None:
        self.pods = pods
        rng = random.Random(5)
        for second in range(seconds):
            number = sum(rng.random() < rps / 1000 for _ in range(1000))
            new = dict.fromkeys((pod.name for pod in pods), 0)
            for _ in range(number):
                version = "2" if rng.random() < share_of_2 else "1"
                alive = [pod for pod in pods if pod.version == version and pod.is_alive(second)]
                new[rng.choice(alive).name] += 1
            for pod in pods:
                before = pod.counts[-1] if pod.counts and second != pod.restarts else 0
                pod.counts.append(before + new[pod.name])

    def scraped(self, at: float, window_s: float) -> dict[str, dict[Target, dict[float, int]]]:
        found: dict[str, dict[Target, dict[float, int]]] = {}
        for pod in self.pods:
            # a counter is there from its first answer on
            times = {
                moment: pod.counts[int(moment)]
                for moment, well in pod.tries(at, window_s).items()
                if well and pod.counts[int(moment)]
            }
            if times:
                found.setdefault(pod.version, {})[target(pod.name)] = times
        return found

    def up(self, at: float) -> Callable[[Collection[Target]], Mapping[Target, Mapping[float, bool]]]:
        def asked(targets: Collection[Target]) -> Mapping[Target, Mapping[float, bool]]:
            tries = {target(pod.name): pod.tries(at, 120.0) for pod in self.pods}
            return {each: tries[each] for each in targets if tries[each]}

        return asked

    def watched(self, since: int = 0, blind: tuple[int, int] = (0, 0)) -> list[tuple[int, int]]:
        """Requests by version, look by look; none between the seconds of `blind`."""
        shares = Shares({}, float(since), interval_s=INTERVAL_S, late_s=60.0)
        found: list[tuple[int, int]] = []
        for at in range(since + 5, 900, 5):
            if blind[0] <= at < blind[1]:
                continue
            shares.add(self.scraped(at, 65.0 if found else 900.0), at, self.up(at))
            found.append((shares.count("1"), shares.count("2")))
        return found


ONE, TWO, BESIDE = Pod("1", "one", 3), Pod("2", "two", 9), Pod("2", "beside", 12)

#: What happens to pods, and since when it is watched.
STORIES = {
    "a-version-unscraped": ([ONE, replace(TWO, unscraped=(100, 280))], 0),
    "a-version-undiscovered-for-a-minute": ([ONE, replace(TWO, unknown=(100, 160))], 0),
    "one-of-two-unscraped": ([ONE, TWO, replace(BESIDE, unscraped=(100, 280))], 0),
    "one-of-two-unscraped-when-we-came": ([ONE, TWO, replace(BESIDE, unscraped=(100, 480))], 300),
    "one-of-two-unscraped-and-then-gone": (
        [ONE, TWO, replace(BESIDE, unscraped=(100, 300), lives=(0, 300))],
        0,
    ),
    "replaced": ([ONE, replace(TWO, lives=(0, 311)), replace(BESIDE, lives=(305, 9999))], 0),
    "scaled-down": ([ONE, TWO, replace(BESIDE, lives=(0, 309))], 0),
    "scaled-up": ([ONE, TWO, replace(BESIDE, lives=(301, 9999))], 0),
    "scaled-up-unready": ([ONE, TWO, replace(BESIDE, lives=(301, 9999), unscraped=(301, 330))], 0),
    "began-anew": ([ONE, replace(TWO, restarts=308)], 0),
    "all-unscraped": (
        [replace(ONE, unscraped=(100, 280)), replace(TWO, unscraped=(100, 280))],
        0,
    ),
    "up-and-down": (
        [ONE, TWO]
        + [
            Pod("2", f"more-{n}", n, lives=(100 + 90 * n, 145 + 90 * n), restarts=120 + 90 * n)
            for n in range(7)
        ],
        0,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("pods", "since"), STORIES.values(), ids=STORIES)
def test_what_nobody_scraped_is_no_wrong_split(pods: list[Pod], since: int) -> None:
    """Verify with 100 requests a second, half for each, that no look finds another split, and that requests count
    again at the end."""
    found = Fleet([replace(pod, counts=[]) for pod in pods], 100, 0.5).watched(since)
    assert judge_ratio(worst(found, (50, 50)), 1).outcome == "PASS"
    assert worst(found, (50, 50)) < 4
    assert all(now[n] >= before[n] for before, now in pairwise(found) for n in (0, 1))
    assert min(now - before for before, now in zip(found[-20], found[-1], strict=True)) > 2000


@pytest.mark.parametrize("name", STORIES)
def test_a_wrong_split_is_found_whatever_happens(name: str) -> None:
    """Verify that 45 % instead of half is found over the same."""
    pods, since = STORIES[name]
    found = Fleet([replace(pod, counts=[]) for pod in pods], 100, 0.45).watched(since)
    assert judge_ratio(ratio_log_evidence(found[-1], (50, 50)), 1).outcome == "FAIL"


def test_while_a_pod_cannot_be_scraped_nothing_counts() -> None:
    """Verify that requests of the others are left out as long."""
    pods = [replace(pod, counts=[]) for pod in (ONE, TWO, replace(BESIDE, unscraped=(100, 700)))]
    found = Fleet(pods, 100, 0.5).watched()
    # looks at 190 and at 695
    assert found[37] == found[138] and sum(found[37]) > 5000


def test_where_nobody_tells_who_was_tried_a_target_is_waited_for() -> None:
    """Verify with a Prometheus that keeps no `up` that a pod which answers unscraped is no wrong split, and that one
    which is gone is waited for a quarter of an hour at most."""
    for pod in (replace(BESIDE, unscraped=(100, 280)), replace(BESIDE, lives=(0, 100))):
        fleet = Fleet([replace(each, counts=[]) for each in (ONE, TWO, pod)], 100, 0.5, seconds=1300)
        shares = Shares({}, 0.0, interval_s=INTERVAL_S, late_s=60.0)
        found = []
        for at in range(5, 1300, 5):
            shares.add(fleet.scraped(at, 65.0), at, nobody)
            found.append((shares.count("1"), shares.count("2")))
        assert worst(found, (50, 50)) < 4
        assert found[50] == found[30] and sum(found[-1]) > sum(found[30]) + 20_000


def test_where_nobody_looked_nothing_counts() -> None:
    """Verify that a process replaced while nobody looked is none that answered less."""
    pods = [replace(pod, counts=[]) for pod in (ONE, replace(TWO, restarts=200))]
    found = Fleet(pods, 100, 0.5).watched(blind=(150, 350))
    assert worst(found, (50, 50)) < 4 and sum(found[-1]) > 40_000


def test_a_prometheus_that_fails_over_a_question_adds_nothing() -> None:
    """Verify that the look after it finds what it would have found."""
    shares = Shares({}, 0.0, interval_s=10.0, late_s=40.0)
    old, new = target("old"), target("new")
    shares.add({"1": {old: {0.0: 0, 10.0: 100}}}, 12.0, nobody)

    def failing(targets: Collection[Target]) -> dict[Target, dict[float, bool]]:
        raise SilentError("away")

    appeared = {"1": {old: {10.0: 100, 20.0: 200}}, "2": {new: {24.0: 90}}}
    with pytest.raises(SilentError):
        shares.add(appeared, 26.0, failing)
    shares.add(appeared, 31.0, lambda targets: {new: {14.0: True, 24.0: True}})
    shares.add({"1": {old: {30.0: 300}}, "2": {new: {34.0: 190}}}, 44.0, nobody)
    assert (shares.count("1"), shares.count("2")) == (240, 90)
