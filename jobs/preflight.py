"""`ensemble doctor POOL --images …`: the preflight of every member of a pool, in this process."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, NonNegativeInt, PositiveInt
from rich.console import Console
from rich.text import Text

from ensemble.config import Config, check
from ensemble.errors import ConfigError
from ensemble.images.settings import SourceConfig
from ensemble.members import CenterView, MemberConfig
from ensemble.preflight import ALPHA, Verdict
from ensemble.sources.settings import WeightsConfig
from jobs.pools import load_pool
from jobs.search_settings import read_settings

SHARD_IMAGES = 64


class PreflightConfig(Config):
    """What `ensemble doctor POOL` may be told, of the form key=value."""

    probe: PositiveInt = 200
    """Images of the probe, drawn with every class in its share."""
    seed: NonNegativeInt = 0
    """Of the draw."""
    alpha: Annotated[float, Field(gt=0, lt=1)] = ALPHA
    """A member fails where errors like its own are rarer than this under its reference."""
    device: Literal["cpu", "cuda"] = "cpu"
    """What networks run on."""
    weights: WeightsConfig = WeightsConfig()
    """Where published weights are looked for, and what is trusted."""
    runs: Path = Path("runs")
    """The folder in whose cache weights are kept."""


class _Images(Config):
    source: SourceConfig


def preflight(
    pool: str, images: str, words: Sequence[str], tell: Callable[[Verdict], None]
) -> tuple[list[Verdict], PreflightConfig]:
    """Probe every member of a pool.

    Args:
        pool: Name of a pool, or the path of a YAML file with one.
        images: A folder with a sub-folder per class, a .parquet file, or a source's settings in YAML.
        words: Settings, of the form key=value.
        tell: Is told each verdict when it is there.

    Raises:
        ConfigError: A setting is wrong, or a member does not fit the images.
        CheckpointError: The weights of a member cannot be had.
    """
    config = check(PreflightConfig, read_settings(words), "the command")
    members, source = load_pool(pool), _read_images(images)
    # Here, because parsing must not pay for torch.
    import torch

    from ensemble import metrics
    from ensemble.images.shard import plan_shards
    from ensemble.images.sources import decode_shard, open_source
    from ensemble.images.split import stratified_sample
    from ensemble.members import load_member
    from ensemble.predict import predict
    from ensemble.preflight import judge
    from ensemble.sources.open import import_member
    from ensemble.training.member import load_network

    opened = open_source(source)
    probe = stratified_sample(opened.index(), config.probe, config.seed)
    shards = [
        decode_shard(opened, spec) for spec in plan_shards(probe.image_ids.tolist(), SHARD_IMAGES)
    ]
    label_by_id = dict(zip(probe.image_ids.tolist(), probe.labels.tolist(), strict=True))
    device, verdicts = torch.device(config.device), []
    for each in members:
        path = import_member(each, probe.classes, config.weights, config.runs / "cache")
        member = load_member(
            each.name,
            path,
            each.views or CenterView(),
            probe.sha256,
            trust_code=config.weights.trust_code,
        )
        network = load_network(member).to(device)
        ranks: list[int] = []
        for shard in shards:
            block = predict(network, member, shard, device)
            labels = [label_by_id[image_id] for image_id in block.image_ids.tolist()]
            ranks += metrics.ranks(block.log_probabilities, _as_array(labels)).tolist()
        verdicts.append(judge(each.name, _as_array(ranks), each.reference))
        tell(verdicts[-1])
    return verdicts, config
