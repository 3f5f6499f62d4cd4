"""Cells that every number falls into: fine where the reference's values lie, relative to the distance beyond.

A value x lies at t = 1 + |x - centre| / scale, and the leading bits of t name its cell (the float's bits are
monotone in its value, so cutting the last ones off is a histogram for free). Within one scale of the centre all cells
are equally wide, beyond it their width grows with the distance: a cell is at most 2**-MANTISSA x (scale + |x -
centre|) wide, however heavy the tail. So two samples that are known by their cells alone have a Wasserstein distance
known to within 2**-MANTISSA x (2 x scale + both mean distances from the centre). The grid alone decides where a value
is counted, never the order of the data: counts add up in any order.
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
BLOCK = 1 << 15
"""Values worked on at a time: their intermediate arrays stay in the core's cache."""


@dataclass(frozen=True)
class Grid:
    """Where the cells are.

    Attributes:
        centre: where they are finest.
        scale: the distance from the centre within which cells are equally wide, in the unit of the values; > 0.
    """

    centre: float = 0.0
    scale: float = 1.0

    @classmethod
    def of(cls, ordered: Floats) -> Grid:
        """The grid that suits a sample (ascending, finite): around its median, a quarter of its middle half wide.

        A sample whose middle half is one value is measured by its standard deviation; a constant by its size.
        """
        if not len(ordered):
            return cls()
        low, centre, high = (float(ordered[int(q * (len(ordered) - 1))]) for q in (0.25, 0.5, 0.75))
        with np.errstate(over="ignore", invalid="ignore"):
            candidates = ((high - low) / 4.0, float(np.std(ordered)) / 8.0, abs(centre) * 2.0**-20)
        # the reciprocal of the scale must be a number too
        usable = (s for s in candidates if np.isfinite(s) and s > 1e-300)
        return cls(centre, next(usable, 1.0))

    def cells(self, values: Floats) -> Integers:
        """The cell of each finite value, from 0 to 2 x HALF - 1, in the order of the values they hold."""
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
                np.bitwise_xor(bits, negative, out=found[start : start + BLOCK])
        found += HALF
        return found

    def edges(self, first: int, last: int) -> Floats:
        """The ends of the cells first … last, `last - first + 2` ascending numbers."""
        index = np.arange(first, last + 2, dtype=np.int64) - HALF
        away = np.abs(index)
        fine = np.minimum(away, FINE) + (BIAS << MANTISSA)
        bits = fine + (np.maximum(away - FINE, 0) << MANTISSA)
        with np.errstate(over="ignore", invalid="ignore"):
            # past the last octave the bits are those of infinity, which is where the last cell ends
            bits = np.minimum(bits, (2 * BIAS + 1) << MANTISSA)
            t = (bits << (FRACTION_BITS - MANTISSA)).view(np.float64)
            edges: Floats = self.centre + np.sign(index) * (self.scale * (t - 1.0))
        return edges
