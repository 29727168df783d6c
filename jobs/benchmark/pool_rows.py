"""Every search on means of probabilities and of logarithms: fitted on some images, judged on others.

Errors are paired: all predictors of a split are judged on the same images, and differences are taken
image by image. The intervals come from a bootstrap over splits and images.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.evaluation.crossed_bootstrap import crossed_bootstrap
from ensemble.outranking import measures
from ensemble.outranking.fixed_point import WEIGHT_UNITS
from ensemble.outranking.table import OutrankingTable
from ensemble.search.fit import SEARCHES, fit
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig
from ensemble.search.weights import finish
from ensemble.statistics import Interval, MeanSd, mean_sd

Predictor = tuple[str, str]
"""A search, and what its weights are means of."""

BEST: Predictor = ("best", "either")
PAPER: Predictor = ("paper", "probabilities")
AUTO: Predictor = ("auto", "both")
MIXTURE_AUTO: Predictor = ("auto", "probabilities")
SELECTED: Predictor = ("uniform over those of `paper`", "probabilities")


@dataclass(frozen=True, eq=False)
class SplitPool:
    """The predictions of a pool on images to fit on and on images to judge on.

    Attributes:
        search: Images that weights are fitted on, with both means.
        test: Images that they are judged on, with both means; those that count.
        places: Place of each image of `test` among the images of all splits.
    """

    search: OutrankingTable
    test: OutrankingTable
    places: Int[np.ndarray, " image"]


@dataclass(frozen=True)
class PoolRow:
    """One predictor over all splits.

    Attributes:
        search: The search that fitted its weights.
        means: What they are means of.
        error: Top-k error on the images that were held out, as a share.
        against_paper: Its error minus that of `paper` on probabilities, paired.
        against_auto: Its error minus that of `auto` on probabilities alone, paired.
        nll: Negative log-likelihood on the images that were held out, nats.
        took: How often `auto` took which search on which means; empty for all others.
    """

    search: str
    means: str
    error: MeanSd
    against_paper: Interval
    against_auto: Interval
    nll: MeanSd
    took: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class _Judged:
    """One predictor on one split: its errors among the images of all splits, and its NLL."""

    is_error: Bool[np.ndarray, " image"]
    nll: float
    ensemble: Ensemble


class PoolJudge:
    """Fits every search on one split after the other, and compares them over all.

    Args:
        num_images: Images of all splits together.
        k: Weights are fitted for, and judged by, the top-k error.
        resamples: Bootstrap samples of each interval.
        seed: Seed of the searches and of the bootstrap.
    """

    def __init__(self, num_images: int, k: int, resamples: int, seed: int) -> None:
        self._num_images, self._k = num_images, k
        self._resamples, self._seed = resamples, seed
        self._splits: list[dict[Predictor, _Judged]] = []
        self._is_judged: list[Bool[np.ndarray, " image"]] = []

    def add(self, pool: SplitPool) -> None:
        """Fit every search on the search images of a split, and judge it on the others."""
        counted = pool.test.counts > 0
        is_judged = np.zeros(self._num_images, dtype=np.bool_)
        is_judged[pool.places[counted]] = True
        judged = {}
        for predictor, ensemble in _fit_all(pool.search, self._k, self._seed).items():
            table = pool.test.of(ensemble.combine)
            is_error = np.zeros(self._num_images, dtype=np.bool_)
            is_error[pool.places[counted]] = table.is_error(ensemble.units, self._k)[counted]
            nll = measures.nll(table, ensemble.units, ensemble.scale)
            judged[predictor] = _Judged(is_error, nll, ensemble)
        self._splits.append(judged)
        self._is_judged.append(is_judged)

    def rows(self) -> list[PoolRow]:
        """Compare the predictors over the splits that were added."""
        is_judged = np.stack(self._is_judged)
        sizes = np.count_nonzero(is_judged, axis=1)
        names = list(self._splits[0])
        errors = {name: np.stack([s[name].is_error for s in self._splits]) for name in names}
        against = [
            _differences(errors, names, PAPER),
            _differences(errors, names, MIXTURE_AUTO),
        ]
        intervals = [
            crossed_bootstrap(each, is_judged, self._resamples, self._seed) for each in against
        ]
        return [
            PoolRow(
                search=name[0],
                means=name[1],
                error=mean_sd((np.count_nonzero(errors[name], axis=1) / sizes).tolist()),
                against_paper=intervals[0][number],
                against_auto=intervals[1][number],
                nll=mean_sd([split[name].nll for split in self._splits]),
                took=self._took(name),
            )
            for number, name in enumerate(names)
        ]

    def _took(self, name: Predictor) -> dict[str, int]:
        ensembles = [split[name].ensemble for split in self._splits]
        if not ensembles[0].chosen:
            return {}
        return dict(Counter(f"{e.chosen} on {e.combine}" for e in ensembles).most_common())


def row_of(rows: Sequence[PoolRow], predictor: Predictor) -> PoolRow:
    """Give the row of a predictor."""
    return next(row for row in rows if (row.search, row.means) == predictor)


def to_markdown(rows_by_k: Mapping[int, Sequence[PoolRow]]) -> list[str]:
    """Make the lines of a Markdown table: a row for each predictor, three columns for each k.

    The NLL is that of the weights fitted for the largest k.
    """
    columns = ["search", "means of"]
    for k in rows_by_k:
        columns += [f"top-{k} error, %", "against `paper`", "against `auto` of probabilities"]
    columns.append("NLL, nats")
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    last = max(rows_by_k)
    for number, row in enumerate(rows_by_k[last]):
        cells = [row.search if row.search == SELECTED[0] else f"`{row.search}`", row.means]
        for rows in rows_by_k.values():
            of_k = rows[number]
            cells.append(_spread(of_k.error, 100, 2))
            for other, interval in (
                (PAPER, of_k.against_paper),
                (MIXTURE_AUTO, of_k.against_auto),
            ):
                is_itself = (row.search, row.means) == other
                cells.append("" if is_itself else _points(interval))
        cells.append(_spread(row.nll, 1, 3))
        lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |"))
    return lines


def _fit_all(table: OutrankingTable, k: int, seed: int) -> dict[Predictor, Ensemble]:
    """Fit every search on both means; the best member is the same on either."""
    config = SearchConfig(k=k, seed=seed)
    kinds = [kind for kind in SEARCHES if kind not in ("auto", "best")]
    ensembles = {BEST: fit(table, config.model_copy(update={"kind": "best"}))}
    for kind in kinds:
        for combine in ("probabilities", "logs"):
            settings = config.model_copy(update={"kind": kind, "combine": combine})
            ensembles[kind, combine] = fit(table, settings)
    ensembles[MIXTURE_AUTO] = fit(table, config.model_copy(update={"combine": "probabilities"}))
    ensembles[AUTO] = fit(table, config)
    selected = np.where(ensembles[PAPER].units > 0, WEIGHT_UNITS, 0)
    ensembles[SELECTED] = finish(table, config, "uniform", selected)
    return ensembles


def _differences(
    errors: Mapping[Predictor, Bool[np.ndarray, "split image"]],
    names: Sequence[Predictor],
    other: Predictor,
) -> Float[np.ndarray, "predictor split image"]:
    """Give for each image 1 where a predictor errs and the other does not, and -1 the other way round."""
    return np.stack([errors[name].astype(np.float32) - errors[other] for name in names])


def _spread(value: MeanSd, factor: float, digits: int) -> str:
    text = f"{factor * value.mean:.{digits}f}"
    return text if value.sd is None else f"{text} ± {factor * value.sd:.{digits}f}"


def _points(interval: Interval) -> str:
    low, high = (100 * end for end in (interval.low, interval.high))
    return f"{100 * interval.mean:+.2f} [{low:.2f}, {high:.2f}]"
