"""Choosing a model: Optuna's TPE over all families, with pruning, on the newest part of the training rows.

The study lies in a journal file named by what it is about, so a killed search goes on where it stopped. Each trial
has a seed of its own: a resumed search draws what an undisturbed one would have drawn.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from components import delong, estimator
from components.estimator import Family
from windlass.contract import Estimator, Range
from windlass.errors import WindlassError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VALIDATION_SHARE = 0.2
MOST_ROWS = 20_000
"""Trials compare on at most so many rows each for fitting; the chosen model is trained on all."""


@dataclass(frozen=True)
class Split:
    """Rows to fit trials on and newer rows to compare them by."""

    fit_inputs: NDArray[np.float32]
    fit_labels: NDArray[np.float64]
    check_inputs: NDArray[np.float32]
    check_labels: NDArray[np.float64]


@dataclass(frozen=True)
class Trial:
    """One point tried; `auc` is None where it was stopped early."""

    family: Family
    parameters: Mapping[str, float]
    auc: float | None


@dataclass(frozen=True)
class SearchResult:
    """The best trial and all of them; `resumed` of these were found in the journal."""

    best: Trial
    trials: tuple[Trial, ...]
    resumed: int


def split_by_time(inputs: NDArray[np.float32], labels: NDArray[np.float64], *, seed: int) -> Split:
    """Cut rows that are sorted by time: the newest fifth is for comparing."""
    import numpy as np

    cut = len(labels) - max(1, int(len(labels) * VALIDATION_SHARE))
    kept = np.arange(cut)
    if cut > MOST_ROWS:
        kept = np.sort(np.random.default_rng(seed).choice(cut, MOST_ROWS, replace=False))
    return Split(inputs[kept], labels[kept], inputs[cut:], labels[cut:])


def search(
    split: Split,
    estimators: Sequence[Estimator],
    *,
    categories: Sequence[int],
    trials: int,
    seed: int,
    threads: int,
    journal: Path,
    start: Sequence[Trial] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> SearchResult:
    """Try `trials` points; the first are `start` (the last study's best) and the middle of each family's space."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    for part, labels in (("fitting", split.fit_labels), ("comparing", split.check_labels)):
        if len(set(labels.tolist())) < 2:
            raise WindlassError(
                f"all {len(labels)} rows for {part} trials have the same label; train on a longer window, "
                "so that both outcomes occur in its older and in its newest part"
            )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for e in estimators:
        estimator.check_parameters(e.family, list(e.space))
    first = _starting_points(estimators, start)
    with _owned(journal):
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal))),
            study_name="search",
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=2),
        )
        states = optuna.trial.TrialState
        finished = (states.COMPLETE, states.PRUNED)
        resumed = len(study.get_trials(deepcopy=False, states=finished))
        for abandoned in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            study.tell(abandoned.number, state=states.FAIL)
        # killed before its trial began, a point still stands in the queue and is the next to be tried
        queued = len(study.get_trials(deepcopy=False, states=(states.WAITING,)))
        for number in range(resumed, max(trials, len(estimators))):
            study.sampler = optuna.samplers.TPESampler(
                seed=(seed * 1009 + number) % 2**32, n_startup_trials=len(first) + 1
            )
            if resumed + queued <= number < len(first):
                study.enqueue_trial(_named(first[number]))
            study.optimize(
                lambda t: _objective(t, split, estimators, categories, seed, threads), n_trials=1, catch=()
            )
            last = study.get_trials(deepcopy=False)[-1]
            text = "stopped early" if last.value is None else f"AUC {last.value:.4f}"
            progress(f"trial {number + 1}: {last.params.get('family')} {text}")
        done = study.get_trials(deepcopy=False, states=finished)
    tried = tuple(_trial(t) for t in done)
    best = max((t for t in tried if t.auc is not None), key=lambda t: cast(float, t.auc))
    return SearchResult(best, tried, resumed)


def _objective(
    trial: Any,
    split: Split,
    estimators: Sequence[Estimator],
    categories: Sequence[int],
    seed: int,
    threads: int,
) -> float:
    import optuna

    family = trial.suggest_categorical("family", [e.family for e in estimators])
    chosen = next(e for e in estimators if e.family == family)
    parameters = {name: _suggest(trial, f"{family}.{name}", r) for name, r in chosen.space.items()}
    reached = math.nan

    def stage(percent: int, scores: NDArray[np.float64] | None) -> None:
        nonlocal reached
        assert scores is not None  # noqa: S101 - rows to watch are always given here
        reached = delong.point(split.check_labels, scores)
        trial.report(reached, percent)
        if percent < 100 and trial.should_prune():
            raise optuna.TrialPruned

    estimator.fit(
        family,
        parameters,
        split.fit_inputs,
        split.fit_labels,
        categories=categories,
        seed=seed,
        threads=threads,
        watched=split.check_inputs,
        stage=stage,
    )
    return reached


def _suggest(trial: Any, name: str, r: Range) -> float:
    if r.integer:
        return int(trial.suggest_int(name, int(r.low), int(r.high), log=r.log))
    return float(trial.suggest_float(name, r.low, r.high, log=r.log))


def _starting_points(estimators: Sequence[Estimator], start: Sequence[Trial]) -> list[Trial]:
    spaces = {e.family: e.space for e in estimators}
    points = [
        t
        for t in start
        if t.family in spaces
        and set(t.parameters) == set(spaces[t.family])
        and all(spaces[t.family][n].low <= v <= spaces[t.family][n].high for n, v in t.parameters.items())
    ]
    points += [Trial(e.family, {n: _middle(r) for n, r in e.space.items()}, None) for e in estimators]
    # the last best is often a middle: trying it twice teaches nothing
    distinct = {(t.family, tuple(sorted(t.parameters.items()))): t for t in points}
    return list(distinct.values())


def _middle(r: Range) -> float:
    value = math.sqrt(r.low * r.high) if r.log else (r.low + r.high) / 2
    return round(value) if r.integer else value


def _named(point: Trial) -> dict[str, Any]:
    return {"family": point.family, **{f"{point.family}.{n}": v for n, v in point.parameters.items()}}


def _trial(frozen: Any) -> Trial:
    family = frozen.params["family"]
    parameters = {n.partition(".")[2]: v for n, v in frozen.params.items() if n != "family"}
    return Trial(family, parameters, frozen.value if frozen.state.name == "COMPLETE" else None)


@contextlib.contextmanager
def _owned(journal: Path) -> Iterator[None]:
    """One searcher a journal; a lock file that a killed one left behind is not waited for."""
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.with_suffix(".owner").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # optuna's own lock is a link that outlives its maker; whoever holds the flock may remove it
        Path(f"{journal}.lock").unlink(missing_ok=True)
        if journal.exists():
            # a line that was being written when its process was killed would spoil the next one
            data = journal.read_bytes()
            os.truncate(journal, data.rfind(b"\n") + 1)
        yield
