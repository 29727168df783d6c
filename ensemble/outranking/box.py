"""Which contested pairs are decided, once the anchor's weight is fixed and the others are bounded.

If the anchor a has weight J = 1.00 and every other weight lies in [0, J], then sum_m w_m D_m[c] lies
between J D_a + J sum_{m != a} min(D_m, 0) and J D_a + J sum_{m != a} max(D_m, 0). A pair whose
upper bound is negative never reaches the label; one whose lower bound is positive always outranks
it and becomes a count. An image with k certain counts, or with fewer than k in reach, is decided as a
whole. Nothing that can tie is dropped.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Bool, Int32

from ensemble.outranking.pairs import Pairs

if TYPE_CHECKING:
    from ensemble.outranking.table import OutrankingTable

_BLOCK_PAIRS = 1 << 13  # of 13 members: the temporaries stay in cache
_NUM_KEPT = 2  # boxed tables of one table


@dataclass(frozen=True)
class Box:
    """The weights for which a boxed table is exact: the anchor's 1.00, the others' in [0, 1.00].

    Attributes:
        anchor: Index of the member with the fixed weight.
        k: The error is top-k.
    """

    anchor: int
    k: int


# By the pairs of the full table, which its reweighted copies share: all folds and resamples of a
# search find the boxed table that the first of them made. It goes when the full table goes.
_KEPT: WeakKeyDictionary[Pairs, dict[Box, "OutrankingTable"]] = WeakKeyDictionary()


def recall(pairs: Pairs, box: Box) -> "OutrankingTable | None":
    """Give the boxed table that was kept for the full table with these pairs, if there is one."""
    return _KEPT.get(pairs, {}).get(box)


def keep(pairs: Pairs, box: Box, table: "OutrankingTable") -> None:
    """Keep a boxed table for the full table with these pairs; the oldest one makes room for it."""
    kept = _KEPT.setdefault(pairs, {})
    while len(kept) >= _NUM_KEPT:
        kept.pop(next(iter(kept)))
    kept[box] = table


def decided_pairs(
    differences: Int32[np.ndarray, "member pair"], anchor: int
) -> tuple[Bool[np.ndarray, " pair"], Bool[np.ndarray, " pair"]]:
    """Mark pairs that never reach the label, and pairs that always outrank it."""
    num_pairs = differences.shape[1]
    never, always = np.empty((2, num_pairs), dtype=np.bool_)
    for first in range(0, num_pairs, _BLOCK_PAIRS):
        part = slice(first, first + _BLOCK_PAIRS)
        block = differences[:, part]
        total, size = np.zeros((2, block.shape[1]))
        for row in block:  # a sum over the axis of members is slower for int32
            total += row
            size += np.abs(row)
        fixed = block[anchor].astype(np.float64)
        # max(D, 0) = (D + |D|) / 2; twice the bounds over J, so that all stay integers.
        never[part] = total + size + np.minimum(fixed, 0) * 2 < 0
        always[part] = total - size + np.maximum(fixed, 0) * 2 > 0
    return never, always
