"""Why each member has its weight: what it adds, what its loss would cost, which member errs like it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.outranking import measures
from ensemble.outranking.fixed_point import WEIGHT_UNITS
from ensemble.outranking.one_weight import sweep
from ensemble.outranking.table import OutrankingTable
from ensemble.search.limits import Limits
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig
from ensemble.statistics import error_correlations


@dataclass(frozen=True)
class MemberReason:
    """What one member does for the ensemble, counted on the images that weights were fitted on.

    Attributes:
        member: Its name.
        weight: Its weight.
        errors: Its own errors.
        gain: Errors that go away when it joins the heavier members; None at weight 0.
        loss: Errors that come when it is taken away, the others' weights as they are; None at
            weight 0.
        nearest: The member with weight > 0 whose errors are most like its own; None if there is no
            other.
        correlation: Correlation of its errors with those of `nearest`; None if there is no other.
        reason: The figures above in a sentence.
    """

    member: str
    weight: float
    errors: int
    gain: int | None
    loss: int | None
    nearest: str | None
    correlation: float | None
    reason: str


def explain(
    table: OutrankingTable, ensemble: Ensemble, config: SearchConfig
) -> tuple[MemberReason, ...]:
    """Explain the weight of every member, in pool order."""
    table = table.of(ensemble.combine)
    gains = _gains(table, ensemble)
    correlations = _correlations(table, ensemble.k)
    return tuple(
        _line(table, ensemble, config, member, gains, correlations[member])
        for member in range(table.num_members)
    )


def _line(
    table: OutrankingTable,
    ensemble: Ensemble,
    config: SearchConfig,
    member: int,
    gains: dict[int, int],
    correlations: Float[np.ndarray, " member"],
) -> MemberReason:
    names = table.member_names
    peers = [int(m) for m in np.flatnonzero(ensemble.units) if m != member]
    nearest = max(peers, key=lambda m: (correlations[m], -m)) if peers else None
    weight = float(ensemble.weights[member])
    if weight:
        loss = _loss_without(table, ensemble, member)
        reason = _why_in(gains[member], loss, is_first=member == next(iter(gains)))
    else:
        loss, reason = None, _why_out(table, ensemble, config, member, nearest)
    return MemberReason(
        member=names[member],
        weight=weight,
        errors=int(measures.member_errors(table, ensemble.k)[member]),
        gain=gains.get(member),
        loss=loss,
        nearest=None if nearest is None else names[nearest],
        correlation=None if nearest is None else float(correlations[nearest]),
        reason=reason,
    )


def _gains(table: OutrankingTable, ensemble: Ensemble) -> dict[int, int]:
    """Count what each member takes away when members join from the heaviest to the lightest.

    The first brings what it is better by than an answer that is always wrong.
    """
    gains, before = {}, table.num_counted
    units = np.zeros(table.num_members, dtype=np.int64)
    for member in np.argsort(-ensemble.units, kind="stable").tolist():
        if ensemble.units[member]:
            units[member] = ensemble.units[member]
            errors = table.errors(units, ensemble.k)
            gains[member], before = before - errors, errors
    return gains


def _loss_without(table: OutrankingTable, ensemble: Ensemble, member: int) -> int:
    units = np.array(ensemble.units)
    units[member] = 0
    if not units.any():
        return table.num_counted - ensemble.errors
    return table.errors(units, ensemble.k) - ensemble.errors


def _correlations(table: OutrankingTable, k: int) -> Float[np.ndarray, "member other"]:
    """Correlate the members' errors; 0 where one has none, or only errors."""
    wrong: Bool[np.ndarray, "image member"] = table.ranks >= k
    if table.image_counts is not None:
        wrong = np.repeat(wrong, table.image_counts, axis=0)
    return error_correlations(wrong)


def _why_in(gain: int, loss: int, is_first: bool) -> str:
    change = f"took {_errors(gain)} away" if gain >= 0 else f"brought {_errors(-gain)} more"
    joined = "It is the heaviest" if is_first else f"It {change} when it joined"
    if loss > 0:
        return f"{joined}; without it {_errors(loss)} more."
    if loss == 0:
        return f"{joined}, but is not missed now: the others make up for it."
    return f"{joined}, but without it there would be {_errors(-loss)} less now."


def _errors(count: int) -> str:
    return f"{count} error" if count == 1 else f"{count} errors"


def _why_out(
    table: OutrankingTable,
    ensemble: Ensemble,
    config: SearchConfig,
    member: int,
    nearest: int | None,
) -> str:
    if not Limits.of(table, config).allow_more(ensemble.units > 0, member):
        return "The caps leave no room for it."
    like = "" if nearest is None else _shared(table, member, nearest, ensemble.k)
    curve = sweep(table, _scaled(ensemble.units), member, ensemble.k)
    gain = int(curve[0] - curve.min())
    if gain > 0:
        weight = int(curve.argmin()) / (len(curve) - 1)
        return (
            f"Beside the final weights {weight:.2f} would take {_errors(gain)} away; the search "
            f"{ensemble.search} did not come to that.{like}"
        )
    return f"No weight of it lowers the errors.{like}"


def _shared(table: OutrankingTable, member: int, nearest: int, k: int) -> str:
    own, other = table.ranks[:, member] >= k, table.ranks[:, nearest] >= k
    return (
        f" {table.count(own & other)} of its {table.count(own)} errors are also errors of "
        f"{table.member_names[nearest]}."
    )


def _scaled(units: Int[np.ndarray, " member"]) -> Int[np.ndarray, " member"]:
    """Bring the largest weight to 1.00, so that the weights tried are beside that."""
    return np.asarray(np.rint(units * (WEIGHT_UNITS / units.max())), dtype=np.int64)
