"""What the bandit costs while it learns, how fast a failing version is gone, and what its log says afterwards.

Regret is the expected one of the weights played, over that of an equal split in thirds. Two limits stand beside it:
what the floors cost a policy that knows the best version from the first request on, and what they cost
one that learns it with the first matured reward.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.release import bandit_worlds as worlds
from benchmarks.release.parts import Chart, Options, Part, Progress, measurement, spread, target
from serving.release.bandit.arm import Arm
from serving.release.bandit.off_policy import what_if
from serving.release.bandit.policy import weights

SEEDS, QUICK_SEEDS, PIECE = 500, 20, 25
REGRET = "regret over an equal split's, 50,000 requests"
OURS = "windlass thompson"

#: case -> contenders and what `worlds.play` is told.
CASES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "5.0, 5.5, 7.0 %": (tuple(worlds.RULES), {}),
    "what conversions pay": ((OURS + ", continuous", "equal split"), {"reward": "continuous"}),
    "best becomes worst halfway": ((OURS, OURS + ", half-life 10 updates"), {"rates": worlds.swapped}),
}

#: The rewards of champion, bystander and the version that will fail, and the update in which it starts.
FAILURES = {
    "at the floor, early": ((0.07, 0.055, 0.05), 10),
    "at the floor, after 25,000 requests": ((0.07, 0.055, 0.05), 50),
    "at the floor, after 45,000 requests": ((0.07, 0.055, 0.05), 90),
    "as the preferred one": ((0.05, 0.055, 0.07), 50),
}


def measure(options: Options, progress: Progress) -> Part:
    """Everything about the bandit."""
    part = Part()
    seeds = options.repetitions(SEEDS, QUICK_SEEDS)
    runs = _regret(part, options, progress, seeds)
    _failing(part, options, progress, seeds)
    _contexts(part, options, progress, options.repetitions(100, 10))
    _off_policy(part, runs[OURS])
    part.measurements.append(
        measurement("time of weights() for 5 versions", "windlass", _milliseconds(), "ms", "thompson, binary")
    )
    return part


def pieces(options: Options, seeds: int, *what: Any) -> list[tuple[Any, ...]]:
    """`what` with the seeds of each piece; every repetition has a seed of its own."""
    each = [options.seed_of("bandit", *what, i) for i in range(seeds)]
    return [(*what, each[i : i + PIECE]) for i in range(0, seeds, PIECE)]


def learn(piece: tuple[str, str, list[int]]) -> list[worlds.Run]:
    """Bandits of one contender in one case."""
    case, contender, seeds = piece
    told = dict(CASES[case][1])
    if contender.endswith("half-life 10 updates"):
        told["half_life"] = 10
    rule = worlds.RULES.get(contender) or worlds.RULES[OURS]
    if contender.endswith("continuous"):
        rule = worlds.of_policy(worlds.Policy(floor=worlds.FLOOR, reward="continuous"))
    return [worlds.play(rule, np.random.default_rng(seed), **told) for seed in seeds]


def break_down(piece: tuple[str, bool, list[int]]) -> list[worlds.Failing]:
    case, pooled, seeds = piece
    rates, since = FAILURES[case]
    return [worlds.fail(np.random.default_rng(seed), since, rates, pooled) for seed in seeds]


def markets(piece: tuple[str, list[int]]) -> list[float]:
    contender, seeds = piece
    return [worlds.play_markets(contender, np.random.default_rng(seed)) for seed in seeds]


def _regret(part: Part, options: Options, progress: Progress, seeds: int) -> dict[str, list[worlds.Run]]:
    shown: dict[str, list[worlds.Run]] = {}
    for case, (contenders, told) in CASES.items():
        reference = equal_split(told.get("rates", lambda tick: worlds.RATES))
        for contender in contenders:
            work = pieces(options, seeds, case, contender)
            runs = [run for found in spread(learn, work, options, progress, contender) for run in found]
            ratios = np.array([run.regret[-1] for run in runs]) / reference[-1]
            part.measurements.append(_spread_of(REGRET, contender, ratios, case))
            if case == next(iter(CASES)):
                shown[contender] = runs
            if contender == OURS and not told:
                name = "bandit: mean regret over an equal split's, 3 versions, floors 5 %"
                part.targets.append(target(name, float(ratios.mean()), "<=", 0.25))
    floors, learning = limits()
    case = next(iter(CASES))
    part.plots["bandit"] = charts(shown, equal_split(lambda tick: worlds.RATES))
    part.measurements += [
        measurement(REGRET, "limit: floors alone", floors, "", case),
        measurement(REGRET, "limit: floors and delay", learning, "", case),
    ]
    return shown


def equal_split(rates: Callable[[int], Any]) -> np.ndarray:
    """Cumulated regret of exact thirds."""
    gaps = [np.max(rates(tick)) - np.mean(rates(tick)) for tick in range(worlds.TICKS)]
    return worlds.TICK * np.cumsum(gaps)


def limits() -> tuple[float, float]:
    """Regret, over an equal split's, of a policy that knows the best version at once, or with the first reward."""
    rates = np.array(worlds.RATES)
    equal = float(rates.max() - rates.mean())
    floors = worlds.FLOOR / 100 * float((rates.max() - rates).sum()) / equal
    blind = worlds.DELAY / worlds.TICKS
    return floors, blind + (1 - blind) * floors


def charts(runs: dict[str, list[worlds.Run]], reference: np.ndarray) -> list[Chart]:
    """Regret over the requests, with the band that holds 90 % of the seeds, and what our weights do meanwhile."""
    requests = [worlds.TICK * (tick + 1) for tick in range(worlds.TICKS)]
    lines: dict[str, tuple[list[int], list[float]]] = {}
    for contender, found in runs.items():
        if "," in contender:  # variants are in the table; the picture has six colours beside ours
            continue
        regret = np.array([run.regret for run in found])
        # the colour of "windlass" is for one line of the picture
        name = contender if contender == OURS else contender.removeprefix("windlass ")
        lines[name] = (requests, regret.mean(axis=0).tolist())
        if contender == OURS:
            for quantile in (5, 95):
                band = np.percentile(regret, quantile, axis=0).tolist()
                lines[f"thompson, {quantile} % of seeds below"] = (requests, band)
    lines["limit: floors alone"] = (requests, (limits()[0] * reference).tolist())
    shares = np.mean([run.shares for run in runs[OURS]], axis=0)
    weights_over_time = {
        f"{100 * rate:g} %": (requests, (100 * shares[:, i]).tolist()) for i, rate in enumerate(worlds.RATES)
    }
    return [
        Chart("Rewards lost to the best version", "requests", "expected regret", lines),
        Chart("Weights, mean over seeds", "requests", "percent of the traffic", weights_over_time),
    ]


def _failing(part: Part, options: Options, progress: Progress, seeds: int) -> None:
    gone = "updates until a failing version has weight 0"
    worst: dict[tuple[str, str], float] = {}
    for contender, pooled in (("against the champion", False), ("against all other versions", True)):
        for case in FAILURES:
            work = pieces(options, seeds, case, pooled)
            found = [
                f for each in spread(break_down, work, options, progress, "failing " + case) for f in each
            ]
            never = float("inf")
            # one that was stopped before it failed is a false alarm, counted below
            ticks = [never if run.ticks is None else run.ticks for run in found]
            ticks = [tick for tick in ticks if tick > 0]
            worst[contender, case] = max(ticks)
            stopped = sum(run.healthy_killed for run in found) / len(found)
            part.measurements += [
                measurement(f"{gone}, median", contender, _finite(float(np.median(ticks))), "", case),
                measurement(f"{gone}, worst seed", contender, _finite(max(ticks)), "", case),
                measurement("bandits that stopped a healthy version", contender, 100 * stopped, "%", case),
            ]
    for contender, start in (("against the champion", "at the floor"), ("against all other versions", "")):
        value = max(
            ticks for (who, case), ticks in worst.items() if who == contender and case.startswith(start)
        )
        name = f"bandit: updates of 500 until a failing version is gone, {contender}, {start or 'any weight'}"
        part.targets.append(target(name, _finite(value), "<=", 3))


def _finite(value: float) -> float | None:
    return None if value == float("inf") else value


def _contexts(part: Part, options: Options, progress: Progress, seeds: int) -> None:
    equal = sum(share * (max(rates) - sum(rates) / 3) for share, rates in worlds.MARKETS.values())
    for contender in worlds.CONTEXTUAL:
        work = pieces(options, seeds, contender)
        found = [lost for each in spread(markets, work, options, progress, contender) for lost in each]
        ratios = np.array(found) / (equal * worlds.TICK * worlds.TICKS)
        part.measurements.append(_spread_of(REGRET, contender, ratios, "4 contexts, one with another best"))


def _off_policy(part: Part, runs: list[worlds.Run]) -> None:
    """How the estimates from the bandits' own logs stand to the truth."""
    estimates = [what_if(run.cells) for run in runs]
    for version, rate in enumerate(worlds.RATES):
        case = f"version of {100 * rate:g} %"
        plain = np.array([run.arms[version].mean for run in runs])
        part.measurements += _accuracy("plain mean", plain, rate, case)
        for place, method in enumerate(("IPS", "SNIPS", "DR")):
            found = [each[str(version)][place] for each in estimates]
            values = np.array([e.value for e in found])
            part.measurements += _accuracy(method, values, rate, case)
            covered = float(np.mean([e.lower <= rate <= e.upper for e in found]))
            part.measurements.append(
                measurement(
                    "off-policy: 95 % intervals that hold the truth", method, 100 * covered, "%", case
                )
            )


def _accuracy(contender: str, values: np.ndarray, truth: float, case: str) -> list[dict[str, Any]]:
    bias = 100 * float(values.mean() - truth)
    noise = 100 * float(values.std(ddof=1) / len(values) ** 0.5)
    error = 100 * float(np.sqrt(((values - truth) ** 2).mean()))
    return [
        measurement("off-policy: bias", contender, bias, "% points", case, standard_error=round(noise, 6)),
        measurement("off-policy: root mean squared error", contender, error, "% points", case),
    ]


def _spread_of(name: str, contender: str, values: np.ndarray, case: str) -> dict[str, Any]:
    return measurement(
        name,
        contender,
        float(values.mean()),
        "",
        case,
        standard_error=round(float(values.std(ddof=1) / len(values) ** 0.5), 6),
        p5=round(float(np.percentile(values, 5)), 6),
        p95=round(float(np.percentile(values, 95)), 6),
        worst=round(float(values.max()), 6),
        repetitions=len(values),
    )


def _milliseconds() -> float:
    arms = [Arm(str(i), 1000 * 3**i, float(55 * 3**i), float(55 * 3**i)) for i in range(5)]
    weights(worlds.THOMPSON, arms, {})
    begun = time.process_time()
    for _ in range(200):
        weights(worlds.THOMPSON, arms, {})
    return (time.process_time() - begun) / 200 * 1000
