"""The rows of a stage: the base and its variants with all their settings, and how many parameters each has."""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ensemble.config import check
from ensemble.errors import ConfigError, UnknownNameError
from ensemble.members.identity import fingerprint
from ensemble.models import registry
from ensemble.models.options import join_name
from ensemble.training.recipe import RecipeConfig
from jobs.study.settings import FRESH, PRETRAINED, RowName, StageConfig, VariantConfig, merge

BASE = "base"
_NO_CHANGE = VariantConfig()


@dataclass(frozen=True)
class Variant:
    """One row of a stage.

    Attributes:
        name: Name of the row.
        settings: Its architecture with all options, and the settings of its recipe that are not the defaults.
        recipe: The whole recipe.
        start: Row whose weights its networks start from; None for fresh ones.
        other_images: Identity of the images that its networks are trained on; None for those of the study.
        weights: Checkpoints of the networks, by seed, where they are trained on other images.
    """

    name: str
    settings: VariantConfig
    recipe: RecipeConfig
    start: "Variant | None" = None
    other_images: str | None = None
    weights: tuple[Path, ...] = ()

    @property
    def architecture(self) -> str:
        """Name of the architecture."""
        assert self.settings.architecture is not None  # the base of every study has one
        return self.settings.architecture

    @property
    def why_no_start(self) -> str | None:
        """Why the networks that are trained on other images cannot be started from; None where they can be."""
        start = self.start
        if start is None or start.other_images is None or self.settings.take is not None:
            return None
        if start.architecture == self.architecture:
            return None
        return (
            f"it is {self.architecture}, and the networks that it starts from are {start.architecture}; set take to "
            "the layers that both have."
        )

    @property
    def identity(self) -> str:
        """Identity of the networks and their views; equal for rows with the same answers."""
        plain: list[Any] = [self.architecture, self.recipe.identity()]
        settings = self.settings
        if self.start or settings.views or settings.adds_validation:
            plain += [
                self.start.identity if self.start else None,
                settings.model_dump(mode="json", include={"take", "views", "adds_validation"}),
            ]
        if self.other_images is not None:
            plain.append(self.other_images)
        return fingerprint(plain)


def list_variants(
    base: Variant, stage: StageConfig, pretrained: Variant | None = None
) -> tuple[Variant, ...]:
    """List the base and the variants of a stage; a variant that is the base itself has no row of its own.

    Args:
        base: The base.
        stage: The stage.
        pretrained: Networks that are trained on other images first; None where the study has none.

    Raises:
        ConfigError: A setting of a variant is wrong, two variants have one name, or one starts from a row
            that is not there, or in the end from itself.
    """
    changes = [*stage.variants.items(), *_combinations(stage)]
    names = [BASE, *(name for name, _ in changes)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(
            f"the stage {stage.name!r} has several rows named {twice}; give each a name of its own."
        )
    change_by_name, rows = dict(changes), {BASE: replace(base, name=BASE)}

    def row(name: str, waiting: tuple[str, ...] = ()) -> Variant:
        if name in waiting:
            raise ConfigError(
                f"the rows {', '.join(waiting)} of the stage {stage.name!r} start from each other; one must have "
                f"fresh weights, as start: {FRESH}."
            )
        if name not in names:
            raise UnknownNameError.of(f"row of the stage {stage.name!r}", name, names)
        if name not in rows:
            change = change_by_name[name]
            start = base.start
            if change.start == PRETRAINED:
                start = pretrained
                if start is None:
                    raise ConfigError(
                        f"{name!r} in stage {stage.name!r} has start: {PRETRAINED}, and the study has no pretraining; "
                        "set pretraining.images."
                    )
            elif change.start is not None:
                start = None if change.start == FRESH else row(change.start, (*waiting, name))
            rows[name] = make_variant(name, base.settings, change, start)
        return rows[name]

    same = rows[BASE].identity
    all_rows = [row(name) for name in names]
    return tuple(one for one in all_rows if one.name == BASE or one.identity != same)


def make_variant(
    name: str,
    base: VariantConfig,
    change: VariantConfig = _NO_CHANGE,
    start: Variant | None = None,
) -> Variant:
    """Put what a variant changes onto the base.

    Args:
        name: Name of the row.
        base: Settings of the base.
        change: What differs.
        start: Row whose weights its networks start from; None for fresh ones.

    Raises:
        ConfigError: The recipe that results is not valid, or the architecture lacks an option.
    """
    architecture = change.architecture or base.architecture
    assert architecture is not None  # the base of every study has one
    options_of_base = {} if change.architecture else base.network
    full_name = join_name(architecture, {**options_of_base, **change.network})
    registry.check(full_name)
    settings = VariantConfig(
        architecture=full_name,
        recipe=merge(base.recipe, change.recipe),
        start=start.name if start else None,
        take=(change.take or (base.take if change.start is None else None)) if start else None,
        views=change.views or base.views,
        adds_validation=change.adds_validation or base.adds_validation,
    )
    recipe = check(RecipeConfig, settings.recipe, f"the recipe of {name!r}")
    return Variant(name, settings, recipe, start)


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
    last = key.rpartition(".")[2]
    if isinstance(value, dict):
        return str(value.get("kind", "-".join(map(str, value))))
    if isinstance(value, list | tuple):
        return f"{last}{'-'.join(map(str, value))}"
    return value if isinstance(value, str) else f"{last}{value}"
