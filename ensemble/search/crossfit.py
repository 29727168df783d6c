"""Errors on images that the weights were not fitted on, where there is one labelled set only.

Images are dealt into folds by class; weights are fitted on all folds but one and judged on that one,
until every image has been judged once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.errors import ConfigError
from ensemble.outranking import measures
from ensemble.outranking.table import OutrankingTable
from ensemble.search.result import Ensemble

Fit = Callable[[OutrankingTable], Ensemble]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """How a search does on images that its weights were not fitted on.

    Attributes:
        is_error: Whether each image is an error of the weights fitted without its fold.
        losses: -log of the label's probability by the same weights, nats.
        ensembles: The weights fitted without each fold.
    """

    is_error: Bool[np.ndarray, " image"]
    losses: Float[np.ndarray, " image"]
    ensembles: tuple[Ensemble, ...]


def stratified_folds(
    labels: Int[np.ndarray, " image"], num_folds: int, seed: int
) -> Int[np.ndarray, " image"]:
    """Deal the images of each class evenly into folds, in random order.

    Raises:
        ConfigError: There are fewer images than folds, or fewer than two folds.
    """
    if not 2 <= num_folds <= len(labels):
        raise ConfigError(
            f"{num_folds} folds of {len(labels)} images; expected at least 2 folds and as many "
            "images."
        )
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    folds = np.empty(len(labels), dtype=np.int64)
    folds[by_class] = np.arange(len(labels)) % num_folds
    return folds


def cross_fit(
    table: OutrankingTable, fit: Fit, folds: Int[np.ndarray, " image"], k: int
) -> HeldOut:
    """Fit without each fold in turn, and judge on it.

    Args:
        table: The table of all images; each counts as often as it does there.
        fit: A search: from a table to an ensemble.
        folds: The fold of each image.
        k: The error is top-k.
    """
    counts = table.image_counts
    counts = np.ones(table.num_images, np.int64) if counts is None else counts
    ensembles = [
        fit(table.reweighted(np.where(folds == fold, 0, counts))) for fold in np.unique(folds)
    ]
    return judge_folds([table] * len(ensembles), ensembles, folds, k)


def judge_folds(
    tables: Sequence[OutrankingTable],
    ensembles: Sequence[Ensemble],
    folds: Int[np.ndarray, " image"],
    k: int,
) -> HeldOut:
    """Judge on each fold, by rising number, the ensemble that was fitted without it, on its table."""
    is_error = np.zeros(len(folds), dtype=np.bool_)
    losses = np.zeros(len(folds))
    for fold, table, ensemble in zip(np.unique(folds), tables, ensembles, strict=True):
        held_out, judged = folds == fold, table.of(ensemble.combine)
        is_error[held_out] = judged.is_error(ensemble.units, k)[held_out]
        losses[held_out] = measures.losses(judged, ensemble.units, ensemble.scale)[held_out]
    return HeldOut(is_error, losses, tuple(ensembles))
