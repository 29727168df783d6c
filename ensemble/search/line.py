"""The paper's greedy search with the exact optimum over all real weights from 0 on.

As in `paper`, but each member's weight is sought on the plateaus between all crossing points
(`plateaus`). A weight is then the middle of its plateau, a multiple of 0.00001 with the same errors:
from the same weights so far, no step ends with more errors than the grid's. Where the fewest errors
lie only between two such multiples, or beyond the largest sum of weights whose scores are exact, no
weight can be set to them: the best that can be is taken, and a note says so. Ties as in `weights`.

Up to 1.00 the table boxed for the best member is enough, a tenth of the whole; beyond, the whole one
is read, unless a bound on the errors says that no better weight lies there.

Source: Och 2003 for the line search.
"""

import numpy as np

from ensemble.outranking.boxed import box_table
from ensemble.outranking.fixed_point import GRID_STEPS, WEIGHT_UNITS, largest_total
from ensemble.outranking.one_weight import nlls, plateaus
from ensemble.outranking.plateaus import Plateaus
from ensemble.outranking.table import OutrankingTable
from ensemble.search.limits import Limits
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig
from ensemble.search.weights import (
    Choice,
    anchor_step,
    anchor_units,
    best_first,
    finish,
    late_note,
    loss,
    lowest_nll,
    step,
)

_MAX_PLATEAUS = 8
_GRID = np.arange(GRID_STEPS + 1) * (WEIGHT_UNITS // GRID_STEPS)


def fit(table: OutrankingTable, config: SearchConfig) -> Ensemble:
    """Search in the order of the paper, over all weights."""
    limits, k = Limits.of(table, config), config.error_k
    anchor, *others = limits.affordable(best_first(table, config))
    search = _LineSearch(table, config, anchor)
    steps, notes = [anchor_step(table, anchor, k)], list[str]()
    for number, member in enumerate(others):
        if limits.is_late:
            notes.append(late_note(config, f"after {len(steps)} members"))
            break
        if limits.allow_more(search.units > 0, member):
            choice, note = search.best_weight(member, len(others) - number - 1)
            search.set(member, choice.weight)
            steps.append(step(table, member, choice))
            notes += note
    return finish(table, config, "line", search.units, tuple(steps), tuple(notes))


class _LineSearch:
    """Weights under way, with their scores on the boxed table and on the whole one."""

    def __init__(self, table: OutrankingTable, config: SearchConfig, anchor: int) -> None:
        self.table, self.config = table, config
        self.units = anchor_units(table, anchor)
        self._scores = table.scores(self.units)
        self._boxed = box_table(table, anchor, config.error_k)
        self._boxed_scores = self._boxed.scores(self.units)

    def set(self, member: int, weight: int) -> None:
        """Give a weight to a member that has none."""
        if weight:
            self.units[member] = weight
            self._scores += self.table.differences[member] * float(weight)
            self._boxed_scores += self._boxed.differences[member] * float(weight)

    def best_weight(self, member: int, others_left: int) -> tuple[Choice, tuple[str, ...]]:
        """Find the best weight; leave room for 1.00 of each member that is yet to come."""
        room = largest_total(1) - int(self.units.sum()) - WEIGHT_UNITS * others_left
        most = max(room, WEIGHT_UNITS)
        near = self._near(member)
        if self.config.objective == "nll":
            weight = lowest_nll(self.table, self.units, member, most)
            return self._choice(member, [0, weight], near), ()
        curve = near
        at_most = float(near.errors[near.can_be_set].min())
        far = self._plateaus(member, WEIGHT_UNITS, None, most, at_most)
        if far is not None:
            curve = near.then(far)
        weights, least = _middles(curve)
        return self._choice(member, weights, curve), self._note(member, curve, least)

    def _near(self, member: int) -> Plateaus:
        """Find all plateaus up to 1.00."""
        near = self._plateaus(member, 0, WEIGHT_UNITS, WEIGHT_UNITS, np.inf)
        assert near is not None
        return near

    def _plateaus(
        self, member: int, low: int, high: int | None, last: int, at_most: float
    ) -> Plateaus | None:
        table, scores = self.table, self._scores
        if high == WEIGHT_UNITS == self.units.max():
            table, scores = self._boxed, self._boxed_scores
        k = self.config.error_k
        return plateaus(table, self.units, member, k, scores, low, high, last, at_most)

    def _choice(self, member: int, weights: list[int], curve: Plateaus) -> Choice:
        """Take the best of some weights, the first of equals."""
        each_nll = nlls(self.table, self.units, member, weights)
        errors = [self._errors(member, weight, curve) for weight in weights]
        losses = [loss(e, nll, self.config) for e, nll in zip(errors, each_nll, strict=True)]
        best = min(range(len(weights)), key=lambda i: losses[i])
        return Choice(weights[best], errors[best], each_nll[best], curve.at(_GRID))

    def _errors(self, member: int, weight: int, curve: Plateaus) -> int:
        if weight <= curve.last[-1]:
            return int(curve.at(np.array([weight]))[0])
        tried = np.array(self.units)
        tried[member] = weight
        return self.table.errors(tried, self.config.error_k)

    def _note(self, member: int, curve: Plateaus, least: int) -> tuple[str, ...]:
        if curve.errors.min() == least:
            return ()
        where = int(curve.errors.argmin())
        name, fewer = self.table.member_names[member], least - int(curve.errors[where])
        first = int(curve.first[where])
        if first > curve.last[-1]:
            place, why = f"above {first / WEIGHT_UNITS:.5f}", "scores are not exact so far out"
        else:
            place = f"between {(first - 1) / WEIGHT_UNITS:.5f} and {first / WEIGHT_UNITS:.5f}"
            why = "weights are multiples of 0.00001"
        return (f"With a weight of {name} {place}, errors would be fewer by {fewer}; {why}.",)


def _middles(curve: Plateaus) -> tuple[list[int], int]:
    """Give the middle of each plateau of least errors that a weight can be set to, widest first.

    On the plateau that begins at 0 the member is not needed, and the weight is 0. One without end
    counts as if it ended at twice its first weight.
    """
    least = int(curve.errors[curve.can_be_set].min())
    index = np.flatnonzero(curve.can_be_set & (curve.errors == least))
    first, last = curve.first[index], curve.last[index]
    if first[-1] and index[-1] == len(curve.first) - 1:
        last[-1] = min(last[-1], 2 * first[-1])
    order = np.argsort(first - last, kind="stable")[:_MAX_PLATEAUS]
    middles: list[int] = np.where(first == 0, 0, (first + last) // 2)[order].tolist()
    return (middles if first[0] or 0 in middles else [*middles, 0]), least
