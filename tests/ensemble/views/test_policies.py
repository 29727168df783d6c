import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ensemble.views.policies import describe_views, list_views, relative_cost, weigh_views
from ensemble.views.settings import (
    CenterView,
    Crop,
    Crops144,
    DenseAndMultiCrop,
    DenseViews,
    FlipViews,
    ListedViews,
    MultiCrop,
    MultiScale,
    ShiftsAndScales,
    Square,
    TenCrop,
    Views,
    Whole,
)

COUNTS: dict[Views, int] = {
    CenterView(): 1,
    FlipViews(): 2,
    ShiftsAndScales(scales=(0.9,)): 6,
    TenCrop(): 10,
    Crops144(): 144,
    DenseViews(): 5,
    DenseViews(flip=True): 10,
    MultiScale(): 6,
    MultiScale(trained_at=384): 6,
    MultiCrop(): 150,
    DenseAndMultiCrop(): 156,
    Square(): 1,
    Crop(short_side=640): 1,
    Whole(short_side=640): 1,
    ListedViews(views=(TenCrop(), Whole(short_side=640))): 11,
}


@pytest.mark.parametrize("views", COUNTS, ids=lambda views: views.kind)
@pytest.mark.parametrize("size", [16, 224, 299, 320])
def test_policy_stands_for_its_views_whose_shares_sum_to_one(views: Views, size: int) -> None:
    weighed = weigh_views(views, size)
    assert len(weighed) == COUNTS[views]
    assert sum(share for _, share in weighed) == pytest.approx(1)
    assert tuple(view for view, _ in weighed) == list_views(views, size)
    assert len({view.label for view, _ in weighed}) == len(weighed)


def test_sides_are_the_papers_at_224_and_grow_with_the_input() -> None:
    def sides(views: Views, size: int) -> list[int]:
        found = [v.short_side for v in list_views(views, size) if not isinstance(v, Square)]
        return sorted(set(found))

    assert sides(DenseViews(), 224) == [224, 256, 384, 480, 640]
    assert sides(Crops144(), 224) == [256, 288, 320, 352]
    assert sides(MultiScale(), 224) == sides(MultiCrop(), 224) == [256, 384, 512]
    assert sides(MultiScale(trained_at=384), 299) == [352, 384, 416]
    assert sides(TenCrop(), 299) == [342]
    assert sides(DenseViews(short_sides=(300,)), 299) == [300]


def test_untouched_image_is_the_first_view_of_all() -> None:
    assert list_views(CenterView()) == list_views(ShiftsAndScales(shift=0)) == (Square(),)
    assert list_views(FlipViews()) == (Square(), Square(flip=True))
    listed = list_views(ShiftsAndScales(shift=2, scales=(0.9, 1.1)))
    assert listed[0] == Square()
    moves = {(view.right, view.down) for view in listed[1:5] if isinstance(view, Square)}
    assert moves == {(-2, 0), (2, 0), (0, -2), (0, 2)}
    assert listed[5:] == (Square(scale=0.9), Square(scale=1.1))


@given(st.sampled_from(list(COUNTS)))
def test_views_survive_json_and_their_single_views_do_as_views(views: Views) -> None:
    adapter: TypeAdapter[Views] = TypeAdapter(Views)
    assert adapter.validate_json(adapter.dump_json(views)) == views
    for view in list_views(views):
        assert adapter.validate_json(adapter.dump_json(view)) == view
        assert list_views(view) == (view,)


def test_cost_counts_the_pixels_that_a_network_sees() -> None:
    assert relative_cost(TenCrop()) == 10
    assert relative_cost(DenseViews(short_sides=(448, 224), flip=True)) == 10
    assert relative_cost(DenseViews(short_sides=(32,)), 16) == 4


def test_entry_of_a_list_has_no_average_of_its_own() -> None:
    with pytest.raises(ValidationError, match="'ten_crop' sets average or keep_views; say it"):
        ListedViews(views=(TenCrop(average="geometric"),))


@pytest.mark.parametrize(
    ("views", "words"),
    [
        (CenterView(), "centre"),
        (FlipViews(), "centre + flip"),
        (ShiftsAndScales(shift=2), "centre + shifts of 2 px"),
        (ShiftsAndScales(scales=(0.9, 1.25)), "centre + shifts of 1 px + scales 0.9, 1.25"),
        (ShiftsAndScales(shift=0, scales=(0.9,)), "centre + scales 0.9"),
        (TenCrop(), "ten-crop at 256 + flip"),
        (Crops144(average="geometric"), "144 crops at 256, 288, 320, 352 + flip, geometric mean"),
        (DenseViews(), "dense at 224, 256, 384, 480, 640"),
        (DenseAndMultiCrop(), "dense+multi-crop at 256, 384, 512 + flip"),
        (ListedViews(views=(CenterView(), Whole(short_side=640))), "centre + dense640"),
        (Crop(short_side=256, along=0, down=1, right=0), "crop256-square0-1-0"),
        (Square(right=-1, flip=True), "center-right-1-down0-flip"),
    ],
)
def test_views_are_told_in_words(views: Views, words: str) -> None:
    assert describe_views(views) == words
