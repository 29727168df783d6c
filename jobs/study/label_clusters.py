"""Label clusters of a study: accuracies within them over seeds, and how they agree with known groups of classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from ensemble.errors import ConfigError
from ensemble.report.documents.study import SeedMean, SeedValue, StudyClusters
from ensemble.report.documents.subclassifiers import ClusteredLabels, LabelCluster
from ensemble.statistics import mean_sd
from ensemble.subclassifiers.label_clusters import agreement, check_num_clusters
from jobs.study.settings import ClustersConfig, StudyConfig

# P2's tables have the top-3 accuracy of the base beside the top-1 accuracies.
TOP_K = 3


@dataclass(frozen=True)
class Routed:
    """One number of label clusters for the base of one seed.

    Attributes:
        labels: Label clusters and accuracies.
        wrong_validation: Whether the answer to each validation image is wrong.
        wrong_test: The same for the test images.
        is_routed: Whether each test image is routed.
        parameters: Parameters of the base and all its sub-classifiers.
        seconds: Seconds of all fine-tuning.
    """

    labels: ClusteredLabels
    wrong_validation: Bool[np.ndarray, " image"]
    wrong_test: Bool[np.ndarray, " image"]
    is_routed: Bool[np.ndarray, " image"]
    parameters: int
    seconds: float


def check_clusters(study: StudyConfig, config: ClustersConfig, classes: Sequence[str]) -> None:
    """Refuse numbers of label clusters and groups that do not fit the classes.

    Raises:
        ConfigError: There are as many label clusters as classes, or a class is in no group or in two.
    """
    check_num_clusters(max(config.num_clusters), len(classes))
    if study.groups:
        group_of_classes(study.groups, classes)


def group_of_classes(
    groups: Mapping[str, Sequence[str]], classes: Sequence[str]
) -> Int[np.ndarray, "class"]:
    """Give the index of the known group of each class.

    Raises:
        ConfigError: A class is in no group or in two, or a group has a class that the images lack.
    """
    places = [(name, number) for number, group in enumerate(groups.values()) for name in group]
    names = [name for name, _ in places]
    twice = sorted({name for name in names if names.count(name) > 1})
    for what, wrong in (
        ("has no class", sorted(set(names) - set(classes))),
        ("lacks the class", sorted(set(classes) - set(names))),
        ("has twice the class", twice),
    ):
        if wrong:
            raise ConfigError(
                f"groups {what} {', '.join(wrong[:5])}{' …' if len(wrong) > 5 else ''}; expected each "
                f"of the {len(classes)} classes of the images in one group. Correct the names, or leave groups out."
            )
    by_name = dict(places)
    return np.array([by_name[name] for name in classes])


def summarise(
    num_clusters: int, routed: Sequence[Routed], groups: Int[np.ndarray, "class"] | None
) -> StudyClusters:
    """Take the means over seeds of accuracies and agreement."""
    seeds = [one.labels for one in routed]
    agreements = []
    if groups is not None:
        agreements = [
            agreement(tuple(cluster.classes for cluster in labels.clusters), groups)
            for labels in seeds
        ]
    rand, information = (
        _seed_value([one[i] for one in agreements]) if agreements else None for i in range(2)
    )

    def accuracy(name: str) -> SeedMean:
        return _seed_mean([over_images(labels.clusters, name) for labels in seeds])

    return StudyClusters(
        num_clusters=num_clusters,
        base=accuracy("base_top1_accuracy"),
        restricted=accuracy("restricted_top1_accuracy"),
        sub=accuracy("sub_top1_accuracy"),
        top_k=TOP_K,
        restricted_topk=accuracy("restricted_topk_accuracy"),
        sub_topk=accuracy("sub_topk_accuracy"),
        routed_share=_seed_mean([float(one.is_routed.mean()) for one in routed]),
        adjusted_rand=rand,
        mutual_information=information,
        seeds=tuple(seeds),
    )


def over_images(clusters: Sequence[LabelCluster], name: str) -> float:
    """Average an accuracy over all test images, each in the label cluster of its class."""
    images = [(cluster.test_images, getattr(cluster, name)) for cluster in clusters]
    return sum(n * value for n, value in images if n) / sum(n for n, _ in images)


def _seed_mean(values: Sequence[float]) -> SeedMean:
    mean = mean_sd(values)
    return SeedMean(mean=mean.mean, sd=mean.sd)


def _seed_value(values: Sequence[float]) -> SeedValue:
    mean = mean_sd(values)
    return SeedValue(mean=mean.mean, sd=mean.sd)
