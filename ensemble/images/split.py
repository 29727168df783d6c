"""Split images into three disjoint sets: to train on, to fit the ensemble on, and to report on."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from ensemble.errors import EmptySplitError
from ensemble.images.index import ImageIndex
from ensemble.images.settings import SplitConfig


@dataclass(frozen=True)
class Splits:
    """Disjoint images of one index.

    Attributes:
        train: Images that members and sub-classifiers are trained on.
        search: Images that weights, label clusters and thresholds are chosen on.
        test: Images that results are reported on, and nothing is fitted on.
    """

    train: ImageIndex
    search: ImageIndex
    test: ImageIndex

    @property
    def predicted_ids(self) -> list[str]:
        """Ids of the images that members predict: those to search on, then those to report on."""
        return [*self.search.image_ids.tolist(), *self.test.image_ids.tolist()]

    def without(self, image_ids: Collection[str]) -> "Splits":
        """Leave some images out of every split."""

        def kept(part: ImageIndex) -> ImageIndex:
            return part.take(np.flatnonzero([str(i) not in image_ids for i in part.image_ids]))

        return Splits(kept(self.train), kept(self.search), kept(self.test))


def split(index: ImageIndex, config: SplitConfig, seed: int) -> Splits:
    """Divide an index by a stratified draw.

    Within each class the images are shuffled, then dealt so that every split holds its share of
    every class: to within one image where classes are of one size, and within about one where
    they are not (a few, where one class outweighs dozens of small ones).

    Raises:
        EmptySplitError: The index has too few images, or a split would lack a class.
    """
    rng = np.random.default_rng(seed)
    sizes = {"train": config.train, "search": config.search}
    if config.test_from is None:
        # Where no image is left for the test split, asking for one makes `_deal` refuse the sizes.
        test = config.test or max(1, len(index) - config.train - config.search)
        train, search, held_out = _deal(index, sizes | {"test": test}, rng)
    else:
        is_own = _is_own_test(index, config.test_from)
        own = index.take(np.flatnonzero(is_own))
        train, search = _deal(index.take(np.flatnonzero(~is_own)), sizes, rng)
        (held_out,) = _deal(own, {"test": config.test or len(own)}, rng)
    for name, part in (("train", train), ("search", search), ("test", held_out)):
        if config.every_class and (len(part) or name != "train"):
            _check_classes(name, part)
    return Splits(train, search, held_out)


def stratified_sample(index: ImageIndex, num_images: int, seed: int) -> ImageIndex:
    """Draw `num_images` images of an index, or all if it has fewer, with every class in its share."""
    rows = _stratified_order(index.labels, np.random.default_rng(seed))[:num_images]
    return index.take(np.sort(rows))


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
    index: ImageIndex, sizes: Mapping[str, int], rng: np.random.Generator
) -> tuple[ImageIndex, ...]:
    """Divide an index into parts of some sizes, each in the index's order; images left over are in none."""
    stops = np.cumsum(list(sizes.values()))
    if stops[-1] > len(index):
        counts = " + ".join(f"{size} {name}" for name, size in sizes.items())
        raise EmptySplitError(
            f"images.split asks for {counts} images, and there are {len(index)} to draw them from. "
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
