"""Every fault really changes what is served, and is drawn by the seed alone."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import pytest

from windlass.demo import story
from windlass.demo.sabotage import FAULTS


@dataclass(frozen=True)
class View:
    entity: str
    features: tuple[str, ...]


@dataclass(frozen=True)
class Bundle:
    views: tuple[View, ...]


BUNDLE = Bundle((View("carrier", ("a", "b", "c")), View("dest", ("d", "e"))))


class Store:
    """Values that move with time and differ by entity, as a real store's do."""

    def read(self, entities, now):
        carrier, dest = len(entities["carrier"]), len(entities["dest"])
        return [carrier + now, carrier + 2 * now, math.nan, dest + now, dest + 3 * now]


def vectors(reader):
    asked = [({"carrier": "UA" * (i % 3 + 1), "dest": "ORD" * (i % 2 + 1)}, 1.0 + i) for i in range(8)]
    return [reader.read(entities, now) for entities, now in asked]


def same(one, other):
    return all((math.isnan(a) and math.isnan(b)) or a == b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("kind", story.FAULT_KINDS)
def test_a_fault_serves_wrong_vectors(kind: str) -> None:
    """Verify that most answers differ from the store's own."""
    wrong = vectors(FAULTS[kind](Store(), BUNDLE, random.Random(1)))
    assert sum(not same(w, right) for w, right in zip(wrong, vectors(Store()), strict=True)) >= 5


@pytest.mark.parametrize("kind", story.FAULT_KINDS)
def test_a_fault_keeps_the_shape_and_repeats(kind: str) -> None:
    """Verify that a fault looks like a good reader from outside, and is the same for the same seed."""
    first = vectors(FAULTS[kind](Store(), BUNDLE, random.Random(7)))
    again = vectors(FAULTS[kind](Store(), BUNDLE, random.Random(7)))
    assert all(len(v) == 5 for v in first)
    assert all(same(a, b) for a, b in zip(first, again, strict=True))


def test_every_kind_of_fault_is_drawn_by_some_seed() -> None:
    """Verify that the five kinds all occur, so that no check is tuned to one of them."""
    drawn = {story.make(seed=s, fast=False).sabotages[0].fault for s in range(60)}
    assert drawn == set(story.FAULT_KINDS) == set(FAULTS)


def test_both_stories_meet_the_limits_on_pipeline_runs() -> None:
    """Verify six runs at most, three with --fast."""
    assert story.make(seed=1, fast=False).pipeline_runs <= 6
    assert story.make(seed=1, fast=True).pipeline_runs <= 3
