"""Requests of one span of time, whenever each target is scraped."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from serving.release.checks import SAMPLE_RATIO_ALPHA, judge_ratio, ratio_log_evidence
from serving.release.prometheus.shares import Shares, Target

INTERVAL_S = 15.0
LOOK_S = 5.0


def target(name: str) -> Target:
    return (("pod", name),)


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
        shares.add(served.scraped(at), at)
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
    # and what is left out is the time until all were scraped after the change, and the newest interval
    seconds = sum(found["ours"][-1]) / 100
    assert 1100 - changed - 3 * INTERVAL_S - LOOK_S <= seconds <= 1100 - changed


def test_a_wrong_split_is_found() -> None:
    """Verify that a router which gives 40 % instead of half is found within minutes."""
    served = Served(100, lambda second: 0.4, (3.0, 11.0))
    shares = Shares({}, 0.0, interval_s=INTERVAL_S, late_s=60.0)
    for at in range(5, 120, 5):
        shares.add(served.scraped(at), at)
    found = ratio_log_evidence((shares.count("1"), shares.count("2")), (50, 50))
    assert found > 1 / SAMPLE_RATIO_ALPHA / 100
    assert judge_ratio(found, 1).outcome == "FAIL"


def test_counts_go_on_from_those_of_the_process_before() -> None:
    """Verify that a takeover adds to the journal's counts what came after, of all versions over the same time."""
    served = Served(50, lambda second: 0.5, (2.0, 9.0))
    first = Shares({}, 0.0, interval_s=INTERVAL_S, late_s=60.0)
    for at in range(5, 305, 5):
        first.add(served.scraped(at), at)
    before = {version: first.count(version) for version in ("1", "2")}
    second = Shares(before, 300.0, interval_s=INTERVAL_S, late_s=60.0)
    assert {v: second.count(v) for v in before} == before
    for at in range(320, 1100, 5):
        second.add(served.scraped(at), at)
    total = second.count("1") + second.count("2")
    assert 50 * (1100 - 3 * INTERVAL_S - 20) * 0.97 < total < sum(served.counts(1100).values())
    assert ratio_log_evidence((second.count("1"), second.count("2")), (50, 50)) < 3


def test_targets_come_begin_anew_and_go() -> None:
    """Verify a new pod, one that was started again, and one that is gone, which nobody waits for."""
    shares = Shares({}, 0.0, interval_s=10.0, late_s=40.0)
    old, new = target("old"), target("new")
    shares.add({"1": {old: {0.0: 1000, 10.0: 1100}}}, 12.0)
    assert shares.count("1") == 100
    # started again before 20: 30 are of the new process; a second one appears at 25 with 40 answers
    shares.add({"1": {old: {10.0: 1100, 20.0: 30, 30.0: 50}, new: {25.0: 40, 35.0: 60}}}, 36.0)
    # both reach 30: 30 + 20, and 40 and half of 20
    assert shares.count("1") == 100 + 50 + 50
    gone = {25.0: 40, 35.0: 60, 45.0: 80, 55.0: 100, 65.0: 120, 75.0: 140}
    shares.add({"1": {old: {30.0: 50}, new: gone}}, 76.0)
    assert shares.count("1") == 200 + 90


def test_a_version_that_answers_nothing_is_no_excuse() -> None:
    """Verify that requests of the other are counted: a split that gives one version nothing must be found."""
    shares = Shares({}, 0.0, interval_s=10.0, late_s=40.0)
    shares.add({"1": {target("a"): {0.0: 0, 10.0: 500}}}, 12.0)
    assert (shares.count("1"), shares.count("2")) == (500, 0)
