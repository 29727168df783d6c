"""A worker: the process that carries members, trains them and predicts with them.

Plain Python, which the host group makes a Ray actor. The class is called `Host` as the settings are
(`cluster.hosts`), and several of them may be on one machine.
"""

import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ensemble.images.shard import ImageShard
from ensemble.inference.costs import MemberCost
from ensemble.members.member import Member
from ensemble.table.block import LogitBlock
from ensemble.table.shard_writer import Receipt, ShardWriter
from ensemble.training.task import TrainTask

if TYPE_CHECKING:
    from ensemble.inference.forward import PreparedNetwork
    from ensemble.inference.resized import ResizedShard

_Key = tuple[str, str, str]


@dataclass(frozen=True)
class HostSettings:
    """Settings of one worker, fixed while it runs.

    Attributes:
        device: Name of a torch device, as cpu or cuda.
        threads: CPU threads of torch. Fixed by the plan, never by the machine: a sum over other
            threads rounds differently, and the same run must give the same report.
        memory_fraction: Part of the GPU's memory that torch may take.
        channels_last: Whether networks and pixels are laid out channel by channel last.
        compiled: Whether networks are compiled.
    """

    device: str
    threads: int = 1
    memory_fraction: float = 1.0
    channels_last: bool = False
    compiled: bool = False


class Host:
    """Trains members and predicts with them; keeps the networks that it has loaded.

    Args:
        settings: Device, threads and memory.
    """

    def __init__(self, settings: HostSettings) -> None:
        # Here and not at the top: the driver plans and commits without ever importing torch.
        import torch

        torch.set_num_threads(settings.threads)
        self._settings = settings
        self._device = torch.device(settings.device)
        if self._device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(settings.memory_fraction)
        # By weights and not by column: where views are kept, many columns come from one network.
        self._networks: dict[_Key, PreparedNetwork] = {}
        self._keys: dict[str, _Key] = {}
        self._flops: dict[str, int] = {}
        self._images: ResizedShard | None = None

    def where(self) -> tuple[str, str]:
        """Return Ray's id of its node, and CUDA_VISIBLE_DEVICES of its process."""
        import ray

        node_id: str = ray.get_runtime_context().get_node_id()
        return node_id, os.environ.get("CUDA_VISIBLE_DEVICES", "")

    def keep(self, columns: Collection[str]) -> None:
        """Forget the networks of all other members."""
        self._keys = {column: key for column, key in self._keys.items() if column in columns}
        keys = set(self._keys.values())
        self._networks = {key: network for key, network in self._networks.items() if key in keys}
        if self._device.type == "cuda":
            import torch

            torch.cuda.empty_cache()

    def train(self, task: TrainTask, *shards: ImageShard) -> str:
        """Train, publish the checkpoint, and return its path."""
        from ensemble.training.member import train_member

        return str(train_member(task, shards, self._device))

    def predict(
        self, member: Member, largest_batch: int | None, shard: ImageShard
    ) -> tuple[LogitBlock, int | None]:
        """Predict a shard with a member.

        Args:
            member: The member to predict with.
            largest_batch: Images a batch that are known to fit into memory; the usual number if none.
            shard: Decoded images.

        Returns:
            The block, and the largest batch that fits where a larger one did not.
        """
        from ensemble.inference.predict import count_flops, predict
        from ensemble.inference.resized import ResizedShard

        network, column = self._load(member, largest_batch), member.column
        if column not in self._flops:
            self._flops[column] = count_flops(network, member, self._device)
        if self._images is None or not self._images.is_of(shard):
            self._images = ResizedShard(shard, self._device)
        block = predict(network, member, shard, self._device, self._images, self._flops[column])
        return block, network.largest_batch

    def measure(
        self, member: Member, largest_batch: int | None, shard: ImageShard
    ) -> tuple[LogitBlock, MemberCost]:
        """Predict a shard with a member, and measure what that costs once everything is warm.

        Args:
            member: The member to predict with.
            largest_batch: Images a batch that are known to fit into memory; the usual number if none.
            shard: Decoded images.

        Returns:
            The block, and the cost.
        """
        from ensemble.inference.measure import peak_memory, warm_up

        network = self._load(member, largest_batch)
        warm_up(network, member, shard, self._device)
        with peak_memory(network, self._device) as peak:
            block, largest_batch = self.predict(member, largest_batch, shard)
        return block, MemberCost(
            images_per_s=max(len(shard), 1) / max(block.seconds, 1e-9),
            memory_mb=peak.mb,
            batch_mb=peak.batch_mb,
            device_memory_mb=peak.device_mb,
            batch_images=largest_batch,
        )

    def predict_and_write(
        self, writer: ShardWriter, member: Member, largest_batch: int | None, shard: ImageShard
    ) -> tuple[Receipt, int | None]:
        """Do what `predict` does, and make the block durable here instead of returning its rows."""
        block, largest_batch = self.predict(member, largest_batch, shard)
        return writer.write(member, block), largest_batch

    def measure_and_write(
        self, writer: ShardWriter, member: Member, largest_batch: int | None, shard: ImageShard
    ) -> tuple[Receipt, MemberCost]:
        """Do what `measure` does, and make the block durable here instead of returning its rows."""
        block, cost = self.measure(member, largest_batch, shard)
        return writer.write(member, block), cost

    def _load(self, member: Member, largest_batch: int | None) -> "PreparedNetwork":
        from ensemble.checkpoints.load import load_network
        from ensemble.inference.forward import PreparedNetwork

        key = (member.architecture, member.weights_sha256, member.precision)
        self._keys[member.column] = key
        if key not in self._networks:
            self._networks[key] = PreparedNetwork(
                load_network(member).to(self._device),
                member.precision,
                self._settings.channels_last,
                self._settings.compiled,
                largest_batch,
            ).eval()
        return self._networks[key]
