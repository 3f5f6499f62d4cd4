"""`windlass bench release`: its frame, and what stands beside ours in its simulations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.release import aa, plots, power, report, rivals
from benchmarks.release.__main__ import build_parser
from benchmarks.release.parts import PARTS, Chart, Options, Part, Progress, measurement, spread, target
from benchmarks.release.populations import POPULATIONS
from benchmarks.release.sequential import cumulative
from windlass.errors import UsageError


def square(number: int) -> int:
    return number * number


def test_pieces_come_back_in_their_order_from_any_number_of_workers(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Verify that a result does not depend on the machine, and that progress is told."""
    expected = [number * number for number in range(6)]
    for workers in (1, 2):
        assert spread(square, range(6), Options(workers=workers), Progress("squares")) == expected
    assert "6/6" in capfd.readouterr().err


def test_work_has_a_seed_of_its_own() -> None:
    """Verify that seeds differ by what they are for and by the run's seed, and are the same again."""
    options = Options(seed=3)
    assert options.seed_of("aa", 1) == Options(seed=3, workers=8).seed_of("aa", 1)
    assert len({options.seed_of("aa", 1), options.seed_of("aa", 2), Options(seed=4).seed_of("aa", 1)}) == 3


def test_an_unknown_part_lists_those_there_are() -> None:
    told = build_parser().parse_args(["--only", "aa,nothing"])
    with pytest.raises(UsageError, match=f"no part 'nothing'; there are: {', '.join(PARTS)}"):
        told.handler(told)


def test_the_report_shows_missed_targets_and_what_did_not_run(tmp_path: Path) -> None:
    part = Part(
        [measurement("errors", "windlass", 0.02, "%", "a case"), measurement("errors", "other", None, "%", "a case")],
        [target("errors", 0.02, "<=", 0.01), target("never measured", None, "<=", 1.0)],
        {"errors": [Chart("Errors", "x", "y", {"windlass": ([1, 2], [0.1, 0.2]), "other": ([1, 2], [0.3, 0.1])})]},
    )  # fmt: skip
    found = report.document({"aa": part}, {"sim": "no simulator"}, Options())
    assert json.loads(json.dumps(found)) == found
    assert [row["holds"] for row in found["targets"]] == [False, None]
    text = report.table(found)
    assert "MISSED" in text
    assert "not measured" in text
    assert "not run: sim: no simulator" in text
    plots.write({"aa": part.plots}, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["release-errors.png", "release-errors.svg"]


@pytest.mark.parametrize("name", list(POPULATIONS))
def test_a_population_has_the_mean_and_variance_that_it_states(name: str) -> None:
    """Verify with a lift and without: the limit of the power simulations is told these."""
    population = POPULATIONS[name]
    for lift in (0.0, 0.5):
        drawn = population.draw(np.random.default_rng(1), (400_000,), lift)
        z = np.ones_like(drawn.y) if drawn.z is None else drawn.z
        mean = drawn.y.sum() / z.sum()
        assert mean == pytest.approx(population.baseline * (1 + lift), rel=0.04)
        variance = np.var(drawn.y - mean * drawn.z if drawn.z is not None else drawn.y) / z.mean() ** 2
        assert variance == pytest.approx(population.variance(lift), rel=0.25 if "lognormal" in name else 0.1)


@pytest.mark.parametrize("draw", [lambda rng: rng.integers(0, 4, 200), lambda rng: rng.normal(size=200)])
def test_the_rank_test_is_scipys_at_every_look(draw) -> None:
    rng = np.random.default_rng(2)
    arms = [POPULATIONS["binary, 5 %"].draw(rng, (20, 200), 0.0) for _ in range(2)]
    arms = [type(arm)(np.stack([draw(rng) for _ in range(20)]).astype(float)) for arm in arms]
    a, b = arms[0].y, arms[1].y
    expected = [
        any(
            stats.mannwhitneyu(a[row, :end], b[row, :end], use_continuity=False, method="asymptotic").pvalue
            < 0.05
            for end in range(100, 201, 25)
        )
        for row in range(20)
    ]
    assert rivals.mann_whitney(arms[0], arms[1], 25, 100) == expected
    assert True in expected


def test_the_limit_is_an_e_value_and_grows_as_fast_as_can_be() -> None:
    """Verify its expectation of 1 without a lift (binary, one request an arm), and its growth with one."""
    population = POPULATIONS["binary, 5 %"]
    looks = [population.draw(np.random.default_rng(3), (1, 4), 0.0).looks(1) for _ in range(2)]
    ones, zeros = (
        type(looks[0])(**{name: np.full((1, 1), value) for name in vars(looks[0])} | {"n": np.ones((1, 1))})
        for value in (1.0, 0.0)
    )
    rate = 0.0625  # the null that the limit is drawn against: half way between 5 % and 7.5 %
    expectation = sum(
        chance_a * chance_b * float(np.exp(power.limit(population, 0.5, a, b))[0, 0])
        for a, chance_a in ((ones, rate), (zeros, 1 - rate))
        for b, chance_b in ((ones, rate), (zeros, 1 - rate))
    )
    assert expectation == pytest.approx(1)
    candidate, champion = (
        population.draw(np.random.default_rng(seed), (200, 500), lift).looks(25)
        for seed, lift in ((4, 0.5), (5, 0.0))
    )
    assert power.limit(population, 0.5, candidate, champion)[:, -1].mean() > 1
    assert cumulative(candidate).n[0, -1] == 500


def test_one_piece_of_each_simulation_runs() -> None:
    """Verify that every contender is judged, in as few repetitions as there can be."""
    found = aa.simulate(aa.Piece("ratio, clicks per view", (1, 1), 2, 1, 7))
    assert {contender: count for contender, (_, count) in found.items()} == {
        **{f"windlass, {plan}": 2 for plan in aa.PLANS}, aa.Z: 2, aa.THRESHOLD: 2, aa.RANKS: 1,
    }  # fmt: skip
    sizes = power.simulate(power.Piece("binary, 5 %", 0.5, 3, 300, 7))
    assert set(sizes) == {power.LIMIT, *power.PLANS}
    assert all(size % power.PER_LOOK == 0 for size in sizes[power.LIMIT])
