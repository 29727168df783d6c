"""Known groups of classes that label clusters are compared with, and means over label clusters."""

import numpy as np
import pytest

from ensemble.errors import ConfigError
from ensemble.report.documents.subclassifiers import LabelCluster
from jobs.study.label_clusters import group_of_classes, over_images

CLASSES = ("cat", "dog", "car")


def test_each_class_has_the_index_of_its_group() -> None:
    groups = {"animals": ("dog", "cat"), "vehicles": ("car",)}
    np.testing.assert_array_equal(group_of_classes(groups, CLASSES), [0, 0, 1])


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"animals": ("cat", "dog")}, "lacks the class car"),
        ({"all": ("cat", "dog", "car", "bus")}, "has no class bus"),
        ({"animals": ("cat", "dog"), "others": ("car", "cat")}, "has twice the class cat"),
    ],
)
def test_groups_that_do_not_fit_the_classes_are_refused(
    groups: dict[str, tuple[str, ...]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        group_of_classes(groups, CLASSES)


def test_accuracies_of_label_clusters_count_by_their_images() -> None:
    clusters = [
        LabelCluster(index=0, classes=(0,), train_images=1, test_images=30, sub_top1_accuracy=0.5),
        LabelCluster(index=1, classes=(1,), train_images=1, test_images=10, sub_top1_accuracy=0.9),
        LabelCluster(index=2, classes=(2,), train_images=1, test_images=0),
    ]
    assert over_images(clusters, "sub_top1_accuracy") == pytest.approx((15 + 9) / 40)
