"""The comparison that every report shows: best, uniform, paper and chosen, on images none of them saw."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from ensemble import statistics
from ensemble.outranking.fixed_point import WEIGHT_UNITS
from ensemble.outranking.table import OutrankingTable
from ensemble.search.crossfit import judge_folds
from ensemble.search.fit import fit
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig, SearchKind
from ensemble.search.weights import finish

IMAGES_PER_CLASS = 10
"""With fewer images of a class, weights are fitted to chance rather than to the class."""

LEAST_ERRORS = 30
"""With fewer errors of the best member, one image more or less decides a weight."""

KEYS = ("best", "uniform_all", "uniform_selected", "paper", "chosen")


@dataclass(frozen=True)
class Comparison:
    """A paired difference in errors: this predictor minus another.

    Attributes:
        interval: With its bootstrap bounds.
        p: McNemar's exact test.
        fixed: Images wrong by the other and right here.
        broken: Images right by the other and wrong here.
    """

    interval: statistics.Interval
    p: float
    fixed: int
    broken: int


@dataclass(frozen=True, eq=False)
class Judged:
    """One predictor on images that its weights were not fitted on.

    Attributes:
        key: One of `KEYS`.
        members: Members with a weight; of the first fold where it was cross-fitted.
        n: Images.
        errors: Top-k errors.
        nll: Nats.
        against_best: Against the best single member; None for that one itself.
        against_uniform: Against the plain average of all members; None for that one itself.
    """

    key: str
    members: int
    n: int
    errors: int
    nll: float
    against_best: Comparison | None
    against_uniform: Comparison | None


def predictors(
    table: OutrankingTable, config: SearchConfig, chosen: Ensemble | None = None
) -> dict[str, Ensemble]:
    """Fit what is compared, by key; `chosen` is fitted with `config` unless it is given.

    The uniform averages and the best member know no caps: they are what the chosen one is held
    against.
    """
    plain = SearchConfig(k=config.k, objective=config.objective)
    chosen = chosen or fit(table, config)
    selected = np.where(chosen.units > 0, WEIGHT_UNITS, 0)

    def fitted(kind: SearchKind) -> Ensemble:
        return fit(table, plain.model_copy(update={"kind": kind}))

    return {
        "best": fitted("best"),
        "uniform_all": fitted("uniform"),
        "uniform_selected": finish(table, config, "uniform", selected),
        "paper": fitted("paper"),
        "chosen": chosen,
    }


def judge(
    table: OutrankingTable, fitted: dict[str, Ensemble], resamples: int = 10_000
) -> tuple[Judged, ...]:
    """Judge predictors on a table of other images than they were fitted on."""
    wrong = {key: table.is_error(e.units, e.k) for key, e in fitted.items()}
    nlls = {key: table.nll(e.units) for key, e in fitted.items()}
    sizes = {key: len(e.selected) for key, e in fitted.items()}
    return _judged(wrong, nlls, sizes, resamples)


def judge_cross_fitted(
    tables: Sequence[OutrankingTable],
    folds: Int[np.ndarray, " image"],
    config: SearchConfig,
    resamples: int = 10_000,
) -> tuple[Judged, ...]:
    """Judge where there is one labelled set only: fit on one half, judge on the other, and reverse.

    Args:
        tables: Of all images, one for each fold: of the members as they are without that fold. They
            differ only where the members were calibrated.
        folds: 0 or 1 for each image.
        config: What the chosen one is fitted with.
        resamples: Of each paired bootstrap interval.
    """
    halves = [
        predictors(table.reweighted((folds != fold).astype(np.int64)), config)
        for fold, table in enumerate(tables)
    ]
    held_out = {
        key: judge_folds(tables, [half[key] for half in halves], folds, config.error_k)
        for key in KEYS
    }
    wrong = {key: judged.is_error for key, judged in held_out.items()}
    nlls = {key: float(judged.losses.mean()) for key, judged in held_out.items()}
    sizes = {key: len(halves[0][key].selected) for key in KEYS}
    return _judged(wrong, nlls, sizes, resamples)


def warnings(table: OutrankingTable, ensemble: Ensemble) -> tuple[str, ...]:
    """Say in sentences what makes the weights less trustworthy than they look."""
    found = []
    per_class = table.num_images / table.num_classes
    if per_class < IMAGES_PER_CLASS:
        found.append(
            f"The search split has {table.num_images:,} images for {table.num_classes:,} classes, "
            f"{per_class:.1f} a class; below {IMAGES_PER_CLASS} a class weights follow chance. "
            f"Use {IMAGES_PER_CLASS * table.num_classes:,} images or more, or trust equal weights."
        )
    least = int(table.member_errors(ensemble.k).min())
    if least < LEAST_ERRORS:
        found.append(
            f"The best member has only {least} top-{ensemble.k} errors on the search split; with "
            f"fewer than {LEAST_ERRORS} single images decide the weights. Use more images."
        )
    for name, broken in zip(table.member_names, table.num_broken.tolist(), strict=True):
        if broken:
            found.append(f"{name} has NaN or infinity on {broken} images; they count as wrong.")
    if ties := table.num_ties(ensemble.units, ensemble.k):
        found.append(f"Equal scores decide {ties} images of the search split, by class order.")
    return (*found, *ensemble.notes)


def _judged(
    wrong: dict[str, Bool[np.ndarray, " image"]],
    nlls: dict[str, float],
    sizes: dict[str, int],
    resamples: int,
) -> tuple[Judged, ...]:
    return tuple(
        Judged(
            key=key,
            members=sizes[key],
            n=len(wrong[key]),
            errors=int(wrong[key].sum()),
            nll=nlls[key],
            against_best=compare(wrong[key], wrong["best"], resamples) if key != "best" else None,
            against_uniform=compare(wrong[key], wrong["uniform_all"], resamples)
            if key != "uniform_all"
            else None,
        )
        for key in wrong
    )


def compare(
    wrong: Bool[np.ndarray, " image"], other: Bool[np.ndarray, " image"], resamples: int
) -> Comparison:
    """Compare two predictors on the same images."""
    return Comparison(
        interval=statistics.paired_bootstrap(wrong, other, resamples),
        p=statistics.mcnemar(wrong, other),
        fixed=int((other & ~wrong).sum()),
        broken=int((wrong & ~other).sum()),
    )
