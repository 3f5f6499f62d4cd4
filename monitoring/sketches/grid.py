"""Cells that every number falls into: fine where the reference's values lie, relative to the distance beyond.

A value x lies at t = 1 + |x - centre| / scale, and the leading bits of t name its cell (the float's bits are
monotone in its value, so cutting the last ones off is a histogram for free). Within one scale of the centre all cells
are equally wide, beyond it their width grows with the distance: a cell is at most 2**-MANTISSA x (scale + |x -
centre|) wide, however heavy the tail. So two samples that are known by their cells alone have a Wasserstein distance
known to within 2**-MANTISSA x (2 x scale + both mean distances from the centre). A value that much of the reference has
(the zero of a column that is mostly zero) has a cell of its own. The grid alone decides where a value is counted, never
the order of the data: counts add up in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MANTISSA = 10
"""Bits of t's fraction that tell cells apart: 1024 cells an octave."""
OCTAVES = 24
"""Octaves of t with fine cells, up to 16 million scales; beyond, a cell an octave."""
FRACTION_BITS = 52
BIAS = 1023
FINE = OCTAVES << MANTISSA
HALF = FINE + 1 + BIAS + 1 - OCTAVES
"""Cells on each side of the centre; the last one holds what is infinitely many scales away."""
QUANTILES = 128
ATOMS = 8
"""Values with a cell of their own, at most; each has more than one of QUANTILES of the reference."""
BLOCK = 1 << 15
"""Values worked on at a time: their intermediate arrays stay in the core's cache."""


@dataclass(frozen=True)
class Grid:
    """Where the cells are.

    Attributes:
        centre: where they are finest.
        scale: the distance from the centre within which cells are equally wide, in the unit of the values; > 0.
        atoms: values with a cell of their own, ascending.
    """

    centre: float = 0.0
    scale: float = 1.0
    atoms: tuple[float, ...] = ()

    @classmethod
    def of(cls, ordered: Floats) -> Grid:
        """The grid that suits a sample (ascending, finite), see `of_quantiles`."""
        if not len(ordered):
            return cls()
        return cls.of_quantiles(ordered[np.linspace(0, len(ordered) - 1, QUANTILES + 1).astype(np.int64)])

    @classmethod
    def of_quantiles(cls, at: Floats) -> Grid:
        """The grid that suits a distribution with these QUANTILES + 1 equally likely quantiles.

        Its centre lies where the quantiles are closest together, and the scale is such that a cell there holds a
        few thousandths of a quantile's share, but no larger than a quarter of the middle half, and no smaller than
        the fine cells need to reach the outermost quantiles if that can be had.
        """
        values, runs = np.unique(at, return_counts=True)
        frequent = np.sort(np.argsort(-runs, kind="stable")[:ATOMS])
        atoms = tuple(float(values[i]) + 0.0 for i in frequent if runs[i] > 1)
        with np.errstate(over="ignore"):
            gaps = np.diff(values)
            centre = float(values[int(np.argmin(gaps))]) if len(gaps) else float(values[0])
            low, high = at[QUANTILES // 4], at[3 * QUANTILES // 4]
            spreads = ((high - low) / 4.0, (at[-2] - at[1]) / 8.0, (at[-1] - at[0]) / 16.0)
            spread = next((float(s) for s in (*spreads, abs(centre) * 2.0**-20) if 1e-290 < s < np.inf), 1.0)
            dense = 32.0 * float(gaps.min()) if len(gaps) else spread
            reach = float(at[-1] - at[0]) * 2.0 ** (2 - OCTAVES)
        return cls(centre, min(spread, max(dense, reach, spread * 2.0**-16)), atoms)

    def cells(self, values: Floats) -> Integers:
        """The cell of each finite value, from 0 to `size` - 1, in the order of the values they hold."""
        found = np.empty(len(values), dtype=np.int64)
        distance = np.empty(min(BLOCK, len(values)))
        sign = np.empty(len(distance), dtype=np.int64)
        # 0.0 - centre and a sum: the difference of equal numbers is +0.0 then, also for a value of -0.0
        offset, inverse = 0.0 - self.centre, 1.0 / self.scale
        with np.errstate(over="ignore"):
            for start in range(0, len(values), BLOCK):
                block = values[start : start + BLOCK]
                t, negative = distance[: len(block)], sign[: len(block)]
                np.add(block, offset, out=t)
                np.right_shift(t.view(np.int64), 63, out=negative)
                np.abs(t, out=t)
                np.multiply(t, inverse, out=t)
                np.add(t, 1.0, out=t)
                bits = t.view(np.int64)
                np.right_shift(bits, FRACTION_BITS - MANTISSA, out=bits)
                np.subtract(bits, BIAS << MANTISSA, out=bits)
                if int(bits.max()) >= FINE:
                    np.copyto(bits, FINE + (bits >> MANTISSA) - OCTAVES, where=bits >= FINE)
                # ~k = -k - 1: the mirror image of cell k on the other side of the centre
                cells = np.bitwise_xor(bits, negative, out=found[start : start + BLOCK])
                for atom in self.atoms:
                    cells += block >= atom
                    cells += block > atom
        found += HALF
        return found

    @property
    def size(self) -> int:
        """How many cells there are."""
        return 2 * HALF + 2 * len(self.atoms)

    def ends(self) -> Floats:
        """The ends of all cells, ascending: cell k lies between number k and number k + 1."""
        index = np.arange(-HALF, HALF + 1, dtype=np.int64)
        away = np.abs(index)
        bits = np.minimum(away, FINE) + (BIAS << MANTISSA) + (np.maximum(away - FINE, 0) << MANTISSA)
        t = (np.minimum(bits, (2 * BIAS + 1) << MANTISSA) << (FRACTION_BITS - MANTISSA)).view(np.float64)
        # the last cell begins where t is no number any more
        t[away == HALF - 1] = np.finfo(np.float64).max
        with np.errstate(over="ignore"):
            ends = self.centre + np.sign(index) * (self.scale * (t - 1.0))
        if self.atoms:
            ends = np.sort(np.concatenate((ends, np.repeat(self.atoms, 2))))
        return np.asarray(ends)
