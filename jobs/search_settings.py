"""Settings of `ensemble search`: those of the run's search, and what is said about the weights."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveFloat

from ensemble.config import Config, check, full_words, read_settings
from ensemble.errors import ConfigError
from ensemble.search.settings import SearchConfig


class SearchJobConfig(Config):
    """One search on the table of a run that is there."""

    search: SearchConfig = SearchConfig(kind="auto")
    """Which search, and what it may not exceed. Its keys can be typed without `search.`."""
    temperature: bool = False
    """Fit a temperature for each member; it is kept only if it lowers the NLL on held-out images."""
    cross_fit: bool = False
    """Take search and test images as one labelled set, and judge by two-fold cross-fitting."""
    resamples: Annotated[int, Field(ge=100)] = 10_000
    """Bootstrap samples of each paired interval."""
    coverage: Annotated[float, Field(gt=0, lt=1)] | None = 0.9
    """Least probability with which the set of classes that each answer has holds the label; null for no sets."""
    stability: NonNegativeInt = 200
    """Bootstrap samples that the search is repeated on; 0 for none."""
    stability_limit_s: PositiveFloat = 60.0
    """Seconds after which no further bootstrap sample is searched."""


def search_settings(
    words: Sequence[str],
    of_run: SearchConfig,
    costs: Mapping[str, Mapping[str, float]],
    families: Mapping[str, str],
) -> SearchJobConfig:
    """Put the words on top of the run's own k, with what the run knows of its members.

    Args:
        words: As typed.
        of_run: The run's search; its k, objective and cost hold where no word says otherwise.
        costs: By unit, then member.
        families: By member.

    Raises:
        ConfigError: A setting is wrong, or the run did not measure the cost that is asked for.
    """
    settings = read_settings(full_words(SearchJobConfig, words))
    typed = settings.get("search", {})
    known: dict[str, Any] = {
        "kind": "auto",
        "k": of_run.k,
        "objective": of_run.objective,
        "cost": of_run.cost,
        "families": dict(families),
    }
    if isinstance(typed, dict):  # anything else `check` refuses
        settings["search"] = known | typed
    config = check(SearchJobConfig, settings, "the command")
    if config.search.costs:
        return config
    unit = config.search.cost
    if unit in costs:
        search = config.search.model_copy(update={"costs": dict(costs[unit])})
        return config.model_copy(update={"search": search})
    if "cost" in typed or config.search.max_cost is not None:
        raise ConfigError(_unmeasured(unit, costs))
    return config


def settings_of_run(
    search: SearchConfig,
    costs: Mapping[str, Mapping[str, float]],
    families: Mapping[str, str],
) -> SearchConfig:
    """Complete the settings of a run's own search as the run does: costs for a cost bound only.

    Args:
        search: The settings as the run's config has them.
        costs: What the run measured, by unit, then member.
        families: Architecture of each member.

    Raises:
        ConfigError: A bound is set on a cost that the run did not measure for every member.
    """
    if needs_costs(search) and search.cost not in costs:
        raise ConfigError(_unmeasured(search.cost, costs))
    return complete(search, families, costs.get(search.cost, {}))


def needs_costs(search: SearchConfig) -> bool:
    """Tell whether the settings of a run's search bound a cost and give none."""
    return not search.costs and search.max_cost is not None


def complete(
    search: SearchConfig, families: Mapping[str, str], costs: Mapping[str, float]
) -> SearchConfig:
    """Put what a run knows of its members into the settings of its search, where they are silent.

    Costs are taken for a cost bound only, because they also break ties, and two runs that must find the
    same weights measure other seconds.

    Args:
        search: The settings as the run's config has them.
        families: Architecture of each member.
        costs: What the run measured of each member, in the unit of the bound.
    """
    known: dict[str, Any] = {}
    if not search.families:
        known["families"] = dict(families)
    if needs_costs(search):
        known["costs"] = dict(costs)
    return search.model_copy(update=known)


def _unmeasured(unit: str, costs: Mapping[str, Mapping[str, float]]) -> str:
    return (
        f"cost={unit}: this run did not measure it for every member. Measured: "
        f"{', '.join(costs) or 'nothing'}. Set cost to one of these, or give search.costs."
    )
