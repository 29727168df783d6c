"""Forward selection: at each step every remaining member is tried, and the one that helps most is taken.

Weights are multiples of 0.00001 up to 1.00. It ends when no member helps: lowers the errors, or the
NLL at as many errors. Ties between members: the lower NLL, then the cheaper one, then pool order.
"""

from ensemble.outranking.boxed import box_table
from ensemble.outranking.table import OutrankingTable
from ensemble.search.limits import Limits
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig
from ensemble.search.weights import (
    Choice,
    WeightState,
    anchor_step,
    anchor_units,
    best_first,
    finish,
    late_note,
    step,
)


def fit(table: OutrankingTable, config: SearchConfig) -> Ensemble:
    """Search by forward selection from the best member."""
    limits = Limits.of(table, config)
    anchor = limits.affordable(best_first(table, config))[0]
    state = WeightState(
        box_table(table, anchor, config.error_k), config, anchor_units(table, anchor)
    )
    steps = [anchor_step(table, anchor, config.error_k)]
    before = state.loss
    while True:
        choices = _choices(state, limits)
        if limits.is_late:
            note = late_note(config, f"after {len(steps)} members")
            return finish(state.table, config, "forward", state.units, tuple(steps), (note,))
        if not choices:
            break
        after, _, member = min(
            (choice.loss(config), limits.costs[member], member)
            for member, choice in choices.items()
        )
        if not choices[member].weight or after >= before:
            break
        state.set(member, choices[member].weight)
        steps.append(step(state.table, member, choices[member]))
        before = after
    return finish(state.table, config, "forward", state.units, tuple(steps))


def _choices(state: WeightState, limits: Limits) -> dict[int, Choice]:
    """Try every member that has no weight and may get one; give those that may be the best."""
    curves = {}
    for member in range(len(state.units)):
        if limits.is_late:
            break
        if state.units[member] == 0 and limits.allow_more(state.units > 0, member):
            curves[member] = state.curve(member)
    least = {member: curve.min() for member, curve in curves.items()}
    if state.config.objective != "nll":  # what has more errors than another is not the best
        fewest = min(least.values(), default=0)
        curves = {member: curve for member, curve in curves.items() if least[member] == fewest}
    return {member: state.choose(member, curve) for member, curve in curves.items()}
