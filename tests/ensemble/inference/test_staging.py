"""Copies to a device; those that need a GPU skip themselves without one."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ensemble.images.shard import ImageShard
from ensemble.inference.predict import predict
from ensemble.inference.resized import ResizedShard
from ensemble.inference.staging import Staging, index_of
from ensemble.inference.transforms import join_normalised, normalise_
from ensemble.members.member import Member
from ensemble.members.settings import Preprocessing
from ensemble.models import registry as models
from ensemble.views.settings import DenseViews, ListedViews, ShiftsAndScales, TenCrop

MakeMember = Callable[..., Member]

CPU = torch.device("cpu")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def pictures(count: int, height: int, width: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return list(rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True))
def test_index_takes_the_rows_in_their_order(rows: list[int]) -> None:
    tensor = torch.arange(20).reshape(10, 2)
    index = index_of(rows, CPU)
    assert tensor[index].tolist() == [tensor[row].tolist() for row in rows]
    assert isinstance(index, slice) == (rows == list(range(rows[0], rows[0] + len(rows))))


def test_stacked_images_are_the_images() -> None:
    images = pictures(3, 5, 7)
    assert np.array_equal(Staging(CPU).stack(images).numpy(), np.stack(images))


def test_batch_is_normalised_to_the_bit_as_one_that_was_black() -> None:
    to = Preprocessing(size=6, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    images = torch.rand(5, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    black = torch.zeros(8, 3, 6, 6)
    for places in ([0, 1, 2], [0, 2, 4]):
        others = sorted({0, 1, 2, 3, 4} - set(places))
        parts = [(index_of(p, CPU), images[: len(p)]) for p in (places, others)]
        expected = black.clone()
        for index, part in parts:
            expected[index] = part
        assert torch.equal(join_normalised(parts, 8, to), normalise_(expected, to))
    assert torch.equal(images, before)


@pytest.mark.gpu
@needs_cuda
def test_copies_arrive_whole_while_the_device_computes() -> None:
    device = torch.device("cuda")
    staging, busy = Staging(device), torch.rand(2048, 2048, device=device)
    expected = [np.stack(pictures(16, 300, 400, seed)) for seed in range(12)]
    arrived = []
    for images in expected:
        busy = (busy @ busy).clamp(0, 1)
        # A copy that is read too early, or whose memory is given away too early, shows here.
        arrived.append(staging.stack(list(images)).to(torch.int32) * 2)
    for found, images in zip(arrived, expected, strict=True):
        assert np.array_equal(found.cpu().numpy(), images.astype(np.int32) * 2)


@pytest.mark.gpu
@needs_cuda
def test_gpu_says_what_the_cpu_says(make_member: MakeMember) -> None:
    views = ListedViews(
        views=(TenCrop(short_side=18), DenseViews(short_sides=(20,)), ShiftsAndScales())
    )
    network = models.build("resnet14_small", 3, seed=1).eval()
    member = make_member(views=views)
    images = [image for i in range(50) for image in pictures(3, 20 + i % 3, 24, seed=i)]
    shard = ImageShard.pack([f"{i:03d}" for i in range(len(images))], images)
    expected = predict(network, member, shard, CPU).log_probabilities
    device = torch.device("cuda")
    shared = ResizedShard(shard, device)
    for _ in range(2):
        found = predict(network.to(device), member, shard, device, shared).log_probabilities
        np.testing.assert_allclose(found, expected, atol=1e-2)
