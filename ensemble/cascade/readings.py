"""What a cascade is fitted on: after each step of an order, how sure the answer is and whether it is wrong."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.cascade.steps import SIGNALS, Order, Signal, answer_after, contribution
from ensemble.errors import EmptySplitError, ShapeError
from ensemble.evaluation import metrics
from ensemble.outranking.weighting import Weighting

# Rows of every member and the labels, of as many images as there happen to be.
Window = tuple[Sequence[Float[np.ndarray, "_ _"]], Int[np.ndarray, " _"]]


@dataclass(frozen=True, eq=False)
class Readings:
    """The answers of all images after each step of an order; the last step has the whole ensemble.

    Attributes:
        order: Index of the member that each step adds.
        costs: Cost of the steps up to each one, for one image.
        full_cost: Cost of the whole ensemble for one image, without a member that only leads.
        is_error: Whether the answer after a step is wrong.
        signals: How sure the answer after a step is; higher is surer.
    """

    order: Order
    costs: Float[np.ndarray, " step"]
    full_cost: float
    is_error: Bool[np.ndarray, "step image"]
    signals: Mapping[Signal, Float[np.ndarray, "step image"]]

    @property
    def num_images(self) -> int:
        """Number of images."""
        return self.is_error.shape[1]

    def take(self, rows: Int[np.ndarray, " row"]) -> "Readings":
        """Give the readings of some images."""
        signals = {name: values[:, rows] for name, values in self.signals.items()}
        return replace(self, is_error=self.is_error[:, rows], signals=signals)


def read(
    windows: Iterable[Window],
    weighting: Weighting,
    costs: Sequence[float],
    orders: Sequence[Order],
    k: int = 1,
) -> tuple[Readings, ...]:
    """Read the answers after each step of several orders, in one pass over the members' predictions.

    The answer after a step is that of the members so far, with the weights that they have in the ensemble; a
    first member without a weight answers alone, and its answer is not counted later.

    Args:
        windows: Log-probabilities of every member of the pool and the labels, some images at a time, as
            `ensemble.evaluation.reading.read_windows` gives them.
        weighting: Weights of the ensemble over the pool.
        costs: Cost of each member for one image, above 0.
        orders: Members in the order of the steps: all that have a weight, and at most one more, the first.
        k: An answer is wrong if the label is not among the k classes with the highest score.

    Raises:
        ShapeError: An order leaves out a member of the ensemble, or there is not one cost for each member.
        EmptySplitError: There is no image.
    """
    _check(weighting, costs, orders)
    steps = {tuple(sorted(part)) for order in orders for part in _prefixes(order)}
    parts: dict[Order, list[tuple[np.ndarray, Mapping[Signal, np.ndarray]]]] = {
        s: [] for s in steps
    }
    for rows, labels in windows:
        added = {
            member: contribution(rows[member], member, weighting)
            for member in {member for step in steps for member in step}
        }
        for step in steps:
            answer = answer_after(added, step, weighting)
            is_error = metrics.is_top_k_error(answer.scores, labels, k)
            parts[step].append((is_error, answer.signals))
    if not any(parts.values()):
        raise EmptySplitError("there is no image to fit a cascade on.")
    whole = float(sum(cost for cost, unit in zip(costs, weighting.units, strict=True) if unit))
    readings = []
    for order in orders:
        read_steps = [parts[tuple(sorted(part))] for part in _prefixes(order)]
        readings.append(
            Readings(
                order=order,
                costs=np.cumsum([costs[member] for member in order]),
                full_cost=whole,
                is_error=np.stack([np.concatenate([e for e, _ in step]) for step in read_steps]),
                signals={
                    name: np.stack(
                        [np.concatenate([s[name] for _, s in step]) for step in read_steps]
                    )
                    for name in SIGNALS
                },
            )
        )
    return tuple(readings)


def _prefixes(order: Order) -> list[Order]:
    return [order[: step + 1] for step in range(len(order))]


def _check(weighting: Weighting, costs: Sequence[float], orders: Sequence[Order]) -> None:
    if len(costs) != len(weighting.units) or not all(cost > 0 for cost in costs):
        raise ShapeError(
            f"{len(costs)} costs for {len(weighting.units)} members; pass one above 0 for each."
        )
    voters = set(np.flatnonzero(weighting.units).tolist())
    for order in orders:
        if len(set(order)) < len(order) or not voters <= set(order) or set(order[1:]) - voters:
            raise ShapeError(
                f"the order {order} does not have each of the members {sorted(voters)} once. Only the first step "
                "may have another member."
            )
