import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.errors import ShapeError
from ensemble.images.shard import BadImage, ImageShard, plan_shards


@settings(deadline=None)
@given(
    sides=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=6),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_is_packed_comes_back(sides: list[tuple[int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (*side, 3), dtype=np.uint8) for side in sides]
    image_ids = [f"image-{i}" for i in range(len(images))]
    bad = [BadImage("z", "torn")]
    shard = ImageShard.pack(image_ids, images, bad)
    assert shard.image_ids.tolist() == image_ids
    assert len(shard) == len(images)
    assert shard.size_bytes == sum(image.nbytes for image in images)
    assert shard.bad == tuple(bad)
    for found, image in zip(shard.images(), images, strict=True):
        assert np.array_equal(found, image)


def test_image_that_is_not_contiguous_is_packed_as_it_looks() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)[::-1, ::2]
    (found,) = ImageShard.pack(["a"], [image]).images()
    assert np.array_equal(found, image)


def test_images_of_a_shard_are_views_and_not_copies() -> None:
    shard = ImageShard.pack(["a"], [np.zeros((2, 2, 3), np.uint8)])
    assert all(np.shares_memory(image, shard.pixels) for image in shard.images())


@pytest.mark.parametrize("num_bytes", [0, 11, 13])
def test_pixels_that_do_not_fit_the_sizes_are_refused(num_bytes: int) -> None:
    side = np.array([2])
    with pytest.raises(
        ShapeError, match=f"shard of 1 images needs 12 bytes of pixels, found {num_bytes}"
    ):
        ImageShard(np.array(["a"]), np.zeros(num_bytes, np.uint8), side, side)


@given(count=st.integers(0, 50), size=st.integers(1, 60))
def test_plan_holds_each_id_once_in_order(count: int, size: int) -> None:
    image_ids = [f"image-{i}" for i in range(count)]
    specs = plan_shards(image_ids, size)
    assert [image_id for spec in specs for image_id in spec.image_ids] == image_ids
    assert all(len(spec.image_ids) == size for spec in specs[:-1])
    assert all(0 < len(spec.image_ids) <= size for spec in specs)


def test_plan_holds_plain_text() -> None:
    (spec,) = plan_shards(np.array(["a", "b"]).tolist(), 2)
    assert [type(image_id) for image_id in spec.image_ids] == [str, str]
