"""Which network learns, and how: a member of the run, or a YAML file. Imports neither torch nor ray."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from ensemble.config import Config, check, load, read_settings
from ensemble.errors import ConfigError, UnknownNameError
from ensemble.members.settings import PreprocessingConfig
from ensemble.members.source_settings import Architecture, RecipeSource, Start, TakeConfig
from ensemble.training.recipe import RecipeConfig
from ensemble.views.settings import CenterView, Views
from jobs.settings import RunConfig


class StudentConfig(Config):
    """A network that learns what an ensemble answers."""

    architecture: Architecture | None = None
    """Name of an architecture, as resnet20_cifar; that of `start` if not set."""
    recipe: RecipeConfig = Field(default_factory=RecipeConfig)
    """How the network is trained."""
    start: Start | None = None
    """Published weights or a checkpoint that the training starts from; fresh ones if not set."""
    take: TakeConfig | None = None
    """Layers that are taken from `start`; all of them if not set."""
    new_head: bool = False
    """Train a new head also where `start` has as many outputs as the data has classes."""
    views: Views = CenterView()
    """Test-time views of the network; the centre alone if not set, which costs least."""
    preprocessing: PreprocessingConfig | None = None
    """What differs from the preprocessing that comes with the weights of `start`."""

    @property
    def source(self) -> dict[str, Any]:
        """The source of a member of a run, without its recipe's name and seed."""
        kept = {"architecture", "start", "take", "new_head"}
        settings = self.model_dump(mode="json", include=kept, exclude_defaults=True)
        return {"kind": "recipe", **settings}


def load_student(config: RunConfig, into: str, words: Sequence[str]) -> StudentConfig:
    """Read the network that learns.

    Args:
        config: The settings of the run.
        into: Name of one of its members that a recipe trains, or the path of a YAML file with a `StudentConfig`.
        words: Settings to change, of the form recipe.epochs=30.

    Raises:
        ConfigError: There is no such member, the file cannot be read, or a setting is wrong.
    """
    if Path(into).suffix in (".yaml", ".yml"):
        student = load(StudentConfig, Path(into), words)
    else:
        trained = {m.name: m for m in config.members if isinstance(m.source, RecipeSource)}
        if into not in trained:
            raise UnknownNameError.of(
                "member that a recipe trains", into, [*trained, "a path that ends in .yaml"]
            )
        member, source = trained[into], trained[into].source
        assert isinstance(source, RecipeSource)
        settings = {
            **source.model_dump(
                mode="json",
                include={"architecture", "start", "take", "new_head"},
                exclude_none=True,
            ),
            "recipe": config.recipes[source.recipe].model_dump(mode="json", exclude_unset=True),
        }
        if member.preprocessing is not None:
            settings["preprocessing"] = member.preprocessing.model_dump(mode="json")
        student = check(StudentConfig, read_settings(words, settings), f"--into {into}")
    if student.recipe.soft_labels is not None:
        raise ConfigError(
            "the recipe has soft_labels already, and distillation makes them. Leave them out."
        )
    # As in a pool: a source of a member names an architecture or a start.
    check(RecipeSource, student.source, f"--into {into}")
    return student


def left_out(recipe: RecipeConfig) -> tuple[str, ...]:
    """Name the settings of a recipe that change images or labels in a way that no stored view can hold."""
    plain = RecipeConfig()
    names = ("erasing", "mixup", "cutmix", "noise_sd", "label_smoothing")
    held_back = [name for name in names if getattr(recipe, name) != getattr(plain, name)]
    return (
        *held_back,
        *(["colour.pca_sd"] if recipe.colour is not None and recipe.colour.pca_sd else []),
    )
