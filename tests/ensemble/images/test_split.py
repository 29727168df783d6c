import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.errors import EmptySplitError
from ensemble.images.index import ImageIndex
from ensemble.images.settings import DigitsConfig, SplitConfig
from ensemble.images.sources.digits import open_source
from ensemble.images.split import Splits, split, stratified_sample


def index(counts: list[int], seed: int = 0) -> ImageIndex:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    image_ids = np.array([f"image-{i:04d}" for i in range(len(labels))])
    return ImageIndex("made up", image_ids, labels, tuple(f"class-{i}" for i in range(len(counts))))


def parts(splits: Splits) -> list[list[str]]:
    return [part.image_ids.tolist() for part in (splits.train, splits.search, splits.test)]


def largest_deviation(whole: ImageIndex, splits: Splits) -> float:
    """How far a split is from a class's share of it, at the most; in images."""
    counts = np.bincount(whole.labels)
    return max(
        np.abs(np.bincount(p.labels, minlength=len(counts)) - counts * len(p) / len(whole)).max()
        for p in (splits.train, splits.search, splits.test)
    )


@settings(deadline=None)
@given(
    num_classes=st.integers(2, 12),
    per_class=st.integers(9, 30),
    shares=st.tuples(st.floats(0.25, 0.4), st.floats(0.25, 0.4)),
    seed=st.integers(0, 2**32 - 1),
)
def test_splits_are_disjoint_and_hold_each_class_in_its_share(
    num_classes: int, per_class: int, shares: tuple[float, float], seed: int
) -> None:
    whole = index([per_class] * num_classes, seed)
    train, search = (int(share * len(whole)) for share in shares)
    splits = split(whole, SplitConfig(train=train, search=search), seed)
    found = parts(splits)
    assert [len(part) for part in found] == [train, search, len(whole) - train - search]
    assert sorted(image_id for part in found for image_id in part) == whole.image_ids.tolist()
    assert largest_deviation(whole, splits) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_digits_are_split_by_share_too(seed: int) -> None:
    whole = open_source(DigitsConfig()).index()
    splits = split(whole, SplitConfig(train=200, search=600), seed)
    assert largest_deviation(whole, splits) < 1.5
    assert all(part.image_ids.tolist() == sorted(part.image_ids.tolist()) for part in _all(splits))


def test_labels_stay_with_their_images() -> None:
    whole = index([20, 30, 40])
    label_by_id = dict(zip(whole.image_ids.tolist(), whole.labels.tolist(), strict=True))
    for part in _all(split(whole, SplitConfig(train=30, search=30, test=20), 0)):
        assert [label_by_id[i] for i in part.image_ids.tolist()] == part.labels.tolist()
        assert part.classes == whole.classes


def test_split_is_the_same_for_a_seed_and_another_for_another() -> None:
    whole, config = index([20, 30, 40]), SplitConfig(train=30, search=30)
    assert parts(split(whole, config, 7)) == parts(split(whole, config, 7))
    assert parts(split(whole, config, 7)) != parts(split(whole, config, 8))


def test_images_beyond_the_three_splits_are_left_out() -> None:
    found = parts(split(index([30, 30]), SplitConfig(train=10, search=10, test=10), 0))
    assert [len(part) for part in found] == [10, 10, 10]


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (SplitConfig(train=50, search=50), r"50 train \+ 50 search \+ 1 test images.* 90"),
        (SplitConfig(train=40, search=40, test=11), r"40 train \+ 40 search \+ 11 test .* are 90"),
        (SplitConfig(train=45, search=45), r"Lower one of them"),
    ],
)
def test_too_few_images_are_refused(config: SplitConfig, match: str) -> None:
    with pytest.raises(EmptySplitError, match=match):
        split(index([30, 30, 30]), config, 0)


def with_own_test(train: list[int], test: list[int]) -> ImageIndex:
    labels = [label for part in (train, test) for label, n in enumerate(part) for _ in range(n)]
    image_ids = [f"train/{i}" for i in range(sum(train))] + [f"test/{i}" for i in range(sum(test))]
    classes = tuple(f"class-{i}" for i in range(len(train)))
    return ImageIndex("made up", np.array(image_ids), np.array(labels), classes)


def test_a_source_s_own_test_images_are_the_test_split_and_the_others_are_divided() -> None:
    whole = with_own_test([30, 30], [10, 10])
    found = split(whole, SplitConfig(train=40, search=20, test_from="test/"), 0)
    assert found.test.image_ids.tolist() == [f"test/{i}" for i in range(20)]
    drawn = found.train.image_ids.tolist() + found.search.image_ids.tolist()
    assert sorted(drawn) == sorted(f"train/{i}" for i in range(60))
    assert [np.bincount(part.labels).tolist() for part in _all(found)] == [
        [20] * 2,
        [10] * 2,
        [10] * 2,
    ]


def test_fewer_of_the_own_test_images_are_drawn_by_class() -> None:
    config = SplitConfig(train=40, search=20, test=10, test_from="test/")
    found = split(with_own_test([30, 30], [10, 10]), config, 0).test
    assert np.bincount(found.labels).tolist() == [5, 5]
    assert all(image_id.startswith("test/") for image_id in found.image_ids.tolist())


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (
            {"test_from": "tests/"},
            "begins with images.split.test_from='tests/'.* as 'train/0', 'test/19'",
        ),
        ({"test_from": "test/", "train": 41}, r"41 train \+ 20 search images, and there are 60"),
        ({"test_from": "test/", "test": 21}, r"21 test images, and there are 20"),
    ],
)
def test_an_own_test_part_that_is_not_there_or_too_small_is_refused(
    config: dict[str, object], match: str
) -> None:
    settings = SplitConfig.model_validate({"train": 40, "search": 20} | config)
    with pytest.raises(EmptySplitError, match=match):
        split(with_own_test([30, 30], [10, 10]), settings, 0)


def test_split_that_lacks_a_class_is_refused() -> None:
    with pytest.raises(
        EmptySplitError,
        match=r"the \w+ split has \d+ images and none of class class-1\..* raise images\.split\.",
    ):
        split(index([90, 2]), SplitConfig(train=30, search=30), 0)


def test_class_without_any_image_is_refused() -> None:
    with pytest.raises(
        EmptySplitError, match="train split has 30 images and none of class class-1"
    ):
        split(index([50, 0, 50]), SplitConfig(train=30, search=30), 0)


def test_split_may_lack_classes_where_they_are_too_small() -> None:
    config = SplitConfig(train=0, search=20, every_class=False)
    found = split(index([1] * 30 + [2] * 10), config, 0)
    assert (len(found.search), len(found.test)) == (20, 30)
    assert len(found.test.classes) == 40


def test_sample_holds_every_class_in_its_share() -> None:
    whole = index([60, 30, 10])
    sample = stratified_sample(whole, 50, seed=1)
    assert np.bincount(sample.labels).tolist() == pytest.approx([30, 15, 5], abs=1)
    assert set(sample.image_ids) <= set(whole.image_ids)
    assert len(stratified_sample(whole, 1000, seed=1)) == 100
    assert stratified_sample(whole, 50, seed=2).image_ids.tolist() != sample.image_ids.tolist()


def _all(splits: Splits) -> tuple[ImageIndex, ...]:
    return (splits.train, splits.search, splits.test)
