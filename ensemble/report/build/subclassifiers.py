"""Building the part of report.json about sub-classifiers."""

from collections.abc import Callable

import numpy as np

from ensemble.checkpoints.header import read_metadata
from ensemble.evaluation.outcome import Outcome
from ensemble.images.split import Splits
from ensemble.members.member import Member
from ensemble.report.build.difference import difference
from ensemble.report.build.routed_examples import list_routed_examples
from ensemble.report.documents import subclassifiers as document
from ensemble.subclassifiers.answers import within_cluster
from ensemble.subclassifiers.choose import RoutingCurve, Trial
from ensemble.subclassifiers.findings import (
    Clustered,
    Subclassified,
    SubclassifiersOnTest,
)
from ensemble.subclassifiers.settings import SubclassifiersConfig
from ensemble.table.logit_table import LogitTable

MAX_CURVE_POINTS = 60


def build_subclassifiers(
    config: SubclassifiersConfig,
    subclassified: Subclassified,
    test: SubclassifiersOnTest,
    base_outcome: Outcome,
    splits: Splits,
    members: tuple[Member, ...],
    table: LogitTable,
    decode: Callable[[str], np.ndarray],
    settings: tuple[int, int, int],
) -> document.Subclassifiers:
    """Put the part together.

    Args:
        config: Settings of the sub-classifiers.
        subclassified: Label clusters, sub-classifiers and routings.
        test: Outcomes on the test split.
        base_outcome: Outcome of the fine-tuned member by itself, on the test split.
        splits: The images of each split.
        members: The pool.
        table: The logit table, for probabilities.
        decode: Gives the pixels of an image by its id, uint8 RGB.
        settings: k of the errors, k of the top-k accuracy, and number of bootstrap resamples.
    """
    k, top_k, resamples = settings
    similarity = None
    if len(subclassified.similarity) <= document.MAX_DRAWN_CLASSES:
        similarity = tuple(
            tuple(round(float(v), 6) for v in row) for row in subclassified.similarity
        )
    return document.Subclassifiers(
        base=subclassified.member.name,
        routed_base=subclassified.first,
        similarity_kind=config.similarity,
        clustering=config.clustering,
        tried=tuple(
            build_clustered_labels(table, tried, subclassified.member, base_outcome, splits, top_k)
            for tried in subclassified.tried
        ),
        chosen=subclassified.tried.index(subclassified.chosen),
        paper=subclassified.tried.index(subclassified.paper),
        base_errors=subclassified.chosen.best.base_errors,
        curve=_curve(subclassified.chosen.best.curve),
        similarity=similarity,
        parts=_parts(subclassified, splits),
        results=_results(subclassified, test, k, resamples),
        examples=list_routed_examples(test, splits, members, table, decode, k),
    )


def _threshold(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _parts(subclassified: Subclassified, splits: Splits) -> tuple[document.ImagePart, ...]:
    parts = {
        "train": splits.train,
        "stopping": subclassified.stopping,
        "choosing": subclassified.choosing,
        "test": splits.test,
    }
    return tuple(
        document.ImagePart.model_validate({"name": n, "images": len(p), "sha256": p.sha256})
        for n, p in parts.items()
    )


def build_clustered_labels(
    table: LogitTable,
    tried: Clustered,
    base: Member,
    base_outcome: Outcome,
    splits: Splits,
    top_k: int,
) -> document.ClusteredLabels:
    """Describe the label clusters of one number, with the accuracies of base and sub-classifiers.

    Args:
        table: The logit table, for probabilities.
        tried: Label clusters, sub-classifiers and routings.
        base: The network that was fine-tuned.
        base_outcome: Its outcome by itself, on the test split.
        splits: The images of each split.
        top_k: k of the top-k accuracy.
    """
    best = tried.best
    curve = tried.paper_curve
    return document.ClusteredLabels(
        num_clusters=tried.num_clusters,
        clusters=tuple(
            _label_cluster(table, tried, number, base, base_outcome, splits, top_k)
            for number in range(len(tried.clusters))
        ),
        stability=tuple(round(value, 6) for value in tried.stability),
        trials=tuple(_trial(trial) for trial in tried.trials),
        best=tried.trials.index(best),
        paper=document.RoutingPoint(
            threshold=_threshold(curve.best_threshold),
            search_errors=int(curve.errors[curve.best]),
            routed=int(curve.routed[curve.best]),
        ),
    )


def _trial(trial: Trial) -> document.RoutingTrial:
    routing = trial.routing
    return document.RoutingTrial(
        gate=routing.gate.kind,
        kind=routing.kind,
        threshold=_threshold(routing.threshold) if routing.is_open else None,
        held_out_errors=trial.held_out_errors,
        routed=trial.held_out_routed,
        is_affordable=trial.is_affordable,
    )


def _label_cluster(
    table: LogitTable,
    tried: Clustered,
    number: int,
    base: Member,
    base_outcome: Outcome,
    splits: Splits,
    top_k: int,
) -> document.LabelCluster:
    classes, test = tried.clusters[number], splits.test
    sub = tried.subclassifiers.get(number)
    restricted = within_cluster(table, base, test, classes)
    n = len(restricted.ranks)

    def accuracy(outcome: Outcome, k: int) -> float | None:
        return 1 - outcome.errors(k) / n if n else None

    of_sub = within_cluster(table, sub, test, classes) if sub else None
    metadata = read_metadata(sub.checkpoint) if sub else {}
    wrong = base_outcome.is_wrong[np.isin(test.labels, classes)]
    best = tried.best
    return document.LabelCluster(
        index=number,
        classes=classes,
        train_images=len(splits.train.of_classes(classes)),
        test_images=n,
        base_top1_accuracy=1 - int(wrong.sum()) / n if n else None,
        restricted_top1_accuracy=accuracy(restricted, 1),
        sub_top1_accuracy=accuracy(of_sub, 1) if of_sub else None,
        restricted_topk_accuracy=accuracy(restricted, top_k),
        sub_topk_accuracy=accuracy(of_sub, top_k) if of_sub else None,
        epochs=int(metadata["epochs"]) if metadata else None,
        best_epoch=int(metadata["best_epoch"]) if metadata else None,
        gain=best.gains[number],
        is_used=best.routing.is_open and number in best.routing.used,
        failure=tried.failures.get(number),
    )


def _curve(curve: RoutingCurve) -> tuple[document.RoutingPoint, ...]:
    finite = np.flatnonzero(np.isfinite(curve.thresholds))
    # Evenly over the images routed, so that a long curve keeps its shape; the chosen point stays.
    points = finite[np.linspace(0, len(finite) - 1, min(MAX_CURVE_POINTS, len(finite))).astype(int)]
    points = np.union1d(points, [curve.best, len(curve.thresholds) - 1])
    return tuple(
        document.RoutingPoint(
            threshold=_threshold(curve.thresholds[i]),
            search_errors=int(curve.errors[i]),
            routed=int(curve.routed[i]),
        )
        for i in points
    )


def _results(
    subclassified: Subclassified, test: SubclassifiersOnTest, k: int, resamples: int
) -> tuple[document.RoutedResult, ...]:
    def row(key: str, label: str, outcome: Outcome, routed: int) -> document.RoutedResult:
        others = {"first": test.first, "control": test.control if routed else None}
        return document.RoutedResult.model_validate(
            {"key": key, "label": label, "errors": outcome.errors(k), "routed": routed}
            | {
                f"against_{name}": difference(outcome, other, k, resamples)
                for name, other in others.items()
                if other is not None and key != "first"
            }
        )

    rows = [row("first", subclassified.first, test.first, 0)]
    if test.control is not None:
        name = subclassified.member.name
        whose = name if subclassified.first == name else f"{subclassified.first}, {name}"
        label = f"{whose} trained on for as long on all classes"
        rows.append(row("control", label, test.control, 0))
    for key, words, routed in (
        ("paper", "the paper's routing", test.paper),
        ("chosen", "the chosen routing", test.chosen),
    ):
        label, count = f"{subclassified.first} + {words}", int(routed.is_routed.sum())
        rows.append(row(key, label, routed.outcome, count))
    return tuple(rows)
