"""Weights for the day when a member cannot be reached: one ensemble for the loss of each."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from ensemble.outranking.fixed_point import WEIGHT_UNITS
from ensemble.outranking.table import OutrankingTable
from ensemble.search.fit import fit
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig

Value = TypeVar("Value")


@dataclass(frozen=True)
class Fallback:
    """The weights to use while one member is missing.

    Attributes:
        member: Name of the missing member.
        weights: Weights of the other members by name, where they are above 0.
        errors: Errors on the images that the weights were fitted on.
        errors_unchanged: Errors on the same images if the other weights stayed as they are.
        scale: That of the weights, as in `Ensemble`.
    """

    member: str
    weights: dict[str, float]
    errors: int
    errors_unchanged: int
    scale: float = 1.0


def find_fallbacks(
    table: OutrankingTable, ensemble: Ensemble, config: SearchConfig
) -> tuple[Fallback, ...]:
    """Search again without each member with weight > 0, in pool order, among all other members.

    The search of `config` is used (the one that `auto` took). Where the others' weights as they are
    have fewer errors, they stay. Where no other member is cheap enough for `max_cost`, there is
    nothing to fall back on: such a member is left out here, and `missing_fallbacks` says so.
    """
    selected = np.flatnonzero(ensemble.units).tolist()
    return tuple(
        _without(table, ensemble, config, member)
        for member in selected
        if _has_affordable_others(table.member_names, config, member)
    )


def missing_fallbacks(
    ensemble: Ensemble, fallbacks: Sequence[Fallback], config: SearchConfig
) -> tuple[str, ...]:
    """Say in sentences which members with weight > 0 have no fallback, and why."""
    covered = {fallback.member for fallback in fallbacks}
    return tuple(
        _why_missing(ensemble.members, config, name)
        for name in ensemble.selected
        if name not in covered and len(ensemble.members) > 1
    )


def _has_affordable_others(names: Sequence[str], config: SearchConfig, member: int) -> bool:
    others = [name for other, name in enumerate(names) if other != member]
    if config.max_cost is None:
        return bool(others)
    return any(config.costs[name] <= config.max_cost for name in others)


def _why_missing(names: Sequence[str], config: SearchConfig, member: str) -> str:
    others = [name for name in names if name != member]
    cheapest = min(others, key=lambda name: config.costs.get(name, 0.0))
    return (
        f"There is no fallback for the loss of {member}: the cheapest other member, {cheapest}, costs "
        f"{config.costs.get(cheapest, 0.0):,.6g}, and max_cost is {config.max_cost or 0:,.6g}. Raise "
        "max_cost to have one."
    )


def find_fallbacks_among_selected(
    table: OutrankingTable, ensemble: Ensemble, config: SearchConfig
) -> tuple[Fallback, ...]:
    """Search again without each member with weight > 0, among the others with weight > 0.

    An artifact holds these members and no others.
    """
    kept = np.flatnonzero(ensemble.units).tolist()
    names = ensemble.selected
    return find_fallbacks(
        table.select(kept),
        replace(ensemble, members=names, weights=ensemble.weights[kept]),
        _settings_of(config, names),
    )


def _without(
    table: OutrankingTable, ensemble: Ensemble, config: SearchConfig, member: int
) -> Fallback:
    name = table.member_names[member]
    rest = table.select([m for m in range(table.num_members) if m != member])
    config = _settings_of(config, rest.member_names)
    update = {"kind": ensemble.search, "combine": ensemble.combine}
    fitted = fit(rest, config.model_copy(update=update))
    unchanged = np.delete(ensemble.units, member)
    errors = rest.num_counted
    if unchanged.any():
        errors = rest.of(ensemble.combine).errors(unchanged, ensemble.k)
    if errors < fitted.errors:
        fitted = replace(
            fitted, weights=unchanged / WEIGHT_UNITS, errors=errors, scale=ensemble.scale
        )
    weights = {
        other: float(weight)
        for other, weight in zip(fitted.members, fitted.weights, strict=True)
        if weight > 0
    }
    return Fallback(name, weights, fitted.errors, errors, fitted.scale)


def settings_without(config: SearchConfig, names: Collection[str]) -> SearchConfig:
    """Drop what the settings say of these members, which are left out of a search."""
    said_of = {*config.start, *config.costs, *config.families}
    return _settings_of(config, said_of.difference(names))


def _settings_of(config: SearchConfig, names: Collection[str]) -> SearchConfig:
    """Keep what the settings say of these members only."""

    def of_these(values: dict[str, Value]) -> dict[str, Value]:
        return {name: value for name, value in values.items() if name in names}

    return config.model_copy(
        update={
            "start": of_these(config.start),
            "costs": of_these(config.costs),
            "families": of_these(config.families),
        }
    )
