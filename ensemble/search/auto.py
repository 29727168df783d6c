"""The search that does best on images it was not fitted on, of probabilities or of logarithms.

Each search is fitted on all folds but one of the search images and judged on that one, in turn; the
one with the lowest loss over all held-out images is fitted on the whole. Of equals the simpler wins:
probabilities, then the first in `CANDIDATES`. The best member is a candidate, so that nothing is taken
that does worse than it on held-out images. Five folds, so that what is judged is nearly what will be
used.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ensemble.outranking.combine import Combine
from ensemble.outranking.table import OutrankingTable
from ensemble.search import best, caruana, forward, likelihood, line, paper, refine, uniform
from ensemble.search.crossfit import judge_folds, stratified_folds
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

_Candidate = tuple[Combine, str]


def fit(table: OutrankingTable, config: SearchConfig) -> Ensemble:
    """Choose by cross-fitting, then fit on all images.

    Raises:
        ConfigError: The settings ask for means that the table was not built for.
    """
    limits, losses = Limits.of(table, config), dict[_Candidate, Loss]()
    candidates = _candidates(table, config)
    counts = table.image_counts
    num_folds = min(NUM_FOLDS, table.num_images if counts is None else np.count_nonzero(counts))
    if num_folds > 1:
        folds = _folds(table, int(num_folds), config.seed)
        parts = [
            table.reweighted(np.where(folds == fold, 0, table.counts)) for fold in np.unique(folds)
        ]
        for candidate in candidates:
            if not limits.is_late:
                losses[candidate] = _held_out(table, config, candidate, parts, folds)
    chosen = min(losses, key=lambda candidate: losses[candidate], default=candidates[0])
    notes = [_words(chosen, losses, table.num_counted, config)]
    if limits.is_late:
        notes.append(late_note(config, f"after {len(losses)} of {len(candidates)} candidates"))
    combine, kind = chosen
    fitted = CANDIDATES[kind](table.of(combine), config)
    return replace(fitted, kind="auto", chosen=kind, notes=(*notes, *fitted.notes))


def _candidates(table: OutrankingTable, config: SearchConfig) -> list[_Candidate]:
    """List what is tried; one member alone is the same of probabilities and of logarithms."""
    combines = table.combines if config.combine is None else (config.combine,)
    return [
        (combine, kind)
        for combine in combines
        for kind in CANDIDATES
        if combine == combines[0] or kind != "best"
    ]


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
    candidate: _Candidate,
    parts: Sequence[OutrankingTable],
    folds: np.ndarray,
) -> Loss:
    combine, kind = candidate
    ensembles = [CANDIDATES[kind](part.of(combine), config) for part in parts]
    held_out = judge_folds([table] * len(parts), ensembles, folds, config.error_k)
    nll = float(np.average(held_out.losses, weights=table.image_counts))
    return loss(table.count(held_out.is_error), nll, config)


def _words(
    chosen: _Candidate, losses: dict[_Candidate, Loss], num_images: int, config: SearchConfig
) -> str:
    if not losses:
        return "There was nothing to choose by: too few images or too little time. Took the best member."
    name = "NLL" if config.objective == "nll" else f"top-{config.error_k} errors"
    listed = []
    for combine in dict.fromkeys(combine for combine, _ in losses):
        of_combine = [f"{kind} {loss[0]:.5g}" for (c, kind), loss in losses.items() if c == combine]
        listed.append(f"means of {combine}: {', '.join(of_combine)}")
    combine, kind = chosen
    return (
        f"Chose {kind} on {combine} by {name} on {num_images} images held out in turn. "
        f"{'; '.join(listed).capitalize()}."
    )
