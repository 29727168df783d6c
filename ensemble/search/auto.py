"""The search that does best on images it was not fitted on.

Each search is fitted on all folds but one of the search images and judged on that one, in turn; the
one with the lowest loss over all held-out images is fitted on the whole. Of equals the simpler wins:
the first in `CANDIDATES`. Five folds, so that what is judged is nearly what will be used.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ensemble.outranking.table import OutrankingTable
from ensemble.search import best, caruana, forward, likelihood, line, paper, refine, uniform
from ensemble.search.crossfit import cross_fit, stratified_folds
from ensemble.search.limits import Limits
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig
from ensemble.search.weights import Loss, late_note, loss

CANDIDATES: dict[str, Callable[[OutrankingTable, SearchConfig], Ensemble]] = {
    "best": best.fit,
    "uniform": uniform.fit,
    "likelihood": likelihood.fit,
    "caruana": caruana.fit,
    "paper": paper.fit,
    "line": line.fit,
    "forward": forward.fit,
    "refine": refine.fit,
}

NUM_FOLDS = 5


def fit(table: OutrankingTable, config: SearchConfig) -> Ensemble:
    """Choose by cross-fitting, then fit on all images."""
    limits, losses = Limits.of(table, config), dict[str, Loss]()
    counts = table.image_counts
    num_folds = min(NUM_FOLDS, table.num_images if counts is None else np.count_nonzero(counts))
    if num_folds > 1:
        folds = _folds(table, int(num_folds), config.seed)
        for kind, search in CANDIDATES.items():
            if not limits.is_late:
                losses[kind] = _held_out(table, config, search, folds)
    chosen = min(losses, key=lambda kind: losses[kind], default="best")
    notes = [_words(chosen, losses, table.num_counted, config)]
    if limits.is_late:
        notes.append(late_note(config, f"after {len(losses)} of {len(CANDIDATES)} candidates"))
    fitted = CANDIDATES[chosen](table, config)
    return replace(fitted, kind="auto", chosen=chosen, notes=(*notes, *fitted.notes))


def _folds(table: OutrankingTable, num_folds: int, seed: int) -> np.ndarray:
    """Deal the images that count; the others go along in the first fold."""
    folds = np.zeros(table.num_images, dtype=np.int64)
    counted = np.arange(table.num_images)
    if table.image_counts is not None:
        counted = np.flatnonzero(table.image_counts)
    folds[counted] = stratified_folds(table.labels[counted], num_folds, seed)
    return folds


def _held_out(
    table: OutrankingTable,
    config: SearchConfig,
    search: Callable[[OutrankingTable, SearchConfig], Ensemble],
    folds: np.ndarray,
) -> Loss:
    held_out = cross_fit(table, lambda part: search(part, config), folds, config.error_k)
    nll = float(np.average(held_out.losses, weights=table.image_counts))
    return loss(table.count(held_out.is_error), nll, config)


def _words(chosen: str, losses: dict[str, Loss], num_images: int, config: SearchConfig) -> str:
    if not losses:
        return "There was nothing to choose by: too few images or too little time. Took the best member."
    name = "NLL" if config.objective == "nll" else f"top-{config.error_k} errors"
    listed = ", ".join(f"{kind} {losses[kind][0]:.5g}" for kind in losses)
    return f"Chose {chosen} by {name} on {num_images} images held out in turn: {listed}."
