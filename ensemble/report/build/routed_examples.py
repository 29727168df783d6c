"""Routed examples: test images that routing puts right or wrong, with the logits of both answers."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from ensemble.evaluation import metrics
from ensemble.evaluation.outcome import Outcome
from ensemble.evaluation.reading import read_column
from ensemble.images.split import Splits
from ensemble.members.member import Member
from ensemble.report.build.examples import png
from ensemble.report.documents import subclassifiers as document
from ensemble.subclassifiers.findings import RoutedTest, SubclassifiersOnTest
from ensemble.subclassifiers.gates import choose_cluster, score
from ensemble.table.logit_table import LogitTable

_LOWEST_LOG = -30.0


def list_routed_examples(
    test: SubclassifiersOnTest,
    splits: Splits,
    members: tuple[Member, ...],
    table: LogitTable,
    decode: Callable[[str], np.ndarray],
    k: int = 1,
) -> tuple[document.RoutedExample, ...]:
    """Show the first image that routing puts right, and the first that it puts wrong.

    The routing is the chosen one, or the paper's where the chosen gate stays shut.

    Args:
        test: Outcomes on the test split.
        splits: The images of each split.
        members: The pool.
        table: The logit table, for probabilities.
        decode: Gives the pixels of an image by its id, uint8 RGB.
        k: An image is right where its label is among the k highest classes.
    """
    routed = test.chosen if test.chosen.fitted.routing.is_open else test.paper
    was_wrong, is_wrong = test.first.is_error(k), routed.outcome.is_error(k)
    rows_by_kind = {
        "fixed": np.flatnonzero(was_wrong & ~is_wrong),
        "broken": np.flatnonzero(~was_wrong & is_wrong),
    }
    return tuple(
        _example(kind, int(rows[0]), routed, test.first, splits, members, table, decode)
        for kind, rows in rows_by_kind.items()
        if len(rows)
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
    base = metrics.pooled(rows, fitted.weighting)
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
