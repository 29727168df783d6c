"""A worker: the process that carries members, trains them and predicts with them.

Plain Python, which the host group makes a Ray actor. The class is called `Host` as the settings are
(`cluster.hosts`), and several of them may be on one machine.
"""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from cluster.scheduling.placement import USABLE
from cluster.scheduling.training_costs import TrainingCost
from ensemble.images.shard import ImageShard
from ensemble.inference.costs import MemberCost, seconds_of_all_views
from ensemble.inference.kept_memory import keep_freed_memory
from ensemble.members.member import Member
from ensemble.table.block import LogitBlock
from ensemble.table.shard_file import stored_rows
from ensemble.table.shard_writer import Receipt, ShardWriter
from ensemble.training.task import TrainTask

if TYPE_CHECKING:
    from ensemble.inference.forward import PreparedNetwork
    from ensemble.inference.resized import ResizedShard

_Key = tuple[str, str, str]
StoredRows = Float[np.ndarray, "image class"]


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
        if self._device.type == "cpu":
            keep_freed_memory()
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

    def train(self, task: TrainTask, *shards: ImageShard) -> tuple[str | None, TrainingCost | None]:
        """Train, and publish the checkpoint.

        Returns:
            The path of the checkpoint, and what memory that took on a GPU. No path where the memory of a
            share of a GPU was not enough; the training then goes on from what it has kept.
        """
        if self._device.type == "cuda":
            from cluster.pool.training_call import train_on_gpu

            self.keep(())  # networks would take room that trainings were measured without
            is_shared = self._settings.memory_fraction < USABLE
            return train_on_gpu(task, shards, self._device, is_shared)
        from ensemble.training.member import train_member

        return str(train_member(task, shards, self._device)), None

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

    def predict_each(
        self, members: Sequence[Member], largest_batch: int | None, shard: ImageShard
    ) -> tuple[list[LogitBlock], int | None]:
        """Predict a shard with some views of one network, each to the block that it would be alone.

        Args:
            members: The views, or a network as one member.
            largest_batch: As for `predict`.
            shard: Decoded images.

        Returns:
            A block for each member, and the largest batch that fits where a larger one did not.
        """
        blocks = []
        for member in members:
            block, largest_batch = self.predict(member, largest_batch, shard)
            blocks.append(block)
        return blocks, largest_batch

    def measure(
        self, members: Sequence[Member], largest_batch: int | None, shard: ImageShard
    ) -> tuple[list[LogitBlock], MemberCost]:
        """Predict a shard with a network, and measure what that costs once everything is warm.

        Args:
            members: Views of the network, or the network as one member.
            largest_batch: Images a batch that are known to fit into memory; the usual number if none.
            shard: Decoded images.

        Returns:
            A block for each member, and the cost of the network under all of its views.
        """
        from ensemble.inference.measure import peak_memory, warm_up

        network = self._load(members[0], largest_batch)
        for member in members:
            warm_up(network, member, shard, self._device)
        with peak_memory(network, self._device) as peak:
            blocks, largest_batch = self.predict_each(members, largest_batch, shard)
        return blocks, MemberCost(
            images_per_s=max(len(shard), 1) / max(seconds_of_all_views(members, blocks), 1e-9),
            memory_mb=peak.mb,
            batch_mb=peak.batch_mb,
            device_memory_mb=peak.device_mb,
            batch_images=largest_batch,
        )

    def predict_and_write(
        self,
        writer: ShardWriter,
        members: Sequence[Member],
        largest_batch: int | None,
        shard: ImageShard,
    ) -> tuple[list[Receipt], int | None]:
        """Do what `predict_each` does, and make the blocks durable here instead of returning their rows."""
        return self.predict_and_keep(writer, members, largest_batch, shard)[0]

    def predict_and_keep(
        self,
        writer: ShardWriter,
        members: Sequence[Member],
        largest_batch: int | None,
        shard: ImageShard,
    ) -> tuple[tuple[list[Receipt], int | None], list[StoredRows]]:
        """Do what `predict_and_write` does, and give the rows as they are stored as a value of their own."""
        blocks, largest_batch = self.predict_each(members, largest_batch, shard)
        receipts = [writer.write(m, b) for m, b in zip(members, blocks, strict=True)]
        return (receipts, largest_batch), [stored_rows(block, writer.dtype) for block in blocks]

    def measure_and_keep(
        self,
        writer: ShardWriter,
        members: Sequence[Member],
        largest_batch: int | None,
        shard: ImageShard,
    ) -> tuple[tuple[list[Receipt], MemberCost], list[StoredRows]]:
        """Do what `measure_and_write` does, and give the rows as they are stored as a value of their own."""
        blocks, cost = self.measure(members, largest_batch, shard)
        receipts = [writer.write(m, b) for m, b in zip(members, blocks, strict=True)]
        return (receipts, cost), [stored_rows(block, writer.dtype) for block in blocks]

    def measure_and_write(
        self,
        writer: ShardWriter,
        members: Sequence[Member],
        largest_batch: int | None,
        shard: ImageShard,
    ) -> tuple[list[Receipt], MemberCost]:
        """Do what `measure` does, and make the blocks durable here instead of returning their rows."""
        return self.measure_and_keep(writer, members, largest_batch, shard)[0]

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
