"""The tables of sub-classifiers over runs that differ in their seed, as P2 has them."""

from collections.abc import Iterable, Sequence

from ensemble.report.documents.subclassifiers import (
    ClusteredLabels,
    LabelCluster,
    RoutedResult,
    Subclassifiers,
)
from ensemble.report.documents.weights import Difference
from ensemble.statistics import spread

_LABELS = {
    "first": "base",
    "control": "base trained on for as long, all classes",
    "paper": "base + the paper's routing",
    "chosen": "base + the chosen routing",
}


def whole_test(runs: Sequence[Subclassifiers], num_images: int) -> list[str]:
    """Make the table of the whole test split: base, base trained on, and both routings; gains in points."""
    shared = [key for key in _LABELS if all(key in _by_key(run) for run in runs)]
    lines = [
        "| predictor | accuracy, % | against base, points | significantly better / worse "
        "| against the base trained on, points | better / worse | routed, % |",
        "|---|---|---|---|---|---|---|",
    ]
    for key in shared:
        rows = [_by_key(run)[key] for run in runs]
        accuracy = spread([100 * (1 - row.errors / num_images) for row in rows])
        routed = spread([100 * row.routed / num_images for row in rows])
        gains = (_gain(row.against_first for row in rows), _gain(r.against_control for r in rows))
        lines.append(f"| {_LABELS[key]} | {accuracy} | {' | '.join(gains)} | {routed} |")
    return lines


def within_clusters(runs: Sequence[Subclassifiers], top_k: int) -> list[str]:
    """Make the table of accuracy within label clusters, one line for each number of label clusters.

    Source: P2, Tables 3 to 5, which have it for each label cluster of one run.
    """
    lines = [
        "| label clusters | classes in each | top-1, all classes, % | top-1, base restricted, % "
        f"| top-1, sub-classifiers, % | gain | top-{top_k}, base restricted, % "
        f"| top-{top_k}, sub-classifiers, % | gain | label clusters that gain top-1 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    by_number = [{tried.num_clusters: tried for tried in run.tried} for run in runs]
    for number in by_number[0]:
        if all(number in clusters for clusters in by_number):
            lines.append(_number_line([clusters[number] for clusters in by_number]))
    return lines


def _number_line(tried: Sequence[ClusteredLabels]) -> str:
    clusters = [cluster for one in tried for cluster in one.clusters]
    sizes = [len(cluster.classes) for cluster in clusters]
    among_all = [_mean(one, "base_top1_accuracy") for one in tried]
    cells = [str(tried[0].num_clusters), f"{min(sizes)} to {max(sizes)}", spread(among_all)]
    for k in ("top1", "topk"):
        before = [_mean(one, f"restricted_{k}_accuracy") for one in tried]
        after = [_mean(one, f"sub_{k}_accuracy") for one in tried]
        gains = [b - a for a, b in zip(before, after, strict=True)]
        cells += [spread(before), spread(after), spread(gains, "+")]
    gained = sum(
        (_accuracy(c, "sub_top1_accuracy") or 0) > (c.restricted_top1_accuracy or 0)
        for c in clusters
    )
    return f"| {' | '.join([*cells, f'{gained} of {len(clusters)}'])} |"


def _mean(tried: ClusteredLabels, name: str) -> float:
    """Over the test images of all label clusters, in per cent."""
    judged = [(_accuracy(c, name), c.test_images) for c in tried.clusters if c.test_images]
    total = sum(images for _, images in judged)
    return 100 * sum((value or 0) * images for value, images in judged) / total


def _accuracy(cluster: LabelCluster, name: str) -> float | None:
    """Where there is no sub-classifier, the base answers among the label cluster's classes."""
    value: float | None = getattr(cluster, name)
    return getattr(cluster, name.replace("sub_", "restricted_")) if value is None else value


def _by_key(run: Subclassifiers) -> dict[str, RoutedResult]:
    return {row.key: row for row in run.results}


def _gain(comparisons: Iterable[Difference | None]) -> str:
    differences = [difference for difference in comparisons if difference is not None]
    if not differences:
        return " | "
    better = sum(difference.verdict == "better" for difference in differences)
    worse = sum(difference.verdict == "worse" for difference in differences)
    # A difference is of errors; a gain is of accuracy.
    return f"{spread([0.0 - 100 * d.difference for d in differences], '+')} | {better} / {worse}"
