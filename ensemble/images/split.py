"""Split images into three disjoint sets: to train on, to fit the ensemble on, and to report on."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int

from ensemble.errors import EmptySplitError
from ensemble.images.index import ImageIndex
from ensemble.images.settings import DEFAULT_SEARCH, DEFAULT_TRAIN, SplitConfig
from ensemble.images.shard import BadImage

# One image in so many is searched on, where the train split is drawn from the same images.
_SEARCH_SHARE = 5


@dataclass(frozen=True)
class Splits:
    """Disjoint images of one index.

    Attributes:
        train: Images that members and sub-classifiers are trained on.
        search: Images that weights, label clusters and thresholds are chosen on.
        test: Images that results are reported on, and nothing is fitted on.
        bad: Images that were known to be none when they were listed.
        notes: What a person should know of the listing and the division, a sentence each.
    """

    train: ImageIndex
    search: ImageIndex
    test: ImageIndex
    bad: tuple[BadImage, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def predicted_ids(self) -> list[str]:
        """Ids of the images that members predict: those to search on, then those to report on."""
        return [*self.search.image_ids.tolist(), *self.test.image_ids.tolist()]

    def without(self, image_ids: Collection[str]) -> "Splits":
        """Leave some images out of every split."""

        def kept(part: ImageIndex) -> ImageIndex:
            return part.take(np.flatnonzero([str(i) not in image_ids for i in part.image_ids]))

        return replace(self, train=kept(self.train), search=kept(self.search), test=kept(self.test))


def split(index: ImageIndex, config: SplitConfig, seed: int) -> Splits:
    """Divide an index by a stratified draw; train, val and test folders of its own are the pools to draw from.

    Within each class the images are shuffled, then dealt so that every split holds its share of
    every class: to within one image where classes are of one size, and within about one where
    they are not (a few, where one class outweighs dozens of small ones).

    Raises:
        EmptySplitError: The index has too few images, or a split would lack a class.
    """
    rng = np.random.default_rng(seed)
    notes: tuple[str, ...] = ()
    if config.test_from is not None:
        is_own = _is_own_test(index, config.test_from)
        own = index.take(np.flatnonzero(is_own))
        sizes = {"train": _num_train(config), "search": _num_search(config)}
        train, search = _deal(index.take(np.flatnonzero(~is_own)), sizes, rng)
        (held_out,) = _deal(own, {"test": config.test or len(own)}, rng)
    elif has_parts(index):
        train, search, held_out = _deal_parts(index, config, rng)
        notes = (_describe_parts(index, train, search, held_out),)
    else:
        sizes = {"train": _num_train(config), "search": _num_search(config)}
        # Where no image is left for the test split, asking for one makes `_deal` refuse the sizes.
        test = config.test or max(1, len(index) - sum(sizes.values()))
        train, search, held_out = _deal(index, sizes | {"test": test}, rng)
    for name, part in (("train", train), ("search", search), ("test", held_out)):
        if config.every_class and (len(part) or name != "train"):
            _check_classes(name, part)
    return Splits(train, search, held_out, index.bad, (*index.notes, *notes))


def stratified_sample(index: ImageIndex, num_images: int, seed: int) -> ImageIndex:
    """Draw `num_images` images of an index, or all if it has fewer, with every class in its share."""
    rows = _stratified_order(index.labels, np.random.default_rng(seed))[:num_images]
    return index.take(np.sort(rows))


def held_out(index: ImageIndex) -> ImageIndex:
    """Take the images that lie in no train folder; all of them where the source has no such folders."""
    if index.parts is None or (index.parts == "train").all():
        return index
    return index.take(np.flatnonzero(index.parts != "train"))


def _num_train(config: SplitConfig) -> int:
    return DEFAULT_TRAIN if config.train is None else config.train


def _num_search(config: SplitConfig) -> int:
    return DEFAULT_SEARCH if config.search is None else config.search


def _deal_parts(
    index: ImageIndex, config: SplitConfig, rng: np.random.Generator
) -> tuple[ImageIndex, ImageIndex, ImageIndex]:
    """Draw the splits from the source's own parts.

    A val or test part without the other gives both the search and the test split, so that nothing is chosen
    on images that members were trained on. Images of no part, beside a test part, give the train and the
    search split.

    Raises:
        EmptySplitError: A part has too few images, or the source lacks a part that is needed.
    """
    train, val, test, others = (_part(index, part) for part in ("train", "val", "test", ""))
    if len(others):
        train, search = _deal_others(others, config, rng)
        (test,) = _deal(test, {"test": config.test or len(test)}, rng, "test")
        return train, search, test
    if not len(train) and config.train:
        raise EmptySplitError(
            f"images.split.train is {config.train}, and the source has val and test images and none to train "
            "on. Set images.split.train=0, or give a folder that holds train, too."
        )
    num_train = len(train) if config.train is None else config.train
    (train,) = _deal(train, {"train": num_train}, rng, "train")
    if len(val) and len(test):
        (search,) = _deal(val, {"search": config.search or len(val)}, rng, "val")
        (test,) = _deal(test, {"test": config.test or len(test)}, rng, "test")
        return train, search, test
    both, name = (val, "val") if len(val) else (test, "test")
    left = len(both) // 2 if config.test is None else len(both) - config.test
    num_search = config.search or max(1, left)
    num_test = config.test or max(1, len(both) - num_search)
    search, test = _deal(both, {"search": num_search, "test": num_test}, rng, name)
    return train, search, test


def _deal_others(
    others: ImageIndex, config: SplitConfig, rng: np.random.Generator
) -> tuple[ImageIndex, ImageIndex]:
    """Draw the train and the search split from the images beside a test part."""
    num_search = config.search
    if num_search is None:
        left = len(others) - (config.train or 0)
        num_search = left if config.train == 0 else max(1, min(left, len(others) // _SEARCH_SHARE))
    num_train = max(0, len(others) - num_search) if config.train is None else config.train
    train, search = _deal(others, {"train": num_train, "search": num_search}, rng)
    return train, search


def has_parts(index: ImageIndex) -> bool:
    """Tell whether a source has parts of its own to draw different splits from, as train and val folders."""
    return index.parts is not None and len(set(index.parts.tolist())) > 1


def _part(index: ImageIndex, part: str) -> ImageIndex:
    return index.take(np.flatnonzero(np.asarray(index.parts) == part))


def _describe_parts(
    index: ImageIndex, train: ImageIndex, search: ImageIndex, test: ImageIndex
) -> str:
    """Say in a line which split was drawn from which part of the source."""
    uses = []
    for name, part in (("train", train), ("search", search), ("test", test)):
        for own in sorted(set(np.asarray(part.parts).tolist())):
            where = f"of {own}" if own else "beside test"
            uses.append(f"{name} has {len(part)} of the {len(_part(index, own))} images {where}")
    return f"splits: {'; '.join(uses)}"


def _is_own_test(index: ImageIndex, test_from: str) -> Bool[np.ndarray, "image"]:
    """Tell which images are the source's own test images."""
    ids = index.image_ids.astype(np.str_)
    is_own = np.char.startswith(ids, test_from)
    if not is_own.any():
        raise EmptySplitError(
            f"no image id begins with images.split.test_from={test_from!r}; there are "
            f"{len(ids)} ids, as {', '.join(map(repr, ids[[0, -1]].tolist() if len(ids) else []))}. "
            "Set it to the prefix of the test images' ids."
        )
    return is_own


def _deal(
    index: ImageIndex, sizes: Mapping[str, int], rng: np.random.Generator, part: str | None = None
) -> tuple[ImageIndex, ...]:
    """Divide an index into parts of some sizes, each in the index's order; images left over are in none."""
    stops = np.cumsum(list(sizes.values()))
    if stops[-1] > len(index):
        counts = " + ".join(f"{size} {name}" for name, size in sizes.items())
        where = "there are" if part is None else f"the source's own {part} part has"
        raise EmptySplitError(
            f"images.split asks for {counts} images, and {where} {len(index)} to draw them from. "
            "Lower one of them."
        )
    rows = _stratified_order(index.labels, rng)[: stops[-1]]
    return tuple(index.take(np.sort(part)) for part in np.split(rows, stops[:-1]))


def _stratified_order(
    labels: Int[np.ndarray, "image"], rng: np.random.Generator
) -> Int[np.ndarray, "image"]:
    """Draw an order of all rows in which every stretch holds each class in its share."""
    position = np.empty(len(labels))
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        # The j-th of n images of a class belongs at (j + u) / n of the way through.
        position[rows] = (np.arange(len(rows)) + rng.random()) / len(rows)
    return np.argsort(position, kind="stable")


def _check_classes(name: str, part: ImageIndex) -> None:
    counts = np.bincount(part.labels, minlength=len(part.classes))
    if (counts == 0).any():
        missing = [part.classes[i] for i in np.flatnonzero(counts == 0)[:5]]
        raise EmptySplitError(
            f"the {name} split has {len(part)} images and none of class {', '.join(missing)}. "
            f"Expected every class; raise images.split.{name} or remove the class, or set "
            "images.split.every_class=false."
        )
