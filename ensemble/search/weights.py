"""Which member is better, which weight of a member is best, and the scores while a search goes on.

Of weights with the same errors the one with the lower NLL is taken, then the middle of the widest
plateau. Every plateau of least errors stands for itself by its middle, but the one that begins at 0:
there the member is not needed, and the weight is 0.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ensemble.outranking import measures
from ensemble.outranking.fixed_point import GRID_STEPS, PROBABILITY_FLOOR, WEIGHT_UNITS
from ensemble.outranking.log_pool import fit_scale, pool_scores
from ensemble.outranking.one_weight import nlls, sweep
from ensemble.outranking.table import OutrankingTable
from ensemble.search.result import Ensemble, SearchStep
from ensemble.search.settings import SearchConfig

_MAX_PLATEAUS = 8
_NLL_DIGITS = 9  # nats; what differs by less is rounding
_HALVINGS = 40

Loss = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Choice:
    """The best weight of one member, all others as they are.

    Attributes:
        weight: Units of 0.00001.
        errors: Errors with this weight.
        nll: NLL with this weight, nats.
        errors_by_weight: Errors at 0.00, 0.01, …, 1.00.
    """

    weight: int
    errors: int
    nll: float
    errors_by_weight: Int[np.ndarray, " weight"]

    def loss(self, config: SearchConfig) -> Loss:
        """Give errors then NLL, or the reverse: what the objective compares."""
        return loss(self.errors, self.nll, config)


def loss(errors: int, nll: float, config: SearchConfig) -> Loss:
    """Put errors and NLL in the order in which they are compared."""
    nll = round(nll, _NLL_DIGITS)
    return (nll, float(errors)) if config.objective == "nll" else (float(errors), nll)


class WeightState:
    """Weights over the members of a table, boxed or not, that a search changes one at a time."""

    def __init__(
        self, table: OutrankingTable, config: SearchConfig, units: Int[np.ndarray, " member"]
    ) -> None:
        self.table = table
        self.config = config
        self.units = np.array(units)
        self._scores = table.scores(self.units)

    @property
    def loss(self) -> Loss:
        """The loss of the weights as they are."""
        errors = self.table.errors(self.units, self.config.error_k)
        return loss(errors, measures.search_nll(self.table, self.units), self.config)

    def set(self, member: int, weight: int) -> None:
        """Give a member another weight, units."""
        if weight != self.units[member]:
            self._scores += self.table.differences[member] * float(weight - self.units[member])
            self.units[member] = weight

    def best_weight(self, member: int) -> Choice:
        """Find the best weight of a member that has none, in [0, 1.00]."""
        return self.choose(member, self.curve(member))

    def curve(self, member: int) -> Int[np.ndarray, " weight"]:
        """Count the errors at every weight from 0 to 1.00 of a member that has none."""
        return sweep(
            self.table, self.units, member, self.config.error_k, self._scores, WEIGHT_UNITS
        )

    def choose(self, member: int, curve: Int[np.ndarray, " weight"]) -> Choice:
        """Find the best weight on a curve of errors."""
        if self.config.objective == "nll":
            candidates = [0, lowest_nll(self.table, self.units, member, WEIGHT_UNITS)]
        else:
            candidates = _plateau_weights(curve)
        each_nll = nlls(self.table, self.units, member, candidates)
        losses = [
            loss(int(curve[weight]), nll, self.config)
            for weight, nll in zip(candidates, each_nll, strict=True)
        ]
        best = min(range(len(candidates)), key=lambda i: losses[i])  # the widest of equals
        weight = candidates[best]
        grid = curve[:: WEIGHT_UNITS // GRID_STEPS]
        return Choice(weight, int(curve[weight]), each_nll[best], grid)


def anchor_units(table: OutrankingTable, anchor: int) -> Int[np.ndarray, " member"]:
    """Give weight 1.00 to one member and none to the others."""
    units = np.zeros(table.num_members, dtype=np.int64)
    units[anchor] = WEIGHT_UNITS
    return units


def anchor_step(table: OutrankingTable, anchor: int, k: int) -> SearchStep:
    """Record that a member was taken with weight 1.00."""
    errors = int(measures.member_errors(table, k)[anchor])
    return SearchStep(table.member_names[anchor], 1.0, errors, True, np.zeros(0, np.int64))


def step(table: OutrankingTable, member: int, choice: Choice) -> SearchStep:
    """Record a choice."""
    return SearchStep(
        member=table.member_names[member],
        weight=choice.weight / WEIGHT_UNITS,
        errors=choice.errors,
        selected=choice.weight > 0,
        errors_by_weight=choice.errors_by_weight,
    )


def finish(
    table: OutrankingTable,
    config: SearchConfig,
    kind: str,
    units: Int[np.ndarray, " member"],
    steps: tuple[SearchStep, ...] = (),
    notes: tuple[str, ...] = (),
    errors: int | None = None,
) -> Ensemble:
    """Make the ensemble of the weights that a search came to, and count its errors.

    A boxed table does it in a tenth of the time where its anchor has 1.00; a search that has
    counted them passes them on.
    """
    return Ensemble(
        members=table.member_names,
        weights=units / WEIGHT_UNITS,
        kind=kind,
        k=config.error_k,
        errors=table.errors(units, config.error_k) if errors is None else errors,
        num_images=table.num_counted,
        steps=steps,
        notes=notes,
        combine=table.combine,
        scale=fit_scale(table.log_sample, units) if table.combine == "logs" else 1.0,
    )


def late_note(config: SearchConfig, done: str) -> str:
    """Say that the time limit ended a search."""
    return f"The time limit of {config.time_limit_s:g} s ended the search {done}."


def to_scale(weights: Float[np.ndarray, " member"]) -> Int[np.ndarray, " member"]:
    """Round weights of any scale to units, the largest being 1.00."""
    return np.rint(weights / weights.max() * WEIGHT_UNITS).astype(np.int64)


def _plateau_weights(curve: Int[np.ndarray, " weight"]) -> list[int]:
    """List one weight for each plateau of least errors, the widest plateau first."""
    is_least = np.concatenate([[False], curve == curve.min(), [False]])
    first, last = np.flatnonzero(np.diff(is_least)).reshape(-1, 2).T
    order = np.argsort(-(last - first), kind="stable")[:_MAX_PLATEAUS]
    middle = np.where(first == 0, 0, (first + last - 1) // 2)
    weights: list[int] = middle[order].tolist()
    return weights if first[0] or 0 in weights else [*weights, 0]


def lowest_nll(
    table: OutrankingTable, units: Int[np.ndarray, " member"], member: int, most: int
) -> int:
    """Find the weight, units up to `most`, at which the NLL is lowest, by halving on its derivative.

    The average is (1 - t) others + t member, of probabilities or of logarithms. In t the NLL is convex.
    """
    total = float(units.sum())
    falls = _falls_with_logs if table.combine == "logs" else _falls_with_probabilities
    is_falling = falls(table, units, member)
    low, high = 0.0, most / (total + most)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if is_falling(middle):
            low = middle
        else:
            high = middle
    return int(np.clip(np.rint(low / (1 - low) * total), 0, most))


def _falls_with_probabilities(
    table: OutrankingTable, units: Int[np.ndarray, " member"], member: int
) -> Callable[[float], bool]:
    """Tell whether the NLL still falls at a share t of the member."""
    others, own = measures.label_average(table, units), table.true_probabilities[:, member]

    def falls(share: float) -> bool:
        average = np.maximum((1 - share) * others + share * own, PROBABILITY_FLOOR)
        return bool(np.average((own - others) / average, weights=table.image_counts) > 0)

    return falls


def _falls_with_logs(
    table: OutrankingTable, units: Int[np.ndarray, " member"], member: int
) -> Callable[[float], bool]:
    """Tell whether the NLL still falls at a share t of the member."""
    sample = table.log_sample
    others, own = pool_scores(sample.logs, units / units.sum()), sample.logs[member]
    change = (own - others) - (own - others)[:, :1]

    def falls(share: float) -> bool:
        scores = ((1 - share) * others + share * own) * sample.common_scale + sample.offsets
        probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        return bool((probabilities * change).sum(axis=1) @ sample.counts < 0)

    return falls


def best_first(table: OutrankingTable, config: SearchConfig) -> Int[np.ndarray, " member"]:
    """Order members from best to worst, each alone: the one rule for which member is better.

    First by what the objective lowers, errors or NLL; ties by the other of the two, then the cheaper
    member, then pool order. Caps are not looked at.
    """
    costs = np.array([float(config.costs.get(name, 0.0)) for name in table.member_names])
    errors, nll = measures.member_errors(table, config.error_k), measures.member_nll(table)
    if config.objective == "nll":
        return np.lexsort((costs, errors, nll))
    return np.lexsort((costs, nll, errors))


def best_member(table: OutrankingTable, config: SearchConfig) -> int:
    """Give the index of the best single member, the first of `best_first`."""
    return int(best_first(table, config)[0])
