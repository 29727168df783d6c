"""What every report compares an ensemble with, on images that none of the weights were fitted on.

The best single member, plain averages and the paper's search: their keys, labels and weights are
decided here, for the report of a run and for that of a search alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int

from ensemble import statistics
from ensemble.outranking import measures
from ensemble.outranking.fixed_point import WEIGHT_UNITS
from ensemble.outranking.table import OutrankingTable
from ensemble.search.crossfit import judge_folds
from ensemble.search.fit import fit
from ensemble.search.result import Ensemble
from ensemble.search.settings import PredictorKey, SearchConfig
from ensemble.search.weights import anchor_units, best_member, finish

IMAGES_PER_CLASS = 10
"""With fewer images of a class, weights are fitted to chance rather than to the class."""

LEAST_ERRORS = 30
"""With fewer errors of the best member, one image more or less decides a weight."""


WIDE_TEMPERATURES = 2.0
"""Where one member's temperature is so many times another's, a mean of probabilities is misled."""


@dataclass(frozen=True, eq=False)
class Predictor:
    """One row of the comparison: weights fitted on the search split.

    Attributes:
        key: What it is, the same in every report.
        label: What it is, in words.
        ensemble: Its weights.
    """

    key: PredictorKey
    label: str
    ensemble: Ensemble


@dataclass(frozen=True)
class Comparison:
    """A paired difference in errors: this predictor minus another.

    Attributes:
        interval: The difference with its bootstrap bounds.
        p: McNemar's exact test.
        fixed: Images wrong by the other and right here.
        broken: Images right by the other and wrong here.
    """

    interval: statistics.Interval
    p: float
    fixed: int
    broken: int


@dataclass(frozen=True, eq=False)
class JudgedPredictor:
    """One predictor on images that its weights were not fitted on.

    Attributes:
        key: What it is, the same in every report.
        label: What it is, in words.
        members: Members with weight > 0; of the first fold where it was cross-fitted.
        n: Images.
        errors: Top-k errors.
        nll: Mean negative log-likelihood of the label, nats.
        against_best: Difference to the best single member; None for that member itself.
        against_uniform: Difference to the plain average of all members; None for that average.
    """

    key: PredictorKey
    label: str
    members: int
    n: int
    errors: int
    nll: float
    against_best: Comparison | None
    against_uniform: Comparison | None


def predictors(
    table: OutrankingTable, config: SearchConfig, ensemble: Ensemble
) -> tuple[Predictor, ...]:
    """List what every report compares, in the order of the report.

    The best member, the plain averages and the paper's search know no caps: the ensemble is held
    against them. The paper's search has no row of its own where it made the ensemble. The plain average
    over families, which gives each architecture one vote that its members share, has one where families
    are known and differ from members: members of one family err alike, and count as fewer voters.

    Args:
        table: The outranking table of the search split.
        config: What the ensemble was searched with.
        ensemble: The weights that were searched.

    Source: of the vote of each family, arXiv 2603.17111.
    """
    names, best = table.member_names, best_member(table, config)
    selected = ensemble.units > 0
    rows = [
        Predictor(
            "best",
            f"best member ({names[best]})",
            finish(table, config, "best", anchor_units(table, best)),
        ),
        Predictor(
            "uniform_all",
            f"uniform over all {len(names)}",
            finish(table, config, "uniform", np.full(len(names), WEIGHT_UNITS)),
        ),
        Predictor(
            "uniform_selected",
            _label_selected(ensemble),
            finish(table, config, "uniform", np.where(selected, WEIGHT_UNITS, 0)),
        ),
    ]
    families = [config.families.get(name, name) for name in names]
    if 1 < len(set(families)) < len(names):
        units = np.array([WEIGHT_UNITS // families.count(family) for family in families])
        rows.insert(
            2,
            Predictor(
                "uniform_families",
                f"uniform over {len(set(families))} families",
                finish(table, config, "uniform", units),
            ),
        )
    if (ensemble.kind, ensemble.combine) != ("paper", "probabilities"):
        plain = SearchConfig(kind="paper", k=config.k, objective=config.objective)
        rows.append(Predictor("paper", "the paper's search", fit(table, plain)))
    return (*rows, Predictor("ensemble", "weighted ensemble", ensemble))


def _label_selected(ensemble: Ensemble) -> str:
    if len(ensemble.selected) == 1:
        return f"the one selected ({ensemble.selected[0]})"
    return f"uniform over the {len(ensemble.selected)} selected"


def judge(
    table: OutrankingTable, rows: Sequence[Predictor], resamples: int = 10_000
) -> tuple[JudgedPredictor, ...]:
    """Judge predictors on a table of other images than they were fitted on."""

    def _table(row: Predictor) -> OutrankingTable:
        return table.of(row.ensemble.combine)

    return _judged(
        rows,
        {row.key: _table(row).is_error(row.ensemble.units, row.ensemble.k) for row in rows},
        {
            row.key: measures.nll(_table(row), row.ensemble.units, row.ensemble.scale)
            for row in rows
        },
        resamples,
    )


def judge_cross_fitted(
    tables: Sequence[OutrankingTable],
    folds: Int[np.ndarray, " image"],
    config: SearchConfig,
    resamples: int = 10_000,
) -> tuple[JudgedPredictor, ...]:
    """Judge where there is one labelled set only: fit on one half, judge on the other, and reverse.

    Args:
        tables: Of all images, one for each fold: of the members as they are without that fold. They
            differ only where the members were calibrated.
        folds: 0 or 1 for each image.
        config: Settings of the search that is judged.
        resamples: Bootstrap samples of each paired interval.
    """
    halves = []
    for fold, table in enumerate(tables):
        half = table.reweighted((folds != fold).astype(np.int64))
        halves.append(predictors(half, config, fit(half, config)))
    rows = tuple(zip(*halves, strict=True))
    held_out = {
        pair[0].key: judge_folds(tables, [row.ensemble for row in pair], folds, config.error_k)
        for pair in rows
    }
    return _judged(
        [replace(pair[0], label=_label(pair)) for pair in rows],
        {key: part.is_error for key, part in held_out.items()},
        {key: float(part.losses.mean()) for key, part in held_out.items()},
        resamples,
    )


def _label(halves: Sequence[Predictor]) -> str:
    """Name what was fitted on each half by both labels, where these differ."""
    return " / ".join(dict.fromkeys(half.label for half in halves))


def warnings(table: OutrankingTable, ensemble: Ensemble) -> tuple[str, ...]:
    """Say in sentences what makes the weights less trustworthy than they look."""
    sentences = []
    per_class = table.num_images / table.num_classes
    if per_class < IMAGES_PER_CLASS:
        sentences.append(
            f"The search split has {table.num_images:,} images for {table.num_classes:,} classes, "
            f"{per_class:.1f} a class; below {IMAGES_PER_CLASS} a class weights follow chance. "
            f"Use {IMAGES_PER_CLASS * table.num_classes:,} images or more, or trust equal weights."
        )
    least = int(measures.member_errors(table, ensemble.k).min())
    if least < LEAST_ERRORS:
        sentences.append(
            f"The best member has only {least} top-{ensemble.k} errors on the search split; with "
            f"fewer than {LEAST_ERRORS} single images decide the weights. Use more images."
        )
    for name, broken in zip(table.member_names, table.num_broken.tolist(), strict=True):
        if broken:
            sentences.append(f"{name} has NaN or infinity on {broken} images; they count as wrong.")
    if sentence := _temperature_warning(table, ensemble):
        sentences.append(sentence)
    if ties := measures.num_ties(table.of(ensemble.combine), ensemble.units, ensemble.k):
        sentences.append(f"Equal scores decide {ties} images of the search split, by class order.")
    return (*sentences, *ensemble.notes)


def _temperature_warning(table: OutrankingTable, ensemble: Ensemble) -> str | None:
    """Warn of a mean of probabilities whose members are not equally sure of themselves."""
    selected = np.flatnonzero(ensemble.units).tolist()
    if ensemble.combine != "probabilities" or len(selected) < 2 or table.likely is None:
        return None
    temperatures = {member: measures.temperature(table, member) for member in selected}
    low, high = (
        min(selected, key=temperatures.__getitem__),
        max(selected, key=temperatures.__getitem__),
    )
    if temperatures[high] < WIDE_TEMPERATURES * temperatures[low]:
        return None
    names = table.member_names
    return (
        f"The temperatures that suit the members run from {temperatures[low]:.2f} ({names[low]}) to "
        f"{temperatures[high]:.2f} ({names[high]}): in a mean of probabilities the surer member decides, "
        "right or wrong. Set temperature=true, or search.combine=logs, where a weight makes up for it."
    )


def _judged(
    rows: Sequence[Predictor],
    wrong: Mapping[PredictorKey, Bool[np.ndarray, " image"]],
    nlls: Mapping[PredictorKey, float],
    resamples: int,
) -> tuple[JudgedPredictor, ...]:
    def against(key: PredictorKey, other: PredictorKey) -> Comparison | None:
        return None if key == other else compare(wrong[key], wrong[other], resamples)

    return tuple(
        JudgedPredictor(
            key=row.key,
            label=row.label,
            members=len(row.ensemble.selected),
            n=len(wrong[row.key]),
            errors=int(wrong[row.key].sum()),
            nll=nlls[row.key],
            against_best=against(row.key, "best"),
            against_uniform=against(row.key, "uniform_all"),
        )
        for row in rows
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
