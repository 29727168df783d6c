"""A table of two members and two sub-classifiers, whose rows depend on the image id alone, to be judged."""

from dataclasses import dataclass

import numpy as np

from ensemble.evaluation.outcome import Outcome
from ensemble.evaluation.reading import WINDOW_IMAGES
from ensemble.images.index import ImageIndex
from ensemble.members.member import Member
from ensemble.table.logit_table import LogitTable

NUM_IMAGES = 2 * WINDOW_IMAGES + 57
CLUSTERS = ((0, 2), (1, 3))
WEIGHTS = np.array([70, 30])


@dataclass(frozen=True)
class Judged:
    """The members, a sub-classifier of each label cluster, and their rows of all images."""

    table: LogitTable
    members: tuple[Member, ...]
    subclassifiers: tuple[Member, ...]


def images(count: int = NUM_IMAGES) -> ImageIndex:
    """Make the first images, with labels of four classes."""
    image_ids = np.array([f"image-{i:05d}" for i in range(count)])
    labels = np.random.default_rng(0).integers(0, 4, size=count)
    return ImageIndex("made up", image_ids, labels, ("a", "b", "c", "d"))


def same(left: Outcome, right: Outcome) -> bool:
    """Tell whether two outcomes are equal in every image."""
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in vars(left))
