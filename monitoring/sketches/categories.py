"""Counts of a categorical column's labels, exact for the labels that matter and bounded in memory for the others.

A column of a few thousand labels is counted exactly. One with more than `Limits.categories` (an identifier, a typing
error repeated a million times) keeps the counts of the labels that its reference has, and counts the others in
buckets by a hash of the label. That loses nothing in a comparison with a reference that is counted exactly: total
variation and the Jensen-Shannon distance know no difference between labels that the reference never had.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.sketches.limits import Limits

Label = str | float
Integers = NDArray[np.int64]

BUCKETS = 1024


@dataclass(frozen=True, eq=False)
class Categories:
    """Counts of labels.

    Attributes:
        counts: of single labels; of every label where `buckets` is None, else of `known` ones.
        buckets: counts of the other labels by the hash of the label, BUCKETS of them.
        known: labels that keep their own count whatever happens, those of the reference.
    """

    counts: Mapping[Label, int]
    buckets: Integers | None = None
    known: frozenset[Label] = frozenset()

    @property
    def n(self) -> int:
        return sum(self.counts.values()) + (0 if self.buckets is None else int(self.buckets.sum()))


def bucket(label: Label) -> int:
    """The bucket of a label, the same in every process."""
    return zlib.crc32(str(label).encode()) % BUCKETS


def add(kept: Categories, counts: Iterable[tuple[Label, int]], limits: Limits) -> Categories:
    """The counts with those of more rows."""
    joined = dict(kept.counts)
    buckets = None if kept.buckets is None else kept.buckets.copy()
    for label, count in counts:
        if buckets is None or label in kept.known:
            joined[label] = joined.get(label, 0) + count
        else:
            buckets[bucket(label)] += count
    return bounded(Categories(joined, buckets, kept.known), limits)


def bounded(kept: Categories, limits: Limits) -> Categories:
    """The counts with the unknown labels in buckets if there are too many labels."""
    if kept.buckets is not None or len(kept.counts) <= limits.categories:
        return kept
    return in_buckets(kept, kept.known)


def in_buckets(kept: Categories, alone: frozenset[Label]) -> Categories:
    """The counts with every label in its bucket but those of `alone`."""
    buckets = np.zeros(BUCKETS, dtype=np.int64) if kept.buckets is None else kept.buckets.copy()
    counts = {}
    for label, count in kept.counts.items():
        if label in alone:
            counts[label] = count
        else:
            buckets[bucket(label)] += count
    return Categories(counts, buckets, alone)


def merge(a: Categories, b: Categories, limits: Limits) -> Categories:
    """The counts of both samples together; both were made with the same known labels."""
    if b.buckets is None:
        return add(a, b.counts.items(), limits)
    if a.buckets is None:
        return add(b, a.counts.items(), limits)
    joined = add(a, b.counts.items(), limits)
    return Categories(joined.counts, a.buckets + b.buckets, a.known)


@dataclass(frozen=True, eq=False)
class Paired:
    """Counts of the same things in two samples, in rows of equal length.

    Attributes:
        reference, current: counts of single labels.
        reference_buckets, current_buckets: counts of buckets, each of which holds any number of labels; empty where
            both samples are counted exactly.
    """

    reference: Integers
    current: Integers
    reference_buckets: Integers
    current_buckets: Integers


def paired(reference: Categories, current: Categories) -> Paired:
    """Set the labels of two samples beside each other, those that both still know alone."""
    if reference.buckets is not None or current.buckets is not None:
        sides = [c for c in (reference, current) if c.buckets is not None]
        alone = frozenset.intersection(*(c.known for c in sides))
        reference, current = in_buckets(reference, alone), in_buckets(current, alone)
    labels = list(dict.fromkeys((*reference.counts, *current.counts)))
    none = np.zeros(0, dtype=np.int64)
    rows = [np.array([c.counts.get(x, 0) for x in labels], dtype=np.int64) for c in (reference, current)]
    buckets = [none if c.buckets is None else c.buckets for c in (reference, current)]
    return Paired(rows[0], rows[1], buckets[0], buckets[1])
