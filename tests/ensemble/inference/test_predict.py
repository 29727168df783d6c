from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import nn

from ensemble.errors import ConfigError, ShapeError
from ensemble.images.open import decode_shard
from ensemble.images.settings import DigitsConfig
from ensemble.images.shard import BadImage, ImageShard, plan_shards
from ensemble.images.sources.digits import open_source
from ensemble.inference.predict import BATCH_IMAGES, count_flops, predict
from ensemble.inference.resized import ResizedShard
from ensemble.inference.transforms import normalise_, show, to_input
from ensemble.members.member import Member
from ensemble.members.settings import Preprocessing
from ensemble.models import registry as models
from ensemble.views.policies import list_views, weigh_views
from ensemble.views.settings import (
    Crop,
    DenseAndMultiCrop,
    DenseViews,
    FlipViews,
    ListedViews,
    ShiftsAndScales,
    Square,
    TenCrop,
    Views,
    Whole,
)

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
    [*((name, 10) for name in sorted(models.SMALL)), ("densenet_small", 3), ("vgg11_small", 3)],
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


SIDES = [(20, 31), (31, 20), (24, 24)]


def photographs(count: int, seed: int = 0) -> ImageShard:
    rng = np.random.default_rng(seed)
    images = [
        rng.integers(0, 256, (*SIDES[i % len(SIDES)], 3), dtype=np.uint8) for i in range(count)
    ]
    return ImageShard.pack([f"{i:03d}" for i in range(count)], images)


def taken(shard: ImageShard, rows: Sequence[int]) -> ImageShard:
    images = list(shard.images())
    return ImageShard.pack([shard.image_ids[row] for row in rows], [images[row] for row in rows])


DENSE = DenseViews(short_sides=(20,), flip=True)


LISTED = ListedViews(views=(TenCrop(short_side=18), FlipViews(), DENSE), average="geometric")


@pytest.mark.parametrize(
    ("architecture", "views"),
    [("resnet14_small", DENSE), ("alexnet_small", DENSE), ("mobilenet_v2_small", LISTED)],
)
def test_photographs_of_any_size_are_said_the_same_of_to_the_bit_in_any_company(
    make_member: MakeMember, architecture: str, views: Views
) -> None:
    network = models.build(architecture, 10, seed=1).eval()
    member = make_member(architecture, 10, views=views)
    shard = photographs(80)
    expected = predict(network, member, shard, CPU).log_probabilities
    order = np.random.default_rng(3).permutation(80).tolist()
    for rows in (order[:7], order[7:]):
        found = predict(network, member, taken(shard, rows), CPU).log_probabilities
        assert found.tobytes() == expected[rows].tobytes()


def test_views_are_averaged_as_probabilities(make_member: MakeMember) -> None:
    member = make_member(views=ShiftsAndScales(shift=2, scales=(0.8, 1.3)))
    shard, network = photographs(5), Linear(3)
    to = member.preprocessing
    each = [
        torch.softmax(network(normalise_(show(to_input([shard], 16), view, to).clone(), to)), dim=1)
        for view in list_views(member.views)
    ]
    expected = torch.stack(each).double().mean(dim=0).log().numpy()
    found = predict(network, member, shard, CPU).log_probabilities
    assert len(each) == 7
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, atol=1e-5)


def test_every_part_of_a_list_has_its_share_and_the_geometric_mean_sums_to_one(
    make_member: MakeMember,
) -> None:
    network = models.build("resnet14_small", 3, seed=1).eval()
    shard = photographs(4)

    def logs(views: Views) -> np.ndarray:
        return predict(network, make_member(views=views), shard, CPU).log_probabilities

    views = DenseAndMultiCrop(short_sides=(18, 20), grid=2)
    dense = [Whole(short_side=side, flip=flip) for side in (18, 20) for flip in (False, True)]
    crops = [
        Crop(short_side=side, down=down, right=right, flip=flip)
        for side in (18, 20)
        for down in (0.0, 1.0)
        for right in (0.0, 1.0)
        for flip in (False, True)
    ]
    halves = [np.mean([np.exp(logs(view)) for view in part], axis=0) for part in (dense, crops)]
    np.testing.assert_allclose(np.exp(logs(views)), sum(halves) / 2, atol=1e-6)
    shares = {type(view).__name__: share for view, share in weigh_views(views, 16)}
    assert shares == pytest.approx({"Whole": 1 / 8, "Crop": 1 / 32})
    geometric = np.exp(
        (np.mean([logs(v) for v in dense], axis=0) + np.mean([logs(v) for v in crops], axis=0)) / 2
    )
    found = np.exp(logs(views.model_copy(update={"average": "geometric"})))
    np.testing.assert_allclose(found, geometric / geometric.sum(axis=1)[:, None], atol=1e-6)


def test_dense_view_of_the_training_size_is_the_plain_one(make_member: MakeMember) -> None:
    network = models.build("inception_v3_small", 3, seed=1).eval()
    shard = taken(photographs(9), [2, 8])
    assert [image.shape for image in shard.images()] == [(24, 24, 3)] * 2
    whole = predict(network, make_member(views=Whole(short_side=16)), shard, CPU)
    plain = predict(network, make_member(), shard, CPU)
    np.testing.assert_allclose(whole.log_probabilities, plain.log_probabilities, atol=1e-5)


def test_square_is_the_input_that_members_are_trained_on(make_member: MakeMember) -> None:
    to = Preprocessing(size=16, resize=18, mean=(0, 0, 0), std=(1, 1, 1))
    shard, network = photographs(6), Linear(3)
    for preprocessing in (to, to.model_copy(update={"resize": None})):
        member = make_member(preprocessing=preprocessing)
        expected = network(to_input([shard], 16, preprocessing.resize))
        found = predict(network, member, shard, CPU).log_probabilities
        np.testing.assert_allclose(found, torch.log_softmax(expected, 1).numpy(), atol=1e-5)


class Constant(nn.Module):
    """The same logits for every image, and the sizes of the batches it saw."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits, self.sizes = torch.tensor([logits]), []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(images))
        return self.logits.expand(len(images), -1)


def test_extreme_logits_do_not_overflow(make_member: MakeMember) -> None:
    member = make_member(views=ShiftsAndScales(shift=1))
    rows = predict(Constant(1e4, 0.0, -1e4), member, photographs(2), CPU).log_probabilities
    np.testing.assert_allclose(rows, [[0, -1e4, -2e4]] * 2)


def test_network_sees_full_batches_only(make_member: MakeMember) -> None:
    network = Constant(0.0, 0.0, 0.0)
    block = predict(network, make_member(), photographs(BATCH_IMAGES + 1), CPU)
    assert network.sizes == [BATCH_IMAGES, BATCH_IMAGES]
    assert block.log_probabilities.shape == (BATCH_IMAGES + 1, 3)


def test_network_of_other_classes_is_refused(make_member: MakeMember) -> None:
    with pytest.raises(ShapeError, match=r"gives 2 numbers an image, and its member has 3 classes"):
        predict(Constant(0.0, 0.0), make_member(), photographs(1), CPU)


def test_view_that_reaches_beyond_the_image_is_refused(make_member: MakeMember) -> None:
    network = models.build("resnet14_small", 3).eval()
    for views in (TenCrop(short_side=15), Whole(short_side=15)):
        with pytest.raises(ConfigError, match=r"short side is 15 pixels, .* input is 16 x 16\."):
            predict(network, make_member(views=views), photographs(1), CPU)


def test_resized_images_are_shared_and_bounded(make_member: MakeMember) -> None:
    shard = photographs(8)
    network = models.build("resnet14_small", 3, seed=1).eval()
    member = make_member(views=ListedViews(views=(DENSE, Square())))
    alone = predict(network, member, shard, CPU).log_probabilities
    for cache_bytes in (0, 30_000, 10**9):
        shared = ResizedShard(shard, CPU, cache_bytes)
        for _ in range(2):
            found = predict(network, member, shard, CPU, shared).log_probabilities
            assert found.tobytes() == alone.tobytes()
    same = shared.by_shape(range(8))[0]
    assert same == (0, 3, 6)
    assert shared.at(same, (16,), "bilinear") is shared.at(same, (16,), "bilinear")
    bounded = ResizedShard(shard, CPU, 0)
    assert bounded.at(same, (16,), "bilinear") is not bounded.at(same, (16,), "bilinear")


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
    block = predict(Linear(10, size), member, shard, CPU, flops_per_image=counted)
    assert (block.flops_per_image, block.gpu_bytes) == (counted, None)
