"""A table without what no weighting beside a fixed anchor can turn: a tenth as large, as exact."""

from dataclasses import replace

import numpy as np

from ensemble.errors import ConfigError
from ensemble.outranking.box import Box, decided_pairs, keep, recall
from ensemble.outranking.pairs import bounds
from ensemble.outranking.table import OutrankingTable


def box_table(table: OutrankingTable, anchor: int, k: int) -> OutrankingTable:
    """Drop what no weighting with `anchor` at 1.00 and the others in [0, 1.00] can turn.

    Args:
        table: The full table; the last boxed tables made of it are kept while it is there.
        anchor: Index of the member with the fixed weight.
        k: The error is top-k.

    Returns:
        A table a tenth as large, exact for this k and these weights; it refuses others.

    Raises:
        ConfigError: k is not below the number of classes, or the table is boxed already.
    """
    if table.box:
        raise ConfigError(f"the table is boxed already ({table.box}); box the full table.")
    box = Box(anchor, table.checked_k(k))
    boxed = recall(table.pairs, box)
    if boxed is None:
        boxed = _without_decided(table, box)
        keep(table.pairs, box, boxed)
    return boxed.with_counts(table.image_counts)


def _without_decided(table: OutrankingTable, box: Box) -> OutrankingTable:
    never, always = decided_pairs(table.differences, box.anchor)
    is_undecided = ~(never | always)
    num_certain = table.count_pairs(always)
    is_open = (num_certain < box.k) & (num_certain + table.count_pairs(is_undecided) >= box.k)
    kept = np.flatnonzero(is_undecided & is_open[table.images])
    return replace(
        table,
        indptr=bounds(np.bincount(table.images[kept], minlength=table.num_images)),
        classes=table.classes[kept],
        differences=np.stack([row[kept] for row in table.differences]),
        num_certain=num_certain,
        image_counts=None,
        box=box,
        logs=None,
    )
