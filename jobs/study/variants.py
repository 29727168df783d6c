"""The rows of a stage: the base and its variants with all their settings, and how many parameters each has."""

import itertools
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ensemble.config import check
from ensemble.errors import ConfigError
from ensemble.members.identity import fingerprint
from ensemble.models import registry
from ensemble.training.recipe import RecipeConfig
from jobs.study.settings import RowName, StageConfig, VariantConfig, merge

BASE = "base"
_NO_CHANGE = VariantConfig()


@dataclass(frozen=True)
class Variant:
    """One row of a stage.

    Attributes:
        name: Name of the row.
        settings: Its architecture, and the settings of its recipe that are not the defaults.
        recipe: The whole recipe.
    """

    name: str
    settings: VariantConfig
    recipe: RecipeConfig

    @property
    def architecture(self) -> str:
        """Name of the architecture."""
        assert self.settings.architecture is not None  # the base of every study has one
        return self.settings.architecture

    @property
    def identity(self) -> str:
        """Identity of the networks; equal for rows that train the same ones."""
        return fingerprint([self.architecture, self.recipe.identity()])


def list_variants(base: VariantConfig, stage: StageConfig) -> tuple[Variant, ...]:
    """List the base and the variants of a stage; a variant that is the base itself has no row of its own.

    Raises:
        ConfigError: A setting of a variant is wrong, or two variants have one name.
    """
    changes = [*stage.variants.items(), *_combinations(stage)]
    names = [BASE, *(name for name, _ in changes)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(
            f"the stage {stage.name!r} has several rows named {twice}; give each a name of its own."
        )
    rows = {
        name: make_variant(name, base, change) for name, change in [(BASE, _NO_CHANGE), *changes]
    }
    same = rows[BASE].identity
    return tuple(row for name, row in rows.items() if name == BASE or row.identity != same)


def make_variant(name: str, base: VariantConfig, change: VariantConfig = _NO_CHANGE) -> Variant:
    """Put what a variant changes onto the base.

    Raises:
        ConfigError: The recipe that results is not valid.
    """
    settings = VariantConfig(
        architecture=change.architecture or base.architecture,
        recipe=merge(base.recipe, change.recipe),
    )
    return Variant(name, settings, check(RecipeConfig, settings.recipe, f"the recipe of {name!r}"))


def count_parameters(architecture: str, num_classes: int) -> int:
    """Count the parameters of an architecture without allocating them."""
    import torch  # Here, because settings are read without it.

    with torch.device("meta"):
        network = registry.build(architecture, num_classes)
    return sum(parameter.numel() for parameter in network.parameters())


def _combinations(stage: StageConfig) -> list[tuple[str, VariantConfig]]:
    """Make a variant of every combination of the grid's values, named after them."""
    if not stage.grid:
        return []
    named = []
    for values in itertools.product(*stage.grid.values()):
        cells = list(zip(stage.grid, values, strict=True))
        settings: dict[str, Any] = {}
        for key, value in cells:
            *parents, last = key.split(".")
            here = settings
            for parent in parents:
                here = here.setdefault(parent, {})
            here[last] = value
        name = "-".join(_cell_name(key, value) for key, value in cells)
        try:
            TypeAdapter(RowName).validate_python(name)
        except ValidationError as error:
            raise ConfigError(
                f"the grid of the stage {stage.name!r} makes a row named {name!r}, and a name has at most 32 "
                "letters, digits, dots, dashes and underscores. Write these combinations as variants."
            ) from error
        named.append((name, check(VariantConfig, settings, f"{name!r} in stage {stage.name!r}")))
    return named


def _cell_name(key: str, value: object) -> str:
    text = (
        str(value.get("kind", "-".join(map(str, value)))) if isinstance(value, dict) else str(value)
    )
    last = key.rpartition(".")[2]
    return text if isinstance(value, dict | str) else f"{last}{text}"
