"""Suspects: members that no better than chance predict the labels, or whose classes are exchanged.

Both are found on the search split before any member is weighed. Weights do not protect from them: a plain
average counts them like all others, and a search can give one a weight by chance.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.evaluation.outcome import Outcome
from ensemble.search.crossfit import stratified_folds

CHANCE_LEVEL = 0.01
"""Largest p-value at which a member is taken to be better than chance."""

EXCHANGE_LEVEL = 1e-4
"""Largest p-value at which classes are taken to be exchanged: a run tests many members."""

_MAX_MATCHED_CLASSES = 3000
_NUM_NAMED = 4


def describe_suspects(
    outcomes: Mapping[str, Outcome], labels: Int[np.ndarray, " image"], classes: Sequence[str]
) -> tuple[str, ...]:
    """Say in a sentence for each suspect what is wrong with it, and what to do.

    Args:
        outcomes: Outcome of each member on the search split, by name.
        labels: Class index of each image.
        classes: Names of the classes.
    """
    return tuple(
        sentence
        for name, outcome in outcomes.items()
        if (sentence := _describe(name, outcome.answers, labels, classes))
    )


def _describe(
    name: str,
    answers: Int[np.ndarray, " image"],
    labels: Int[np.ndarray, " image"],
    classes: Sequence[str],
) -> str:
    if len(labels) < 2:
        return ""
    before = 1 - float((answers == labels).mean())
    if (p := exchange_p(answers, labels, len(classes))) <= EXCHANGE_LEVEL:
        order = exchanged_classes(answers, labels, len(classes))
        after = 1 - float((order[answers] == labels).mean())
        return (
            f"{name} has exchanged classes: it errs on {before:.1%} of {len(labels):,} search images, and "
            f"on {after:.1%} once {_moves(order, classes)} ({_p_text(p)}, binomial test on images held "
            "out in turn). Its outputs are in another order than the classes: name them with label_map, "
            "or leave the member out."
        )
    if (p := chance_p(answers, labels, len(classes))) > CHANCE_LEVEL:
        return (
            f"{name} is at chance: it errs on {before:.1%} of {len(labels):,} search images, no fewer "
            f"than the same answers dealt out at random would ({_p_text(p)}, binomial test). Check its "
            "weights, preprocessing and classes, or leave the member out."
        )
    return ""


def chance_p(
    answers: Int[np.ndarray, " image"], labels: Int[np.ndarray, " image"], num_classes: int
) -> float:
    """Test whether answers are right more often than the same answers in random order.

    Returns:
        Probability of as many right answers or more, if answers and labels had nothing to do with
        each other: small for a member that has learnt something.
    """
    from scipy.special import bdtrc  # most of a second of import

    n, hits = len(labels), int((answers == labels).sum())
    shares = (np.bincount(part, minlength=num_classes) / n for part in (answers, labels))
    by_chance = float(np.prod(np.stack(list(shares)), axis=0).sum())
    return 1.0 if hits == 0 else float(bdtrc(hits - 1, n, min(by_chance, 1.0)))


def exchange_p(
    answers: Int[np.ndarray, " image"], labels: Int[np.ndarray, " image"], num_classes: int
) -> float:
    """Test whether answers get better when classes are exchanged.

    The order of the classes is fitted on one half of the images and judged on the other, and reversed,
    so that an order that only fits chance does not pass.

    Returns:
        One-sided exact p-value over the images that the exchange puts right or wrong.
    """
    from scipy.special import bdtrc

    folds = stratified_folds(labels, 2, 0)
    fixed = broken = 0
    for fold in (0, 1):
        order = exchanged_classes(answers[folds != fold], labels[folds != fold], num_classes)
        held_out = folds == fold
        was, becomes = (
            part == labels[held_out] for part in (answers[held_out], order[answers[held_out]])
        )
        fixed += int((becomes & ~was).sum())
        broken += int((was & ~becomes).sum())
    return float(bdtrc(fixed - 1, fixed + broken, 0.5)) if fixed > broken else 1.0


def exchanged_classes(
    answers: Int[np.ndarray, " image"], labels: Int[np.ndarray, " image"], num_classes: int
) -> Int[np.ndarray, " class"]:
    """Find the class that each output stands for, so that most answers are right.

    Only classes whose answers mostly have another label take part; all others stay as they are.
    """
    pairs, counts = np.unique(np.stack([answers, labels]), axis=1, return_counts=True)
    right = np.bincount(answers[answers == labels], minlength=num_classes)
    moved = counts > right[pairs[0]]
    involved = np.unique(pairs[:, moved])[:_MAX_MATCHED_CLASSES]
    order = np.arange(num_classes)
    if not len(involved):
        return order
    from scipy.optimize import linear_sum_assignment

    place = np.full(num_classes, -1)
    place[involved] = np.arange(len(involved))
    inside = (place[pairs] >= 0).all(axis=0)
    gain: Float[np.ndarray, "output class"] = np.zeros((len(involved), len(involved)))
    gain[place[pairs[0, inside]], place[pairs[1, inside]]] = counts[inside]
    # Of equals an output keeps its class.
    gain[np.diag_indices(len(involved))] += 0.5
    outputs, targets = linear_sum_assignment(gain, maximize=True)
    order[involved[outputs]] = involved[targets]
    return order


def _moves(order: Int[np.ndarray, " class"], classes: Sequence[str]) -> str:
    moved: Bool[np.ndarray, " class"] = order != np.arange(len(order))
    shift = {int(step) for step in (order - np.arange(len(order)))[moved] % len(order)}
    if len(shift) == 1 and moved.all():
        (step,) = shift
        return (
            f"every answer is moved by {step if step <= len(order) // 2 else step - len(order):+d}"
        )
    named = list(_named(order, classes, np.flatnonzero(moved)[:_NUM_NAMED]))
    more = int(moved.sum()) - len(named)
    return f"{', '.join(named)}{f' and {more} more' if more > 0 else ''}"


def _named(
    order: Int[np.ndarray, " class"], classes: Sequence[str], moved: Int[np.ndarray, " few"]
) -> Iterator[str]:
    for output in moved.tolist():
        yield f"{classes[output]!r} is read as {classes[int(order[output])]!r}"


def _p_text(p: float) -> str:
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"
