"""A host: the process that carries members. Plain Python; the pool makes it a Ray actor."""

from typing import TYPE_CHECKING

from ensemble.images.shard import ImageShard
from ensemble.members import Member
from ensemble.table.block import LogitBlock
from ensemble.training.task import TrainTask

if TYPE_CHECKING:
    from ensemble.resized import ResizedShard


class Host:
    """Trains members and predicts with them; keeps the networks that it has loaded.

    Args:
        device: A torch device.
        threads: CPU threads of torch. Fixed by the plan, never by the machine: a sum over other
            threads rounds differently, and the same run must give the same report.
    """

    def __init__(self, device: str, threads: int) -> None:
        # Here and not at the top: the driver plans and commits without ever importing torch.
        import torch

        torch.set_num_threads(threads)
        self._device = torch.device(device)
        # By weights and not by column: where views are kept, many columns come from one network.
        self._networks: dict[tuple[str, str], torch.nn.Module] = {}
        self._flops: dict[str, int] = {}
        self._images: ResizedShard | None = None

    def train(self, task: TrainTask, *shards: ImageShard) -> str:
        """Train, publish the checkpoint, and return its path."""
        from ensemble.training.member import train_member

        return str(train_member(task, shards, self._device))

    def predict(self, member: Member, shard: ImageShard) -> LogitBlock:
        """The block of a member and a shard."""
        from ensemble.predict import count_flops, predict
        from ensemble.resized import ResizedShard
        from ensemble.training.member import load_network

        key, column = (member.architecture, member.weights_sha256), member.column
        if key not in self._networks:
            self._networks[key] = load_network(member).to(self._device)
        if column not in self._flops:
            self._flops[column] = count_flops(self._networks[key], member, self._device)
        if self._images is None or not self._images.is_of(shard):
            self._images = ResizedShard(shard, self._device)
        return predict(
            self._networks[key], member, shard, self._device, self._images, self._flops[column]
        )
