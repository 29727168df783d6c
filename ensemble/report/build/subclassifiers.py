"""The sub-classifiers' part of a report, from what their stages found."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from ensemble.checkpoints.header import read_metadata
from ensemble.evaluation import metrics
from ensemble.evaluation.outcome import Outcome
from ensemble.evaluation.reading import read_column
from ensemble.images.split import Splits
from ensemble.members.member import Member
from ensemble.report.build.difference import difference
from ensemble.report.build.examples import png
from ensemble.report.documents import subclassifiers as document
from ensemble.subclassifiers.answers import within_cluster
from ensemble.subclassifiers.choose import RoutingCurve, Trial
from ensemble.subclassifiers.findings import (
    Clustered,
    RoutedTest,
    Subclassified,
    SubclassifiersOnTest,
)
from ensemble.subclassifiers.gates import choose_cluster, score
from ensemble.subclassifiers.settings import SubclassifiersConfig
from ensemble.table.logit_table import LogitTable

MAX_CURVE_POINTS = 60
_LOWEST_LOG = -30.0


def build_subclassifiers(
    config: SubclassifiersConfig,
    found: Subclassified,
    test: SubclassifiersOnTest,
    base_outcome: Outcome,
    splits: Splits,
    members: tuple[Member, ...],
    table: LogitTable,
    decode: Callable[[str], np.ndarray],
    settings: tuple[int, int],
) -> document.Subclassifiers:
    """Put the part together.

    Args:
        config: The sub-classifiers' settings.
        found: What was fine-tuned and chosen.
        test: How that does on the test split.
        base_outcome: Of the fine-tuned member by itself, on the test split.
        splits: The images.
        members: The pool.
        table: For probabilities.
        decode: Pixels of an image, uint8 RGB.
        settings: k of the top-k accuracy, and bootstrap resamples.
    """
    top_k, resamples = settings
    similarity = None
    if len(found.similarity) <= document.MAX_DRAWN_CLASSES:
        similarity = tuple(tuple(round(float(v), 6) for v in row) for row in found.similarity)
    return document.Subclassifiers(
        base=found.member.name,
        routed_base=found.first,
        similarity_kind=config.similarity,
        clustering=config.clustering,
        tried=tuple(
            _clustered(table, tried, found.member, base_outcome, splits, top_k)
            for tried in found.tried
        ),
        chosen=found.tried.index(found.chosen),
        paper=found.tried.index(found.paper),
        base_errors=found.chosen.best.base_errors,
        curve=_curve(found.chosen.best.curve),
        similarity=similarity,
        parts=_parts(found, splits),
        results=_results(found, test, resamples),
        examples=_examples(found, test, splits, members, table, decode),
    )


def _threshold(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _parts(found: Subclassified, splits: Splits) -> tuple[document.ImagePart, ...]:
    parts = {
        "train": splits.train,
        "stopping": found.stopping,
        "choosing": found.choosing,
        "test": splits.test,
    }
    return tuple(
        document.ImagePart.model_validate({"name": n, "images": len(p), "sha256": p.sha256})
        for n, p in parts.items()
    )


def _clustered(
    table: LogitTable,
    tried: Clustered,
    base: Member,
    base_outcome: Outcome,
    splits: Splits,
    top_k: int,
) -> document.ClusteredLabels:
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

    theirs = within_cluster(table, sub, test, classes) if sub else None
    told = read_metadata(sub.checkpoint) if sub else {}
    wrong = base_outcome.is_wrong[np.isin(test.labels, classes)]
    best = tried.best
    return document.LabelCluster(
        index=number,
        classes=classes,
        train_images=len(splits.train.of_classes(classes)),
        test_images=n,
        base_top1_accuracy=1 - int(wrong.sum()) / n if n else None,
        restricted_top1_accuracy=accuracy(restricted, 1),
        sub_top1_accuracy=accuracy(theirs, 1) if theirs else None,
        restricted_topk_accuracy=accuracy(restricted, top_k),
        sub_topk_accuracy=accuracy(theirs, top_k) if theirs else None,
        epochs=int(told["epochs"]) if told else None,
        best_epoch=int(told["best_epoch"]) if told else None,
        gain=best.gains[number],
        is_used=best.routing.is_open and number in best.routing.used,
        failure=tried.failures.get(number),
    )


def _curve(curve: RoutingCurve) -> tuple[document.RoutingPoint, ...]:
    finite = np.flatnonzero(np.isfinite(curve.thresholds))
    # Evenly over the images routed, so that a long curve keeps its shape; the chosen point stays.
    picked = finite[np.linspace(0, len(finite) - 1, min(MAX_CURVE_POINTS, len(finite))).astype(int)]
    picked = np.union1d(picked, [curve.best, len(curve.thresholds) - 1])
    return tuple(
        document.RoutingPoint(
            threshold=_threshold(curve.thresholds[i]),
            search_errors=int(curve.errors[i]),
            routed=int(curve.routed[i]),
        )
        for i in picked
    )


def _results(
    found: Subclassified, test: SubclassifiersOnTest, resamples: int
) -> tuple[document.RoutedResult, ...]:
    def row(key: str, label: str, outcome: Outcome, routed: int) -> document.RoutedResult:
        others = {"first": test.first, "control": test.control if routed else None}
        return document.RoutedResult.model_validate(
            {"key": key, "label": label, "errors": outcome.errors(1), "routed": routed}
            | {
                f"against_{name}": difference(outcome, other, resamples)
                for name, other in others.items()
                if other is not None and key != "first"
            }
        )

    rows = [row("first", found.first, test.first, 0)]
    if test.control is not None:
        name = found.member.name
        whose = name if found.first == name else f"{found.first}, {name}"
        label = f"{whose} trained on for as long on all classes"
        rows.append(row("control", label, test.control, 0))
    for key, words, routed in (
        ("paper", "the paper's routing", test.paper),
        ("chosen", "the chosen routing", test.chosen),
    ):
        label, count = f"{found.first} + {words}", int(routed.is_routed.sum())
        rows.append(row(key, label, routed.outcome, count))
    return tuple(rows)


def _examples(
    found: Subclassified,
    test: SubclassifiersOnTest,
    splits: Splits,
    members: tuple[Member, ...],
    table: LogitTable,
    decode: Callable[[str], np.ndarray],
) -> tuple[document.RoutedExample, ...]:
    """The first image that routing puts right, and the first that it puts wrong.

    Of the chosen routing, or of the paper's where the chosen gate stays shut.
    """
    routed = test.chosen if test.chosen.fitted.routing.is_open else test.paper
    ours, theirs = routed.outcome.is_wrong, test.first.is_wrong
    turned = {"fixed": theirs & ~ours, "broken": ours & ~theirs}
    return tuple(
        _example(kind, int(rows[0]), routed, test.first, splits, members, table, decode)
        for kind, is_turned in turned.items()
        if len(rows := np.flatnonzero(is_turned))
    )


def _example(
    kind: str,
    row: int,
    routed: RoutedTest,
    first: Outcome,
    splits: Splits,
    members: tuple[Member, ...],
    table: LogitTable,
    decode: Callable[[str], np.ndarray],
) -> document.RoutedExample:
    image_id, fitted = str(splits.test.image_ids[row]), routed.fitted
    rows = [read_column(table, member, [image_id]) for member in members]
    base = metrics.average(rows, fitted.units)
    clusters, gate = fitted.routing.clusters, fitted.routing.gate
    # Of several label clusters that answer, the likeliest one that has a sub-classifier.
    masses = [float(base[0, list(group)].sum()) for group in clusters]
    likeliest = int(choose_cluster(base, clusters)[0])
    used = fitted.routing.used
    cluster = likeliest if likeliest in used else max(used, key=lambda number: masses[number])
    sub = table.read(fitted.subclassifiers[cluster].column, [image_id])[0]
    with np.errstate(divide="ignore"):
        logs = np.log(base[0])
    return document.RoutedExample.model_validate(
        {
            "kind": kind,
            "image_id": image_id,
            "label": int(splits.test.labels[row]),
            "png_base64": png(decode(image_id)),
            "score": float(score(gate, base, clusters)[0]),
            "first_answer": int(first.answers[row]),
            "answer": int(routed.outcome.answers[row]),
            "cluster": cluster,
            "first": _bars(range(len(logs)), logs),
            "sub": _bars(clusters[cluster], sub.astype(np.float64)),
        }
    )


def _bars(
    labels: range | tuple[int, ...], logs: Float[np.ndarray, "class"]
) -> tuple[document.Bar, ...]:
    return tuple(
        document.Bar(label=label, value=round(float(max(value, _LOWEST_LOG)), 4))
        for label, value in zip(labels, logs, strict=True)
    )
