"""`ensemble doctor POOL --images IMAGES`: hold each member of a pool to its published error, in this process."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt
from rich.console import Console

from ensemble.config import Config, check, load_words, parse_settings
from ensemble.errors import ConfigError, DataError
from ensemble.evaluation.preflight import ALPHA, Verdict, judge, probe
from ensemble.images.index import ImageIndex
from ensemble.images.open import decode_shard, open_source
from ensemble.images.settings import SourceConfig, with_storage
from ensemble.images.shard import BadImage, ImageShard, plan_shards
from ensemble.images.split import held_out, stratified_sample
from ensemble.members.settings import MemberConfig
from ensemble.members.source_settings import RecipeSource, WeightsConfig
from ensemble.storage.settings import S3Config
from ensemble.views.settings import CenterView
from jobs.pools import fetched, load_pool
from jobs.progress.live import working
from jobs.stored_runs.layout import cache_in

SHARD_IMAGES = 64

# How many images a line names before it only counts them.
_NUM_NAMED = 5


class PreflightConfig(Config):
    """Settings of `ensemble doctor POOL --images IMAGES`, given as key=value."""

    probe: PositiveInt = 200
    """Number of images to predict, drawn with every class in its share."""
    seed: NonNegativeInt = 0
    """Seed of the draw of images."""
    alpha: Annotated[float, Field(gt=0, lt=1)] = ALPHA
    """A member fails if so many errors, under its published error, have a probability below this."""
    device: Literal["cpu", "cuda"] = "cpu"
    """The device that networks run on."""
    weights: WeightsConfig = WeightsConfig()
    """Where published weights are looked for, and what is trusted."""
    storage: S3Config = S3Config()
    """How images and checkpoints at s3:// are reached."""
    runs: Path = Path("runs")
    """The folder in whose cache weights are kept."""


class _Images(Config):
    source: SourceConfig


def preflight(
    pool: str, images: str, words: Sequence[str], console: Console, as_json: bool
) -> bool:
    """Probe every member of a pool, print a line for each, and tell whether all of them passed.

    Args:
        pool: Name of a pool, or the path of a YAML file with one.
        images: A folder with a sub-folder per class, a .parquet file, or a source's settings in YAML.
        words: Settings, of the form key=value.
        console: Where the lines go.
        as_json: Print one JSON document instead.

    Raises:
        ConfigError: A setting is wrong, or a member does not fit the images.
        CheckpointError: The weights of a member are missing, or cannot be loaded.
    """
    config = load_words(PreflightConfig, words)
    members, source = load_pool(pool), with_storage(read_images(images), config.storage)
    _check_is_there(members)
    probed = _decode_sample(source, config)
    if not as_json:
        for line in (*probed.images.notes, *_bad_line(probed.bad)):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
    verdicts, bad_by_member, lines = [], {}, list[str]()
    with working("doctor", f"examine {pool} on {images}", len(members), "members") as stage:
        for verdict, strips in _examine(members, probed, config):
            verdicts.append(verdict)
            bad_by_member[verdict.member] = (*probed.bad, *strips)
            line = describe(verdict, config.alpha, len(bad_by_member[verdict.member]))
            lines += [*_bad_line(strips), line]
            stage.advance()
    # After the progress, so that verdicts are the last that a log says.
    for line in () if as_json else lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if as_json:
        document = [
            asdict(verdict)
            | {
                "reference": verdict.reference and verdict.reference.model_dump(),
                "is_passed": verdict.is_passed(config.alpha),
                "bad_images": [asdict(bad) for bad in bad_by_member[verdict.member]],
            }
            for verdict in verdicts
        ]
        console.print(json.dumps(document, indent=2), soft_wrap=True, highlight=False, markup=False)
    return all(verdict.is_passed(config.alpha) for verdict in verdicts)


def describe(verdict: Verdict, alpha: float, num_bad: int = 0) -> str:
    """Describe the verdict on a member in one line.

    Args:
        verdict: The errors of the member, and those that are published.
        alpha: Level of significance.
        num_bad: Number of images that were left out because they cannot be decoded.
    """
    n, reference = verdict.num_images, verdict.reference
    line = f"{verdict.member}: top-1 error {verdict.top1_errors / n:.1%}"
    if verdict.has_top5:
        line += f", top-5 error {verdict.top5_errors / n:.1%}"
    line += f" on {n} images"
    if num_bad:
        line += f" ({num_bad} that cannot be decoded left out)"
    if reference is not None:
        line += f"; reference {reference.top1_error:g} %"
        if reference.top5_error is not None:
            line += f" and {reference.top5_error:g} %"
        line += f", p = {verdict.p_value:.1g}"
    if verdict.num_broken:
        return (
            f"FAIL {line}. It predicts NaN or infinity on {verdict.num_broken} of them: give other weights, "
            "or precision: float32."
        )
    if reference is None or verdict.p_value is None:
        return f"?    {line}; no reference to hold it to"
    if verdict.is_passed(alpha):
        return f"ok   {line}"
    return (
        f"FAIL {line}. Check the resize, the order of channels, the mean and std, and what its outputs "
        "stand for."
    )


@dataclass(frozen=True)
class _Probed:
    """The images that members are probed on.

    Attributes:
        images: Ids and labels of the sample.
        shards: The sample, decoded.
        bad: What cannot be decoded: of the sample, and links that lead nowhere.
    """

    images: ImageIndex
    shards: tuple[ImageShard, ...]
    bad: tuple[BadImage, ...]


def _bad_line(images: Sequence[BadImage]) -> Iterator[str]:
    """Name the images that are left out in a line, if there are any."""
    if images:
        named = "; ".join(f"{bad.image_id}: {bad.reason}" for bad in images[:_NUM_NAMED])
        more = " …" if len(images) > _NUM_NAMED else ""
        yield f"{len(images)} images cannot be decoded and are left out: {named}{more}"


def _check_is_there(members: Sequence[MemberConfig]) -> None:
    """Refuse members that have no weights yet.

    Raises:
        ConfigError: A run would train a member.
    """
    if trained := [each.name for each in members if isinstance(each.source, RecipeSource)]:
        raise ConfigError(
            f"{', '.join(trained)}: trained by the run that uses them, so there is nothing to probe "
            "yet. Leave them out of the pool that is examined."
        )


def _decode_sample(source: SourceConfig, config: PreflightConfig) -> _Probed:
    """Draw and decode the images that members are probed on: none of a train folder, if there is another.

    Raises:
        DataError: None of them can be decoded.
    """
    opened = open_source(source)
    images = stratified_sample(held_out(opened.index()), config.probe, config.seed)
    specs = plan_shards(images.image_ids.tolist(), SHARD_IMAGES)
    shards = tuple(decode_shard(opened, spec) for spec in specs)
    bad = (*images.bad, *(bad for shard in shards for bad in shard.bad))
    if not any(len(shard) for shard in shards):
        named = f": {bad[0].image_id}: {bad[0].reason}" if bad else ""
        raise DataError(
            f"none of the {len(images)} images drawn can be decoded{named}. Expected images to probe "
            "members on; give others by --images."
        )
    return _Probed(images, shards, bad)


def _examine(
    members: Sequence[MemberConfig], probed: _Probed, config: PreflightConfig
) -> Iterator[tuple[Verdict, tuple[BadImage, ...]]]:
    """Judge each member; beside the verdict, the images that are too thin for it."""
    # Here, because parsing must not pay for torch.
    import torch

    from ensemble.checkpoints.load import load_member, load_network
    from ensemble.inference.resized import without_strips
    from ensemble.pretrained.describe_member import describe as describe_source
    from ensemble.pretrained.import_member import import_member

    images, shards, device = probed.images, probed.shards, torch.device(config.device)
    label_by_id = dict(zip(images.image_ids.tolist(), images.labels.tolist(), strict=True))
    trust = config.weights.trust_code
    cache = cache_in(config.runs)
    for each in (fetched(member, config.storage, cache) for member in members):
        path = import_member(each, images.classes, config.weights, cache)
        # One crop, whatever the member's views: that is what published figures are of.
        member = load_member(each.name, path, CenterView(), images.sha256, trust_code=trust)
        fit = [without_strips(shard, member.preprocessing) for shard in shards]
        strips = tuple(set(chain(*(s.bad for s in fit))) - set(chain(*(s.bad for s in shards))))
        if not any(len(shard) for shard in fit):
            raise DataError(f"{each.name}: no image can be resized: {strips[0].reason}.")
        network = load_network(member).to(device)
        ranks = probe(network, member, fit, label_by_id, device)
        reference = each.reference or describe_source(each, config.weights).reference
        yield judge(each.name, ranks, reference, len(images.classes)), strips


def read_images(text: str) -> SourceConfig:
    """Read which images are meant by one word: a folder, a .parquet file, or a source's settings.

    Raises:
        ConfigError: The settings are not those of a source.
    """
    if text.lstrip().startswith("{"):
        settings = parse_settings(text, f"--images {text!r}")
    else:
        kind = "parquet" if text.endswith(".parquet") else "folder"
        settings = {"kind": kind, "path": text}
    return check(_Images, {"source": settings}, "--images").source
