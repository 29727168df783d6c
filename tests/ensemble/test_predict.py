from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import nn

from ensemble import models
from ensemble.images.digits import open_source
from ensemble.images.settings import DigitsConfig
from ensemble.images.shard import BadImage, ImageShard, plan_shards
from ensemble.images.sources import decode_shard
from ensemble.members import Member, ShiftsAndScales, list_views
from ensemble.predict import BATCH_IMAGES, count_flops, predict, predict_input
from ensemble.views import apply_view, normalise

MakeMember = Callable[..., Member]

CPU = torch.device("cpu")
SOURCE = open_source(DigitsConfig())
IDS = SOURCE.index().image_ids[:300].tolist()


class Linear(nn.Module):
    """Logits that are linear in the pixels."""

    def __init__(self, num_classes: int, size: int = 16) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.randn(3 * size * size, num_classes, generator=generator) / 20

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) @ self.weight


def predicted(
    network: nn.Module, member: Member, image_ids: Sequence[str], shard_images: int
) -> dict[str, bytes]:
    """Log-probabilities to the bit, by image id."""
    rows: dict[str, bytes] = {}
    for spec in plan_shards(image_ids, shard_images):
        block = predict(network, member, decode_shard(SOURCE, spec), CPU)
        parts = zip(block.image_ids.tolist(), block.log_probabilities, strict=True)
        rows |= {image_id: row.tobytes() for image_id, row in parts}
    return rows


# Sub-classifiers have fewer outputs, and a kernel of its own may compute them.
@pytest.mark.parametrize(
    ("architecture", "num_classes"),
    [*((name, 10) for name in models.known()), ("densenet_small", 3), ("vgg11_small", 3)],
)
def test_predictions_are_the_same_to_the_bit_whatever_the_shards_and_their_order(
    make_member: MakeMember, architecture: str, num_classes: int
) -> None:
    network = models.build(architecture, num_classes, seed=1).eval()
    member = make_member(architecture, num_classes)
    expected = predicted(network, member, IDS, 256)
    shuffled = np.random.default_rng(0).permutation(IDS).tolist()
    assert len(expected) == 300
    assert predicted(network, member, IDS, 100) == expected
    assert predicted(network, member, shuffled, 64) == expected


def test_views_are_averaged_as_probabilities(make_member: MakeMember) -> None:
    member = make_member(views=ShiftsAndScales(shift=2, scales=(0.8, 1.3)))
    images = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    network = Linear(3)
    each = [
        torch.softmax(network(normalise(apply_view(images, view), member.preprocessing)), dim=1)
        for view in list_views(member.views)
    ]
    expected = torch.stack(each).double().mean(dim=0).log().numpy()
    found = predict_input(network, member, images)
    assert len(each) == 7
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, atol=1e-5)


def test_extreme_logits_do_not_overflow(make_member: MakeMember) -> None:
    def network(images: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[1e4, 0.0, -1e4]]).expand(len(images), 3)

    member = make_member(views=ShiftsAndScales(shift=1))
    rows = predict_input(network, member, torch.zeros(2, 3, 16, 16))
    np.testing.assert_allclose(rows, [[0, -1e4, -2e4]] * 2)


def test_network_sees_full_batches_only(make_member: MakeMember) -> None:
    sizes: list[int] = []

    def network(images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return torch.zeros(len(images), 3)

    rows = predict_input(network, make_member(), torch.zeros(BATCH_IMAGES + 1, 3, 16, 16))
    assert sizes == [BATCH_IMAGES, BATCH_IMAGES]
    assert rows.shape == (BATCH_IMAGES + 1, 3)


def test_block_says_whose_rows_it_has_and_what_they_cost(make_member: MakeMember) -> None:
    member = make_member(views=ShiftsAndScales(shift=1))
    image = np.zeros((8, 8, 3), np.uint8)
    bad = BadImage("c", "torn")
    block = predict(Linear(3), member, ImageShard.pack(["a", "b"], [image, image], [bad]), CPU)
    assert block.column == member.column
    assert block.image_ids.tolist() == ["a", "b"]
    assert block.bad == (bad,)
    assert block.forward_passes == 2 * 5
    assert block.seconds > 0


def test_shard_of_bad_images_only_gives_a_block_without_rows(make_member: MakeMember) -> None:
    shard = ImageShard.pack([], [], [BadImage("a", "torn")])
    block = predict(Linear(3), make_member(), shard, CPU)
    assert block.log_probabilities.shape == (0, 3)
    assert block.forward_passes == 0


def test_flops_are_those_of_the_matrix_product_for_every_view(make_member: MakeMember) -> None:
    member = make_member("linear", 10)
    size, num_views = member.preprocessing.size, len(list_views(member.views))
    counted = count_flops(Linear(10, size), member, CPU)
    assert counted == 2 * 3 * size * size * 10 * num_views
    shard = decode_shard(SOURCE, plan_shards(IDS, 4)[0])
    block = predict(Linear(10, size), member, shard, CPU, counted)
    assert (block.flops_per_image, block.gpu_bytes) == (counted, None)
