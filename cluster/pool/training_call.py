"""One training in a worker, and what memory it needs of a GPU."""

from collections.abc import Sequence

import torch

from cluster.scheduling.training_costs import TrainingCost, num_images
from ensemble.images.shard import ImageShard
from ensemble.training.member import train_member
from ensemble.training.task import TrainTask

_MB = 1 << 20


def train_on_gpu(
    task: TrainTask, shards: Sequence[ImageShard], device: torch.device, is_shared: bool
) -> tuple[str | None, TrainingCost | None]:
    """Train on a GPU, and measure the memory that torch reserved.

    Args:
        task: The training.
        shards: Decoded images, as for `train_member`.
        device: The GPU.
        is_shared: Whether others have shares of the GPU.

    Returns:
        The path of the checkpoint, and the cost; no cost where another process had trained it already. No
        path where the memory of a share was not enough: it then counts as one that needs all there is.

    Raises:
        torch.OutOfMemoryError: The memory of a whole GPU is not enough.
    """
    torch.cuda.reset_peak_memory_stats()
    device_mb = torch.cuda.mem_get_info()[1] / _MB
    path: str | None = None
    try:
        path = str(train_member(task, shards, device))
    except torch.OutOfMemoryError:
        if not is_shared:
            raise
    memory_mb = torch.cuda.max_memory_reserved() / _MB if path else device_mb
    if not memory_mb or not num_images(task):
        return path, None
    return path, TrainingCost(
        memory_mb=memory_mb,
        device_memory_mb=device_mb,
        images=num_images(task),
        classes=len(task.classes),
    )
