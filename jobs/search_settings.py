"""Settings of `ensemble search`: those of the run's search, and what is said about the weights."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, NonNegativeInt, PositiveFloat

from ensemble.config import Config, check
from ensemble.errors import ConfigError
from ensemble.search.config import SearchConfig

CostUnit = Literal["seconds", "parameters", "flops", "gpu_bytes"]


class SearchJobConfig(Config):
    """One search on the table of a run that is there."""

    search: SearchConfig = SearchConfig(kind="auto")
    """Which search, and what it may not exceed. Its keys may be given without `search.`."""
    cost: CostUnit = "seconds"
    """What members are charged, where `search.costs` does not say: seconds an image, parameters,
    floating-point operations an image, or peak GPU bytes, as the run measured them."""
    temperature: bool = False
    """Fit a temperature for each member; it is kept only if it lowers the NLL on held-out images."""
    cross_fit: bool = False
    """Take search and test images as one labelled set, and judge by two-fold cross-fitting."""
    resamples: Annotated[int, Field(ge=100)] = 10_000
    """Of each paired bootstrap interval."""
    stability: NonNegativeInt = 200
    """Bootstrap samples that the search is repeated on; 0 for none."""
    stability_limit_s: PositiveFloat = 60.0
    """No such repetition begins after so many seconds."""


def read_settings(words: Iterable[str]) -> dict[str, Any]:
    """Turn words such as `a.b=value` into nested settings; values are YAML.

    Raises:
        ConfigError: A word is not of that form.
    """
    settings: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"cannot read {word!r}; expected key=value, as in search.kind=line.")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"cannot read the value of {word!r}: {error}") from error
        _put(settings, key.split("."), value, word)
    return settings


def search_settings(
    words: Sequence[str],
    of_run: SearchConfig,
    costs: Mapping[str, Mapping[str, float]],
    families: Mapping[str, str],
) -> SearchJobConfig:
    """Put the words on top of the run's own k, with what the run knows of its members.

    Args:
        words: As typed.
        of_run: The run's search; its k and objective hold where no word says otherwise.
        costs: By unit, then member.
        families: By member.

    Raises:
        ConfigError: A setting is wrong, or the run did not measure the cost that is asked for.
    """
    settings = read_settings(_full_name(word) for word in words)
    unit = settings.get("cost", SearchJobConfig.model_fields["cost"].default)
    known: dict[str, Any] = {
        "k": of_run.k,
        "objective": of_run.objective,
        "families": dict(families),
    }
    if unit in costs:
        known["costs"] = dict(costs[unit])
    settings["search"] = {"kind": "auto", **known, **settings.get("search", {})}
    if unit not in costs and not settings["search"].get("costs") and "cost" in settings:
        raise ConfigError(f"cost={unit}: this run did not record it. Known: {', '.join(costs)}.")
    return check(SearchJobConfig, settings, "the command")


def _full_name(word: str) -> str:
    """Put `search.` before a key that is one of the search's own."""
    first = word.partition("=")[0].partition(".")[0]
    return f"search.{word}" if first in SearchConfig.model_fields else word


def _put(settings: dict[str, Any], keys: Sequence[str], value: Any, word: str) -> None:
    *parents, last = keys
    here: Any = settings
    for parent in parents:
        here = here.setdefault(parent, {})
        if not isinstance(here, dict):
            raise ConfigError(f"{word!r} goes into {parent!r}, which is {here!r}.")
    here[last] = value
