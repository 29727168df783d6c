"""Weights for the day when a member cannot be reached: one ensemble for the loss of each."""

from collections.abc import Collection
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
    """

    member: str
    weights: dict[str, float]
    errors: int
    errors_unchanged: int


def find_fallbacks(
    table: OutrankingTable, ensemble: Ensemble, config: SearchConfig
) -> tuple[Fallback, ...]:
    """Search again without each member with weight > 0, in pool order, among all other members.

    The search of `config` is used (the one that `auto` took). Where the others' weights as they are
    have fewer errors, they stay. A pool of one member has nothing to fall back on.
    """
    if table.num_members == 1:
        return ()
    selected = np.flatnonzero(ensemble.units).tolist()
    return tuple(_without(table, ensemble, config, member) for member in selected)


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
    fitted = fit(rest, config.model_copy(update={"kind": ensemble.search}))
    unchanged = np.delete(ensemble.units, member)
    errors = rest.errors(unchanged, ensemble.k) if unchanged.any() else rest.num_counted
    if errors < fitted.errors:
        fitted = replace(fitted, weights=unchanged / WEIGHT_UNITS, errors=errors)
    weights = {
        other: float(weight)
        for other, weight in zip(fitted.members, fitted.weights, strict=True)
        if weight > 0
    }
    return Fallback(name, weights, fitted.errors, errors)


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
