from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from ensemble.images.shard import ImageShard
from ensemble.inference.predict import predict
from ensemble.inference.resized import MAX_RESIZED_PIXELS, ResizedShard, without_strips
from ensemble.members.member import Member
from ensemble.members.settings import Preprocessing
from ensemble.views.settings import Crop, Square, Whole

MakeMember = Callable[..., Member]
CPU = torch.device("cpu")


def shard(*sides: tuple[int, int]) -> ImageShard:
    images = [np.full((height, width, 3), 90, np.uint8) for height, width in sides]
    return ImageShard.pack([f"{height}x{width}" for height, width in sides], images)


def preprocessing(resize: int | None, size: int = 16) -> Preprocessing:
    return Preprocessing(size=size, resize=resize, mean=(0.5,) * 3, std=(0.5,) * 3)


def ids(shard: ImageShard) -> list[str]:
    return shard.image_ids.tolist()


def test_strip_that_resizing_would_blow_up_is_a_bad_image() -> None:
    found = without_strips(shard((1, 4000), (8, 8), (4000, 1)), preprocessing(256))
    assert ids(found) == ["8x8"]
    assert [bad.image_id for bad in found.bad] == ["1x4000", "4000x1"]
    assert found.bad[0].reason.startswith(
        "4000 x 1 pixels, which a short side of 256 makes 262144000, over 16777216; cut it"
    )


def test_bound_is_what_resizing_gives() -> None:
    widest = MAX_RESIZED_PIXELS // 256**2
    images = shard((1, widest), (1, widest + 1))
    assert ids(without_strips(images, preprocessing(256))) == [f"1x{widest}"]


def test_shard_without_a_strip_stays_the_shard_it_is() -> None:
    images = shard((300, 400), (20, 200))
    assert without_strips(images, preprocessing(256)) is images


def test_strip_is_no_matter_where_images_are_stretched_to_a_square() -> None:
    images = shard((1, 4000))
    assert without_strips(images, preprocessing(None)) is images


@pytest.mark.parametrize("view", [Whole(short_side=640), Crop(short_side=640, down=0.5, right=0.5)])
def test_largest_view_decides(view: Whole | Crop) -> None:
    images = shard((4, 400))
    assert without_strips(images, preprocessing(64), [Square()]) is images
    assert without_strips(images, preprocessing(64), [Square(), view]).bad


class MeanColour(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))


def test_member_has_a_reason_for_a_strip_and_a_row_for_every_other_image(
    make_member: MakeMember,
) -> None:
    member = make_member("made_up", 3, preprocessing=preprocessing(256))
    images = shard((8, 8), (1, 4000), (9, 9))
    block = predict(MeanColour(), member, images, CPU, ResizedShard(images, CPU))
    assert block.image_ids.tolist() == ["8x8", "9x9"]
    assert [bad.image_id for bad in block.bad] == ["1x4000"]
    assert block.log_probabilities.shape == (2, 3)
