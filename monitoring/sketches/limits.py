"""How much of a column is kept before memory stops growing."""

from __future__ import annotations

from dataclasses import dataclass

from windlass.errors import UsageError

FEWEST_DISTINCT = 20
"""Evidently compares a reference of at most so many values value by value, so their counts must be known."""


@dataclass(frozen=True)
class Limits:
    """Up to what size a column is kept exactly. Profiles that are merged must have the same.

    Attributes:
        values: a numeric column with at most this many finite values keeps all of them (8 bytes each).
        distinct: one with more keeps exact counts while it has at most this many different values; beyond both it is
            counted in cells.
        categories: a categorical column keeps exact counts of at most this many labels; beyond that, of the labels
            that the reference has, and the others in buckets by a hash of the label.
    """

    values: int = 1 << 20
    distinct: int = 4096
    categories: int = 10_000

    def __post_init__(self) -> None:
        if self.values < 0 or self.distinct < FEWEST_DISTINCT or self.categories < 1:
            raise UsageError(
                f"limits of {self.values} values, {self.distinct} different ones and {self.categories} categories "
                f"cannot be kept; at least 0, {FEWEST_DISTINCT} and 1 are needed"
            )


LIMITS = Limits()
