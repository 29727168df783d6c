"""Which predictor is recommended: the simplest of those that held-out images cannot tell apart.

Every row of the comparison is fitted on four fifths of the search images and judged on the others, in
turn. The row with the least held-out loss need not be the one to use: a simpler one within one standard
error of it is recommended instead. No test image is looked at.

Source: the one-standard-error rule of Breiman et al. 1984, §3.4.3, on paired differences.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from ensemble.outranking.table import OutrankingTable
from ensemble.search.comparison import Predictor, predictors
from ensemble.search.crossfit import judge_folds, stratified_folds
from ensemble.search.fit import fit
from ensemble.search.limits import Limits
from ensemble.search.result import Ensemble
from ensemble.search.settings import PredictorKey, SearchConfig

SIMPLEST_FIRST: tuple[PredictorKey, ...] = (
    "best",
    "uniform_selected",
    "uniform_all",
    "ensemble",
    "paper",
)
"""One member, then plain averages of few and of all, then fitted weights; the paper's search last,
because it is a comparison unless the settings name it."""

NUM_FOLDS = 5

_REPEATS = 3
"""Every image is judged by so many deals into folds: one deal alone moves the choice."""

_MAX_REPEATED_NUMBERS = 5_000_000
"""Size of the largest table that is dealt more than once."""


@dataclass(frozen=True)
class HeldOutPredictor:
    """One row of the comparison on search images that it was not fitted on.

    Attributes:
        key: Key of the row.
        label: Name of the row.
        error: Rate of its top-k errors.
        behind: Its mean loss less that of the row with the least: a rate of errors, or nats where the
            objective is the NLL.
        standard_error: Standard error of `behind`, over paired images.
        is_allowed: Whether the caps of the search allow its members.
    """

    key: PredictorKey
    label: str
    error: float
    behind: float
    standard_error: float
    is_allowed: bool

    @property
    def is_tied(self) -> bool:
        """Tell whether held-out images cannot tell it from the row with the least loss."""
        return self.behind <= self.standard_error


@dataclass(frozen=True)
class Recommendation:
    """The row to use, and how all rows do on held-out images.

    Attributes:
        key: Key of the recommended row.
        rows: Every row, in the order of the comparison; empty where there are too few images.
        reason: Why this row, in a sentence.
    """

    key: PredictorKey
    rows: tuple[HeldOutPredictor, ...]
    reason: str


def recommend(table: OutrankingTable, config: SearchConfig, ensemble: Ensemble) -> Recommendation:
    """Recommend the simplest predictor that held-out images do not tell from the best of them.

    Args:
        table: The outranking table of the search split.
        config: What the ensemble was searched with; a row that its caps forbid is never recommended.
        ensemble: The weights that were searched. Of `auto`, the search that it took is fitted again.
    """
    # The average over families is there to compare with: what is recommended does not depend on names.
    rows = [r for r in predictors(table, config, ensemble) if r.key != "uniform_families"]
    limits = Limits.of(table, config)
    allowed = {row.key: limits.allow(row.ensemble.units > 0) for row in rows}
    units = {row.key: row.ensemble.units for row in rows}
    candidates = {key for key, is_allowed in allowed.items() if is_allowed}
    if np.array_equal(units["uniform_selected"], units["uniform_all"]):
        # One predictor under two names: the plainer one is taken.
        candidates -= {"uniform_selected"}
    if table.num_images < 2 * NUM_FOLDS:
        key = _simplest(candidates)
        return Recommendation(
            key,
            (),
            f"{table.num_images} search images are too few to compare predictors on; the simplest is "
            "taken.",
        )
    wrong, losses = _held_out(table, config, ensemble, rows)
    compared = losses if config.objective == "nll" else wrong
    least = min((row.key for row in rows if allowed[row.key]), key=lambda key: compared[key].mean())
    judged = tuple(
        HeldOutPredictor(
            key=row.key,
            label=row.label,
            error=float(wrong[row.key].mean()),
            behind=float((compared[row.key] - compared[least]).mean()),
            standard_error=_standard_error(compared[row.key] - compared[least]),
            is_allowed=allowed[row.key],
        )
        for row in rows
    )
    key = _simplest(row.key for row in judged if row.is_tied and row.key in candidates)
    return Recommendation(key, judged, _reason(judged, least, key, table.num_images, config))


def answering(
    rows: Sequence[Predictor], recommendation: Recommendation, config: SearchConfig
) -> Predictor:
    """Give the row that an artifact answers with.

    Where the settings leave the search open (`auto`) that is the recommended row, and where they name
    a search its weights.
    """
    key = answering_key(recommendation, config)
    return next(row for row in rows if row.key == key)


def answering_key(recommendation: Recommendation, config: SearchConfig) -> PredictorKey:
    """Give the key of the row that an artifact answers with."""
    return recommendation.key if config.kind == "auto" else "ensemble"


def is_told_apart(wrong: Bool[np.ndarray, " image"], simpler: Bool[np.ndarray, " image"]) -> bool:
    """Tell whether a predictor errs less than a simpler one by more than one standard error.

    Args:
        wrong: Whether the predictor errs on each held-out image.
        simpler: Whether the simpler one does, on the same images.
    """
    difference = wrong.astype(np.float64) - simpler
    return bool(len(difference) and -difference.mean() > _standard_error(difference))


def _simplest(keys: Iterable[PredictorKey]) -> PredictorKey:
    present = set(keys)
    return next(key for key in SIMPLEST_FIRST if key in present)


def _standard_error(difference: Float[np.ndarray, " image"]) -> float:
    """Give the standard error of the mean of paired differences.

    Two pseudo-images, one each way, keep a handful of images from looking certain.
    """
    n = len(difference)
    pseudo = 2 * np.square(np.abs(difference).max(initial=0.0))
    return float(np.sqrt(np.square(difference).sum() + pseudo) / n)


def _held_out(
    table: OutrankingTable,
    config: SearchConfig,
    ensemble: Ensemble,
    rows: Sequence[Predictor],
) -> tuple[
    Mapping[PredictorKey, Float[np.ndarray, " image"]],
    Mapping[PredictorKey, Float[np.ndarray, " image"]],
]:
    """Give the held-out error and NLL of each image by each row, as means over deals into folds."""
    limit_s = config.time_limit_s
    kind = config.model_copy(
        update={
            "kind": ensemble.search,
            "combine": ensemble.combine,
            # All folds together take as long as the search itself.
            "time_limit_s": limit_s / NUM_FOLDS if limit_s else None,
        }
    )
    is_small = table.differences.size <= _MAX_REPEATED_NUMBERS and limit_s is None
    repeats = _REPEATS if is_small else 1
    wrong = {row.key: np.zeros(table.num_images) for row in rows}
    losses = {row.key: np.zeros(table.num_images) for row in rows}
    for repeat in range(repeats):
        folds = stratified_folds(table.labels, NUM_FOLDS, config.seed + repeat)
        fitted: dict[PredictorKey, list[Ensemble]] = {row.key: [] for row in rows}
        for fold in range(NUM_FOLDS):
            part = table.reweighted((folds != fold).astype(np.int64))
            again = {row.key: row.ensemble for row in predictors(part, kind, fit(part, kind))}
            for key, ensembles in fitted.items():
                # The paper's search has no row of its own where it is the search that is fitted.
                ensembles.append(again.get(key, again["ensemble"]))
        for key, ensembles in fitted.items():
            part_out = judge_folds([table] * NUM_FOLDS, ensembles, folds, config.error_k)
            wrong[key] += part_out.is_error / repeats
            losses[key] += part_out.losses / repeats
    return wrong, losses


def _phrase(row: HeldOutPredictor) -> str:
    """Name a row in the middle of a sentence."""
    return f"the {row.label}" if row.key in ("best", "ensemble") else row.label


def _reason(
    rows: Sequence[HeldOutPredictor],
    least: PredictorKey,
    key: PredictorKey,
    num_images: int,
    config: SearchConfig,
) -> str:
    by_key = {row.key: row for row in rows}
    first, taken = by_key[least], by_key[key]
    where = f"{num_images:,} search images held out in turn"
    best = by_key["best"]
    over = "" if best.is_allowed else f" The {best.label} is beyond the caps of the search."
    if key == least:
        simpler = any(
            row.is_allowed and SIMPLEST_FIRST.index(row.key) < SIMPLEST_FIRST.index(key)
            for row in rows
        )
        rest = ", and nothing simpler comes within one standard error of it" if simpler else ""
        return f"On {where} it errs least ({first.error:.2%}){rest}.{over}"
    unit = "nats" if config.objective == "nll" else "points"
    scale = 1 if config.objective == "nll" else 100
    return (
        f"On {where} it errs on {taken.error:.2%}, and {_phrase(first)} on {first.error:.2%}: "
        f"{scale * taken.behind:.2f} {unit} more, with a standard error of "
        f"{scale * taken.standard_error:.2f}. What these images cannot tell apart counts as equal, and "
        f"of equals the simplest is taken.{over}"
    )
