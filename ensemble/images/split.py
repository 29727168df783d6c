"""Three disjoint sets of images: to train on, to fit the ensemble on, and to report on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from ensemble.errors import EmptySplitError
from ensemble.images.index import ImageIndex
from ensemble.images.settings import SplitConfig


@dataclass(frozen=True)
class Splits:
    """Disjoint images of one index."""

    train: ImageIndex
    search: ImageIndex
    test: ImageIndex


def split(index: ImageIndex, config: SplitConfig, seed: int) -> Splits:
    """Divide an index by a stratified draw.

    Within each class the images are shuffled, then dealt so that every split holds its share of
    every class: to within one image where classes are of one size, and within about one where
    they are not (a few, where one class outweighs dozens of small ones).

    Raises:
        EmptySplitError: There are too few images, or a split would lack a class.
    """
    test = config.test or len(index) - config.train - config.search
    if test <= 0 or config.train + config.search + test > len(index):
        raise EmptySplitError(
            f"images.split asks for {config.train} train + {config.search} search + "
            f"{config.test or 'at least 1'} test images, and there are {len(index)}. Lower one of them."
        )
    rows = _stratified_order(index.labels, np.random.default_rng(seed))
    stops = np.cumsum([config.train, config.search, test])
    parts = np.split(rows[: stops[-1]], stops[:-1])
    train, search, held_out = (index.take(np.sort(part)) for part in parts)
    for name, part in (("train", train), ("search", search), ("test", held_out)):
        if config.every_class and (len(part) or name != "train"):
            _check_classes(name, part)
    return Splits(train, search, held_out)


def stratified_sample(index: ImageIndex, num_images: int, seed: int) -> ImageIndex:
    """So many images of an index, or all if it has fewer, with every class in its share."""
    rows = _stratified_order(index.labels, np.random.default_rng(seed))[:num_images]
    return index.take(np.sort(rows))


def _stratified_order(
    labels: Int[np.ndarray, "image"], rng: np.random.Generator
) -> Int[np.ndarray, "image"]:
    """An order of all rows in which every stretch holds each class in its share."""
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
