from pathlib import Path

import pytest

from cluster.crew import LeftOut
from ensemble.errors import PartialError
from ensemble.images.shard import ShardSpec
from ensemble.members import Member, Preprocessing
from ensemble.view_settings import CenterView
from jobs.partial import left_out_images

MEMBER = Member(
    name="fragile",
    architecture="none",
    classes=(0, 1),
    checkpoint=Path("none"),
    weights_sha256="none",
    head="none",
    parameters=1,
    preprocessing=Preprocessing(size=8, mean=(0, 0, 0), std=(1, 1, 1)),
    views=CenterView(),
    data_sha256="none",
)
LEFT_OUT = [LeftOut(MEMBER, ShardSpec(("a", "b", "c")), "It died.")]


def test_what_is_missing_is_said_with_the_reason_and_the_way_out() -> None:
    expected = r"1 blocks are missing.*'fragile' on 3 images from 'a' to 'c' \(It died\.\).*--allow"
    with pytest.raises(PartialError, match=expected):
        left_out_images(LEFT_OUT, allow_partial=False)


def test_where_that_is_allowed_the_images_are_left_out() -> None:
    images = left_out_images(LEFT_OUT, allow_partial=True)
    assert [image.image_id for image in images] == ["a", "b", "c"]
    assert {image.reason for image in images} == {
        "predicting its shard with fragile killed the worker"
    }


def test_nothing_missing_is_nothing_to_say() -> None:
    assert left_out_images([], allow_partial=False) == ()
