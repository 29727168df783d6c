"""Small classifiers of every source, with weights drawn at random."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ensemble.checkpoints.load import load_member, load_network
from ensemble.images.shard import ImageShard
from ensemble.inference.predict import predict
from ensemble.members.member import Member
from ensemble.members.settings import MemberConfig
from ensemble.members.source_settings import WeightsConfig
from ensemble.pretrained.import_member import import_member
from ensemble.views.settings import CenterView

CLASSES = tuple("abcdefg")
PREPROCESSING = {"size": 32, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}

Import = Callable[..., Member]


@pytest.fixture
def weights(tmp_path: Path) -> WeightsConfig:
    (tmp_path / "mirror").mkdir()
    return WeightsConfig(mirror=tmp_path / "mirror")


@pytest.fixture
def bring(tmp_path: Path, weights: WeightsConfig) -> Import:
    """A member of a source, by way of its checkpoint."""

    def bring_in(
        source: object,
        classes: tuple[str, ...] = CLASSES,
        trust_code: bool = False,
        **settings: object,
    ) -> Member:
        config = MemberConfig.model_validate({"name": "m", "source": source} | settings)
        trusted = weights.model_copy(update={"trust_code": trust_code})
        path = import_member(config, classes, trusted, tmp_path / "cache")
        return load_member("m", path, CenterView(), "d" * 64, trust_code=trust_code)

    return bring_in


@pytest.fixture(scope="session")
def photographs() -> ImageShard:
    from sklearn.datasets import load_sample_images

    images = [image[:160, 100:340] for image in load_sample_images().images]
    return ImageShard.pack(["china", "flower"], images)


def answers(member: Member, shard: ImageShard) -> np.ndarray:
    """What a member says, loaded as a host loads it."""
    network = load_network(member)
    return predict(network, member, shard, torch.device("cpu")).log_probabilities


@pytest.fixture(autouse=True)
def _generator_left_alone() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


class Tiny(nn.Module):
    """As little as is a classifier."""

    def __init__(self, num_classes: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(images).relu().mean(dim=(2, 3)))


class Probabilities(Tiny):
    """A classifier that ends in a softmax."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images).softmax(dim=1)
