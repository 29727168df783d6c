"""Coordinate descent: one weight after the other is set to its best value, until none changes.

It starts from the weights of `start`, or from the paper's. The heaviest member keeps 1.00, as only
ratios matter; when nothing changes any more and another member has come to 1.00 too, that one
becomes the fixed one, so that the first may fall below it. No step raises the loss. Ties as in
`weights`.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from ensemble.errors import ConfigError
from ensemble.outranking.boxed import box_table
from ensemble.outranking.fixed_point import WEIGHT_UNITS
from ensemble.outranking.table import OutrankingTable
from ensemble.search import paper
from ensemble.search.limits import Limits, check_names
from ensemble.search.result import Ensemble, SearchStep
from ensemble.search.settings import SearchConfig
from ensemble.search.weights import Loss, WeightState, best_first, finish, late_note, step, to_scale

_MAX_PASSES = 20


def fit(table: OutrankingTable, config: SearchConfig) -> Ensemble:
    """Descend from `config.start`, or from the paper's weights."""
    units = start_units(table, config) if config.start else paper.fit(table, config).units
    return descend(table, config, units)


Accept = Callable[[Loss, Loss], bool]
"""Tells of the loss after a change and of that before whether the change is made."""


def lower_loss(after: Loss, before: Loss) -> bool:
    """Accept fewer errors, or a lower NLL at as many."""
    return after < before


def fewer_errors(after: Loss, before: Loss) -> bool:
    """Accept fewer errors only."""
    return after[0] < before[0]


def descend(
    table: OutrankingTable,
    config: SearchConfig,
    units: Int[np.ndarray, " member"],
    accept: Accept = lower_loss,
) -> Ensemble:
    """Descend from any weights whose largest is 1.00."""
    limits, steps = Limits.of(table, config), list[SearchStep]()
    anchors: set[int] = set()
    while candidates := set(np.flatnonzero(units == WEIGHT_UNITS).tolist()) - anchors:
        anchor = min(candidates)
        anchors.add(anchor)
        units, changes = _descend_beside(table, config, limits, anchor, units, accept)
        steps += changes
    notes = (late_note(config, f"after {len(steps)} changes"),) if limits.is_late else ()
    return finish(table, config, "refine", units, tuple(steps), notes)


def start_units(table: OutrankingTable, config: SearchConfig) -> Int[np.ndarray, " member"]:
    """Read the weights of `start`, and drop the lightest members that the caps forbid.

    Raises:
        UnknownNameError: `start` names no member of the table.
        ConfigError: No weight of `start` is above 0, or the caps allow none of its members.
    """
    check_names("search.start", config.start, table.member_names)
    weights = np.array([float(config.start.get(name, 0.0)) for name in table.member_names])
    if not weights.any():
        raise ConfigError(f"search.start is {config.start}; one weight must be above 0.")
    order = [m for m in np.argsort(-weights, kind="stable").tolist() if weights[m] > 0]
    taken = Limits.of(table, config).take(order)
    if not taken.any():
        raise ConfigError(
            f"search.start is {config.start}, and the caps allow none of these members alone."
        )
    return to_scale(np.where(taken, weights, 0.0))


def _descend_beside(
    table: OutrankingTable,
    config: SearchConfig,
    limits: Limits,
    anchor: int,
    units: Int[np.ndarray, " member"],
    accept: Accept,
) -> tuple[Int[np.ndarray, " member"], list[SearchStep]]:
    """Descend with one member fixed at 1.00."""
    state = WeightState(box_table(table, anchor, config.error_k), config, units)
    others = [int(member) for member in best_first(table, config) if member != anchor]
    steps, current = [], state.loss
    for _ in range(_MAX_PASSES):
        before = current
        for member in others:
            weight = int(state.units[member])
            if limits.is_late or not (weight or limits.allow_more(state.units > 0, member)):
                continue
            state.set(member, 0)
            choice = state.best_weight(member)
            if accept(choice.loss(config), current):
                state.set(member, choice.weight)
                steps.append(step(state.table, member, choice))
                current = choice.loss(config)
            else:
                state.set(member, weight)
        if current == before:
            break
    return state.units, steps
