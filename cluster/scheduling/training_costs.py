"""The GPU memory that trainings were measured to need: it says how many of them share a GPU."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import PositiveFloat, PositiveInt

from cluster.scheduling.placement import Device
from ensemble.config import Config
from ensemble.files import write_atomic
from ensemble.members.identity import fingerprint, library_versions
from ensemble.training.task import TrainTask

# What of a recipe changes how long a training takes, and not its memory.
_NO_MEMORY = ("epochs", "schedule", "label_smoothing", "freeze_epochs", "layer_decay")


class TrainingCost(Config):
    """The memory of one training on one kind of GPU."""

    memory_mb: PositiveFloat
    """Peak memory of the whole training, in MB of 2^20 bytes."""
    device_memory_mb: PositiveFloat
    """Memory of the whole GPU that it was measured on, in MB."""
    images: PositiveInt
    """Number of images that it trained on and was judged by; they may lie in the GPU's memory."""
    classes: PositiveInt
    """Number of outputs of its network."""

    def covers(self, task: TrainTask) -> bool:
        """Tell whether another training of the same kind needs no more than this one did."""
        return num_images(task) <= self.images and len(task.classes) <= self.classes


def num_images(task: TrainTask) -> int:
    """Count the images that a task trains on and is judged by."""
    return len(task.images) + (len(task.stopping.images) if task.stopping else 0)


class TrainingCosts:
    """Costs of trainings by what decides them: network, input, batch, recipe and kind of GPU.

    Args:
        folder: Folder of the files, one for each cost; it is made when the first one is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._costs: dict[str, TrainingCost | None] = {}

    def find(self, task: TrainTask, kind: str) -> TrainingCost | None:
        """Return the cost of a training of a task's kind that was as large; none if none was measured."""
        key = _key(task, kind)
        if key not in self._costs:
            self._costs[key] = self._read(key)
        cost = self._costs[key]
        return cost if cost is not None and cost.covers(task) else None

    def keep(self, task: TrainTask, kind: str, cost: TrainingCost) -> None:
        """Keep a measured cost, for this run and for later ones; of two, what covers both."""
        key = _key(task, kind)
        known = self._costs.get(key) or self._read(key)
        if known is not None:
            larger = {name: max(value, getattr(known, name)) for name, value in cost}
            cost = TrainingCost(**larger)
        self._costs[key] = cost
        write_atomic(self._file(key), cost.model_dump_json() + "\n")

    def memory_mb(self, tasks: Sequence[TrainTask], kinds: Sequence[str]) -> float | None:
        """Return the most that any of some trainings needs; None if that is not known of all of them.

        A training that was measured on one kind of GPU counts as measured on all kinds.
        """
        known = [
            [cost.memory_mb for kind in kinds if (cost := self.find(task, kind))] for task in tasks
        ]
        return max(map(max, known)) if all(known) else None

    def first_to_measure(
        self, tasks: Sequence[TrainTask], kinds: Sequence[str], num_devices: int
    ) -> list[TrainTask]:
        """Choose a training for each device so that most is known after them.

        One of each kind that was not measured comes first, and then the others in their order.
        """
        seen = set[str]()
        unknown = []
        for task in tasks:
            key = _key(task, kinds[0])
            if key not in seen and self.memory_mb([task], kinds) is None:
                unknown.append(task)
                seen.add(key)
        names = {task.name for task in unknown}
        return [*unknown, *(task for task in tasks if task.name not in names)][:num_devices]

    def with_memory(
        self, devices: Sequence[Device], tasks: Sequence[TrainTask]
    ) -> tuple[Device, ...]:
        """Return the devices with their measured memory, where the config does not state it."""

        def measured(device: Device) -> float:
            costs = [cost for task in tasks if (cost := self.find(task, device.kind))]
            return min((cost.device_memory_mb for cost in costs), default=float("inf"))

        return tuple(
            replace(device, memory_mb=measured(device))
            if device.is_gpu and device.memory_mb == float("inf")
            else device
            for device in devices
        )

    def _read(self, key: str) -> TrainingCost | None:
        try:
            return TrainingCost.model_validate_json(self._file(key).read_text())
        except (FileNotFoundError, ValueError):  # pydantic's, and of bytes that are no text
            return None

    def _file(self, key: str) -> Path:
        return self._folder / f"training-{key}.json"


def _key(task: TrainTask, kind: str) -> str:
    recipe = {
        name: value for name, value in task.recipe.identity().items() if name not in _NO_MEMORY
    }
    size = task.preprocessing.size if task.preprocessing else task.recipe.input_size
    identity = {
        "architecture": task.architecture,
        "size": size,
        "recipe": recipe,
        "device": kind,
        "libraries": library_versions(task.architecture),
    }
    return fingerprint(identity)[:24]
