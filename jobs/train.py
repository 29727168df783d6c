"""`ensemble train CONFIG`: train the members of a config here, one after the other, and nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ensemble.errors import ConfigError, UnknownNameError
from ensemble.images.open import decode_shard, open_source
from ensemble.images.shard import plan_shards
from ensemble.images.split import split
from ensemble.members.settings import MemberConfig
from ensemble.members.source_settings import RecipeSource
from ensemble.training.loop import EpochLog
from ensemble.training.task import TrainTask
from jobs.checks import check_settings
from jobs.progress.live import Progress
from jobs.run.train import base_name, import_pool, import_starts, plan_training
from jobs.settings import RunConfig


@dataclass(frozen=True)
class Trained:
    """A member whose weights are there.

    Attributes:
        name: Name of the member.
        path: File of the weights.
        was_kept: Whether an earlier run or `train` had trained them.
    """

    name: str
    path: Path
    was_kept: bool


def train(config: RunConfig, names: Sequence[str], console: Console) -> list[Trained]:
    """Train members without Ray, on one device, with one CPU thread as a run does, so that weights are the same.

    A run of the same config finds the weights, and an interrupted training goes on.

    Args:
        config: The settings of a run.
        names: Members to train, with those that they start from; all that have a recipe if none.
        console: Where progress goes.

    Raises:
        ConfigError: A name is of no member that a recipe trains, or a setting does not fit.
    """
    import torch

    members = _select(config, names)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    done, tasks = list[Trained](), dict[str, TrainTask]()
    with Progress(console, "train", [member.name for member in members]) as progress:
        source = open_source(config.image_source)
        splits = split(source.index(), config.images.split, config.seed)
        check_settings(config, splits)
        imported = import_pool(config, splits.train.classes, progress)
        starts = import_starts(config, len(splits.train.classes), progress)
        for member in members:
            task = plan_training(config, member, splits.train, tasks, imported, starts)
            tasks[member.name] = task
            done.append(Trained(member.name, task.checkpoint, task.is_done))
            if task.is_done:
                continue
            shards = []
            if not task.reads_images:
                indexes = [task.images, *([task.stopping.images] if task.stopping else [])]
                ids = [image_id for index in indexes for image_id in index.image_ids.tolist()]
                shards = [
                    decode_shard(source, spec)
                    for spec in plan_shards(ids, config.cluster.shard_images)
                ]
            from ensemble.training.member import train_member

            train_member(task, shards, device, _teller(member.name, task, progress.say))
    return done


def _teller(name: str, task: TrainTask, say: Callable[[str], None]) -> Callable[[EpochLog], None]:
    def tell(epoch: EpochLog) -> None:
        say(
            f"{name}: epoch {epoch.epoch + 1} of {task.recipe.epochs}, loss {epoch.loss_nats:.4f} nats, "
            f"accuracy {epoch.accuracy:.2%}, rate {epoch.rate:.3g}, {epoch.seconds:.1f} s"
        )

    return tell


def _select(config: RunConfig, names: Sequence[str]) -> list[MemberConfig]:
    """Return members in an order in which each follows the one that it starts from."""
    trained = {m.name: m for m in config.members if isinstance(m.source, RecipeSource)}
    if not trained:
        raise ConfigError(
            "the config has no member with a source of kind recipe, so there is nothing to train; `ensemble "
            "run` loads the others."
        )
    for name in names:
        if name not in trained:
            raise UnknownNameError.of("member that a recipe trains", name, trained)
    ordered: dict[str, MemberConfig] = {}

    def add(name: str) -> None:
        base = base_name(trained[name])
        if base in trained and base not in ordered:
            add(base)
        ordered.setdefault(name, trained[name])

    for name in names or trained:
        add(name)
    return list(ordered.values())
