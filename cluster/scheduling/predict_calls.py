"""The calls of predictions: one for each shard and network, whatever views of it are kept. Pure."""

from collections.abc import Iterable, Sequence

from cluster.scheduling.work_queue import Call
from ensemble.images.shard import ShardSpec
from ensemble.members.member import Member, by_network
from ensemble.table.shard_writer import ShardWriter


def predict_calls(
    work: Iterable[tuple[ShardSpec, Sequence[Member]]],
    writer: ShardWriter | None = None,
    first_order: int = 0,
) -> list[Call]:
    """Make a call for each shard and network, which predicts all of its views that are lacking.

    Args:
        work: Shards in order, each with the members that lack it.
        writer: Writes the blocks where they are computed; none if the driver gets the rows.
        first_order: Place of the first call in the work.
    """
    calls: list[Call] = []
    # Nearly all shards lack the same members, whose identities take long to compute.
    networks: dict[tuple[int, ...], list[tuple[Member, tuple[Member, ...]]]] = {}
    for spec, members in work:
        key = tuple(map(id, members))
        if key not in networks:
            networks[key] = by_network(members)
        for network, views in networks[key]:
            order = first_order + len(calls)
            calls.append(Call("predict", network, (spec,), order, writer=writer, views=views))
    return calls
