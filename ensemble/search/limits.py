"""Which members a search may give a weight: caps on members, families and costs, and the time limit."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.errors import ConfigError, UnknownNameError
from ensemble.outranking.table import OutrankingTable
from ensemble.search.settings import SearchConfig


@dataclass(frozen=True, eq=False)
class Limits:
    """The caps of one search over the members of one table.

    Attributes:
        families: Number of each member's family.
        costs: Cost of each member, in one unit; 0 where costs are not known.
        max_members: Most members with weight > 0.
        max_per_family: Most members of one family with weight > 0.
        max_cost: Largest sum of the costs of members with weight > 0.
        deadline: Time of `time.monotonic` at which the search ends; infinity without a limit.
    """

    families: Int[np.ndarray, " member"]
    costs: Float[np.ndarray, " member"]
    max_members: float
    max_per_family: float
    max_cost: float
    deadline: float

    @classmethod
    def of(cls, table: OutrankingTable, config: SearchConfig) -> "Limits":
        """Read the limits of the settings, and start the clock.

        Raises:
            UnknownNameError: A setting names a member that the table does not have.
            ConfigError: A cap lacks what it counts, a member has no cost while others have, or no
                member is cheap enough.
        """
        if config.max_cost is not None and not config.costs:
            raise ConfigError(
                "search.max_cost needs search.costs: give the cost of each member, or drop max_cost."
            )
        if config.max_per_family is not None and not config.families:
            raise ConfigError(
                "search.max_per_family needs search.families: give the family of each member, or "
                "drop it."
            )
        names = table.member_names
        limits = cls(
            families=_families(names, config.families),
            costs=member_costs(names, config.costs),
            max_members=float(config.max_members or np.inf),
            max_per_family=float(config.max_per_family or np.inf),
            max_cost=np.inf if config.max_cost is None else config.max_cost,
            deadline=time.monotonic() + (config.time_limit_s or np.inf),
        )
        if limits.costs.min() > limits.max_cost:
            cheapest = int(limits.costs.argmin())
            raise ConfigError(
                f"max_cost is {config.max_cost:g}, and the cheapest member, {names[cheapest]!r}, "
                f"costs {limits.costs[cheapest]:g}. Raise max_cost to that at least."
            )
        return limits

    @property
    def is_late(self) -> bool:
        """Tell whether the time is up."""
        return time.monotonic() > self.deadline

    @cached_property
    def are_set(self) -> bool:
        """Tell whether any cap but the time is set."""
        return bool(np.isfinite([self.max_members, self.max_per_family, self.max_cost]).any())

    def allow(self, selected: Bool[np.ndarray, " member"]) -> bool:
        """Tell whether these members may have weights together."""
        per_family = np.bincount(self.families[selected]).max(initial=0)
        return bool(
            selected.sum() <= self.max_members
            and per_family <= self.max_per_family
            # A bound that is the sum of a subset must not forbid that subset by rounding.
            and self.costs[selected].sum() <= self.max_cost * (1 + 1e-9)
        )

    def allow_more(self, selected: Bool[np.ndarray, " member"], member: int) -> bool:
        """Tell whether a member may be added to those that have a weight."""
        if not self.are_set:
            return True
        return self.allow(selected | (np.arange(len(selected)) == member))

    def affordable(self, order: Int[np.ndarray, " member"]) -> list[int]:
        """List the members that each may have a weight alone, in this order."""
        return [int(member) for member in order if self.costs[member] <= self.max_cost]

    def take(self, order: Iterable[int]) -> Bool[np.ndarray, " member"]:
        """Mark members one after the other, each where the caps still allow it."""
        selected = np.zeros(len(self.costs), dtype=np.bool_)
        for member in order:
            selected[member] = self.allow_more(selected, int(member))
        return selected


def member_costs(
    names: tuple[str, ...], costs: Mapping[str, float]
) -> Float[np.ndarray, " member"]:
    """Put costs by name in pool order; all 0 where there are none.

    Raises:
        UnknownNameError: A cost has the name of no member.
        ConfigError: Some members have a cost and others have none.
    """
    check_names("search.costs", costs, names)
    missing = [name for name in names if name not in costs]
    if costs and missing:
        raise ConfigError(f"search.costs lacks {', '.join(missing)}; give every member's or none.")
    return np.array([float(costs.get(name, 0.0)) for name in names])


def check_names(setting: str, values: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """Check that a setting names members only.

    Raises:
        UnknownNameError: The setting has a value for a name that no member has.
    """
    for name in values:
        if name not in names:
            raise UnknownNameError.of(f"member of {setting}", name, names)


def _families(names: tuple[str, ...], families: Mapping[str, str]) -> Int[np.ndarray, " member"]:
    check_names("search.families", families, names)
    # A tuple cannot be taken for a family's name.
    own = [families.get(name, (name,)) for name in names]
    return np.array([own.index(family) for family in own])
