"""`ensemble plan`: estimate what a run would take from its config and known costs; no prediction is computed."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cluster.address import is_named, ray_address
from cluster.devices import find_devices
from cluster.scheduling.costs import Costs
from cluster.scheduling.packing import lower_bound, make_plan
from cluster.scheduling.placement import Device, Plan, Work
from ensemble.checkpoints.header import read_metadata
from ensemble.config import S3_SCHEME
from ensemble.images.open import Source, decode_shard, open_source
from ensemble.images.shard import ShardSpec, plan_shards
from ensemble.images.split import split
from ensemble.inference.costs import CostCache, MemberCost
from ensemble.members.settings import MemberConfig, Preprocessing
from ensemble.members.source_settings import CheckpointSource, RecipeSource
from jobs.plan import text as plan_text
from jobs.plan.document import PlacedMember, PlanDocument, PlannedHost, PlannedWave
from jobs.plan.done import DonePredictions, find_done
from jobs.run.writers import describe_writers
from jobs.settings import RunConfig
from jobs.stored_runs.layout import costs_in, tables_folder
from jobs.stored_runs.tables import describe_table

_SAMPLE_IMAGES = 8
_MB = 1 << 20


def cost_cache(config: RunConfig) -> CostCache:
    """Open the costs of members that earlier runs have measured."""
    return CostCache(costs_in(config.runs))


def plan(config: RunConfig, address: str | None = None, folder: Path | None = None) -> PlanDocument:
    """Plan a run from its config.

    Args:
        config: The settings of the run.
        address: The cluster to ask for its nodes, where the config does not say everything.
        folder: The run's folder; what the run has predicted there is left out.

    Raises:
        ClusterError: A member fits on no device, or the cluster does not answer.
    """
    source = open_source(config.image_source)
    splits = split(source.index(), config.images.split, config.seed)
    ids = [*splits.search.image_ids.tolist(), *splits.test.image_ids.tolist()]
    devices = find_devices(config.cluster, address)
    done = find_done(config, folder, ids) if folder else None
    placement, works, unknown = draft(config, devices, len(ids), len(splits.test.classes), done)
    disk = describe_table(config, tables_folder(config), len(ids), len(splits.test.classes))
    is_here = not is_named(address or ray_address())
    writers = describe_writers(tables_folder(config), is_here)
    notes = (*splits.notes, disk, writers, *((done.describe(len(ids)),) if done else ()))
    document = _document(config, source, ids, placement, works, unknown, notes)
    rows_done = sum(len(ids) - left for left in done.images_left.values()) if done else 0
    return document.model_copy(update={"rows_done": rows_done})


def show(document: PlanDocument, console: Console) -> None:
    """Print a plan as tables and lines."""
    plan_text.show(document, console)


def draft(
    config: RunConfig,
    devices: Sequence[Device],
    num_images: int,
    num_classes: int,
    done: DonePredictions | None = None,
) -> tuple[Plan, list[Work], tuple[str, ...]]:
    """Make a plan from what is known before any member is loaded.

    A cost that is not known is what the run itself measured, or the mean of those that are known.
    Members with nothing left to predict are in the plan no more.

    Returns:
        The plan, the work it was made for, and the members whose cost is not known.

    Raises:
        ClusterError: A member fits on no device.
    """
    costs = Costs(config.cluster, cost_cache(config))
    kinds = sorted({device.kind for device in devices})
    costs_by_member = {
        member.name: {kind: _known_cost(config, member, num_classes, costs, kind) for kind in kinds}
        for member in config.members
    }
    for name, pace in (done.images_per_s if done else {}).items():
        for kind in kinds:
            by_kind = costs_by_member[name]
            by_kind[kind] = by_kind[kind] or MemberCost(images_per_s=pace)
    known = [cost for by_kind in costs_by_member.values() for cost in by_kind.values() if cost]
    left = done.images_left if done else {member.name: num_images for member in config.members}
    unknown = tuple(
        name
        for name, by_kind in costs_by_member.items()
        if left[name] and not any(by_kind.values())
    )
    assumed = MemberCost(
        images_per_s=sum(f.images_per_s for f in known) / len(known) if known else 1.0,
        memory_mb=max((f.memory_mb for f in known), default=0.0),
    )
    blocks = len(plan_shards([""] * num_images, config.cluster.shard_images))
    works = []
    for member in config.members:
        by_kind = costs_by_member[member.name]
        any_kind = next((cost for cost in by_kind.values() if cost), assumed)
        filled = {kind: cost or any_kind for kind, cost in by_kind.items()}
        if not left[member.name]:
            continue
        seconds = {kind: left[member.name] / cost.images_per_s for kind, cost in filled.items()}
        largest = max(filled.values(), key=lambda cost: cost.memory_mb)
        works.append(
            Work(member.name, seconds, largest.memory_mb, max(1, blocks), largest.batch_mb)
        )
    return make_plan(works, devices, config.cluster.host_per), works, unknown


def _known_cost(
    config: RunConfig, member: MemberConfig, num_classes: int, costs: Costs, kind: str
) -> MemberCost | None:
    views = member.views or config.views
    precision = member.precision or config.precision
    if (
        isinstance(member.source, RecipeSource)
        and member.source.architecture
        and not (member.source.start)
    ):
        size = config.recipes[member.source.recipe].input_size
        architecture, parameters = member.source.architecture, None
    elif isinstance(member.source, CheckpointSource) and _is_own_file(member.source):
        metadata = read_metadata(Path(member.source.path))
        size = Preprocessing.model_validate_json(metadata["preprocessing"]).size
        architecture, parameters = metadata["architecture"], int(metadata["parameters"])
    elif (stated := _stated_network(member)) is not None:
        (architecture, size), parameters = stated, None
    else:
        return config.cluster.figures.get(member.name)
    key = costs.key(architecture, parameters, num_classes, size, views, precision, kind)
    return costs.find(member.name, key)


def _stated_network(member: MemberConfig) -> tuple[str, int] | None:
    """The architecture and input size that the config states of a checkpoint; None if it leaves one open."""
    size = member.preprocessing.size if member.preprocessing else None
    if not isinstance(member.source, CheckpointSource) or size is None:
        return None
    if member.source.architecture is None:
        return None
    # Here, because for timm's networks it imports timm, which takes seconds.
    from ensemble.models.libraries import at_size

    return at_size(member.source.architecture, size), size


def _is_own_file(source: CheckpointSource) -> bool:
    """Whether the file is here and says itself what it is."""
    return source.architecture is None and not source.path.startswith(S3_SCHEME)


def _document(
    config: RunConfig,
    source: Source,
    ids: Sequence[str],
    placement: Plan,
    works: Sequence[Work],
    unknown: tuple[str, ...],
    notes: Sequence[str],
) -> PlanDocument:
    settings, has_costs = config.cluster, not unknown
    sample = ids[:: max(1, len(ids) // _SAMPLE_IMAGES)][:_SAMPLE_IMAGES]
    decoded = decode_shard(source, ShardSpec(tuple(sample)))
    image_bytes = decoded.size_bytes / max(1, len(decoded))
    shards = len(plan_shards(ids, settings.shard_images))
    shard_mb = image_bytes * min(len(ids), settings.shard_images) / _MB
    in_flight = min(shards, max(2, int(settings.shard_window_mb / max(shard_mb, 1e-9))))
    lines = [
        plan_text.plan_line(placement, has_costs),
        *notes,
        f"{len(ids)} images in {shards} shards of {shard_mb:.3g} MB decoded; up to {in_flight} in "
        f"flight, {in_flight * shard_mb:.3g} MB of the {settings.object_store_mb} MB object store",
    ]
    if memory := plan_text.memory_line(placement):
        lines.append(memory)
    if unknown:
        lines.append(
            f"not known yet: the cost of {', '.join(unknown)}; a run measures it once and keeps it, "
            "or set cluster.figures"
        )
    bound = lower_bound(works, placement.devices)
    if has_costs and placement.waves:
        lines.append(
            f"no schedule on these devices takes less than {plan_text.describe_seconds(bound)}"
        )
    return PlanDocument(
        images=len(ids),
        has_costs=has_costs,
        unknown=unknown,
        waves=tuple(_wave(placement, number) for number in range(len(placement.waves))),
        seconds=placement.seconds if has_costs else None,
        lower_bound_s=bound if has_costs else None,
        gpu_hours=placement.gpu_hours if has_costs else None,
        shards=shards,
        shards_in_flight=in_flight,
        shard_mb=shard_mb,
        object_store_mb=in_flight * shard_mb,
        lines=tuple(lines),
    )


def _wave(placement: Plan, number: int) -> PlannedWave:
    wave = placement.waves[number]
    shares = {(share.device, share.member): share for share in wave}
    hosts = []
    for host in placement.hosts(number):
        device = placement.devices[host.device]
        placed = tuple(
            PlacedMember(
                name=name,
                fraction=(share := shares[host.device, name]).fraction,
                seconds=share.seconds,
                memory_mb=share.memory_mb if device.is_gpu else 0.0,
            )
            for name in host.members
        )
        hosts.append(
            PlannedHost(
                device=f"{device.kind} {host.device}",
                gpu_share=host.gpu_share,
                cpus=host.cpu_share,
                members=placed,
            )
        )
    return PlannedWave(seconds=max(placement.loads(wave)), hosts=tuple(hosts))
