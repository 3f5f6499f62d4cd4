"""Thompson sampling with a context: weights for each value of a request header, from one linear model.

A version may be best for one market and worse for another. A bandit for each market would learn each from nothing; one
for all would never see the difference. Here the reward of version v in context c is

    common + effect of c + effect of v + effect of v in c

a Bayesian linear regression with one-hot features. Effects of a version are shared by all contexts, and its
deviation in a context is taken for small until that context has shown it; so a context with few requests follows the
others and one with many follows its own (`regression.py`). This is linear Thompson sampling (S. Agrawal and N. Goyal,
ICML 2013, Algorithm 1, with the posterior's own width for their v, as O. Chapelle and L. Li, NIPS 2011, do); the model
with shared and own effects is the hybrid one of L. Li, W. Chu, J. Langford and R. Schapire, WWW 2010, section 3.2. A
router splits by weights, so the chance that each version is best in a context is computed instead of drawn.

One-hot features make the regression's sums the counts of each (version, context), which are the state. Solving it
is cubic in versions times contexts, milliseconds for 5 versions in 50 contexts: a context is a category, not an id.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from serving.release.bandit import allocation, epsilon, integration, regression, thompson
from serving.release.bandit.arm import Arm, living
from serving.release.bandit.arm import faded as faded_arm
from serving.release.bandit.policy import Policy


@dataclass(frozen=True)
class State:
    """What is known of every version in every context.

    Attributes:
        versions: the arms, in the order of their weights.
        cells: version -> context -> sums of its matured rewards there (an `Arm` each).
        killed: versions that a guardrail stopped.
    """

    versions: tuple[str, ...]
    cells: Mapping[str, Mapping[str, Arm]]
    killed: frozenset[str] = frozenset()

    def arms(self, context: str | None = None) -> list[Arm]:
        """Each version's sums in one context, or over all."""
        found = []
        for version in self.versions:
            cells = self.cells.get(version, {})
            counted = [arm for name, arm in cells.items() if context is None or name == context]
            found.append(
                Arm(
                    version,
                    pulls=sum(arm.pulls for arm in counted),
                    total=math.fsum(arm.total for arm in counted),
                    squares=math.fsum(arm.squares for arm in counted),
                    killed=version in self.killed,
                )
            )
        return found


def start(versions: Sequence[str]) -> State:
    return State(tuple(versions), {version: {} for version in versions})


def add(state: State, context: str, matured: Arm) -> State:
    """The state with `matured` rewards of one version in one context.

    Raises:
        ValueError: a version that is no arm.
    """
    if matured.version not in state.versions:
        raise ValueError(f"version {matured.version} is no arm; arms are {', '.join(state.versions)}")
    of_version = dict(state.cells.get(matured.version, {}))
    held = of_version.get(context, Arm(matured.version))
    of_version[context] = replace(
        held,
        pulls=held.pulls + matured.pulls,
        total=held.total + matured.total,
        squares=held.squares + matured.squares,
    )
    return replace(state, cells={**state.cells, matured.version: of_version})


def kill(state: State, version: str) -> State:
    """The state with `version` stopped in every context."""
    return replace(state, killed=state.killed | {version})


def faded(state: State, elapsed: timedelta, half_life: timedelta) -> State:
    """The state after `elapsed`, each cell faded as `arm.faded` says."""
    cells = {
        version: {context: faded_arm(cell, elapsed, half_life) for context, cell in contexts.items()}
        for version, contexts in state.cells.items()
    }
    return replace(state, cells=cells)


def document(state: State) -> dict[str, Any]:
    """The state as JSON's values: sums as [pulls, total, squares]."""
    cells = {
        version: {context: [arm.pulls, arm.total, arm.squares] for context, arm in contexts.items()}
        for version, contexts in state.cells.items()
    }
    return {"versions": list(state.versions), "killed": sorted(state.killed), "cells": cells}


def read(document: Mapping[str, Any]) -> State:
    """The state that `document` wrote."""
    cells = {
        version: {context: Arm(version, *sums) for context, sums in contexts.items()}
        for version, contexts in document["cells"].items()
    }
    return State(tuple(document["versions"]), cells, frozenset(document["killed"]))


def weights_by_context(
    policy: Policy,
    state: State,
    contexts: Sequence[str],
    previous: Mapping[str, Mapping[str, int]] | None = None,
) -> dict[str, dict[str, int]]:
    """For each of `contexts` the percent of its traffic of each version: sum 100, floors and kills as `policy.weights`.

    A context without rewards gets what the shared effects say: ask for one such name to have the weights of requests
    whose header is missing or holds an unknown value. Rewards are taken as they are, binary or continuous: a linear
    model of either needs no more than their mean and variance.

    Raises:
        UsageError, ValueError: as `policy.weights`.
    """
    alive = [arm.version for arm in living(state.arms())]
    if policy.kind == "thompson":
        chances = probability_best(state, contexts)
        shares = {
            context: thompson.sharpened([chances[context][version] for version in alive], policy.sharpness)
            for context in contexts
        }
    else:
        means = _means(state, contexts)
        shares = {
            context: epsilon.split([means[context].get(version) for version in alive], policy.epsilon or 0.0)
            for context in contexts
        }
    result = {}
    for context in contexts:
        lifted = allocation.floored(shares[context], policy.floor / 100)
        before = (previous or {}).get(context, {})
        given = allocation.percents(dict(zip(alive, lifted, strict=True)), before)
        result[context] = {version: given.get(version, 0) for version in state.versions}
    return result


def probability_best(state: State, contexts: Sequence[str]) -> dict[str, dict[str, float]]:
    """For each context the posterior chance of each version that it earns the most there; 0 for a killed one."""
    alive = [arm.version for arm in living(state.arms())]
    mixture = regression.posterior(state.cells, alive, contexts)
    result = {}
    for context in contexts:
        chances = [0.0] * len(alive) if mixture else thompson.equal(len(alive))
        for part in mixture:
            largest = integration.largest_of_joint_normals(*part.of[context])
            chances = [held + part.chance * chance for held, chance in zip(chances, largest, strict=True)]
        known = dict(zip(alive, chances, strict=True))
        result[context] = {version: known.get(version, 0.0) for version in state.versions}
    return result


def _means(state: State, contexts: Sequence[str]) -> dict[str, dict[str, float]]:
    """Posterior mean of each living version that has enough rewards anywhere, for epsilon-greedy."""
    arms = living(state.arms())
    mixture = regression.posterior(state.cells, [arm.version for arm in arms], contexts)
    enough = [(place, arm.version) for place, arm in enumerate(arms) if arm.pulls >= epsilon.ENOUGH]
    return {
        context: {
            version: sum(part.chance * float(part.of[context][0][place]) for part in mixture)
            for place, version in enough
            if mixture
        }
        for context in contexts
    }
