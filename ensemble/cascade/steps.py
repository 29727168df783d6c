"""Answering step by step: the arithmetic by which a cascade is fitted, judged on a table, and predicts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Float, Int

from ensemble.evaluation import metrics
from ensemble.outranking.weighting import Weighting

Signal = Literal["confidence", "margin", "agreement"]
SIGNALS: tuple[Signal, ...] = ("confidence", "margin", "agreement")
"""What can tell whether an answer is sure enough, the simplest first: the probability of the answer; its distance
from that of the second class; and the share of the members so far that give the same answer, ties by confidence."""

Order = tuple[int, ...]

Scores = Float[np.ndarray, "image class"]

_Part = TypeVar("_Part")


def with_lead(members: Sequence[_Part], lead: _Part | None) -> tuple[_Part, ...]:
    """List what the order of a cascade indexes: the members of the ensemble, and the lead after them."""
    return (*members, *(() if lead is None else (lead,)))


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps of a cascade over the members of an ensemble.

    Attributes:
        order: Index of the member that each step adds. A lead, a first member without a weight whose answer is
            not counted later, has the index after all members.
        signal: What tells how sure an answer is.
        thresholds: The least signal at which an image stops after each step; infinite where none does, and minus
            infinity after the last one.
    """

    order: Order
    signal: Signal
    thresholds: Float[np.ndarray, " step"]

    def weighting(self, weighting: Weighting) -> Weighting:
        """Give the weights of the ensemble's members, with one of 0 for the lead."""
        leads = max(self.order) + 1 - len(weighting.units)
        return replace(weighting, units=np.pad(weighting.units, (0, leads)))


@dataclass(frozen=True, eq=False)
class StepAnswer:
    """What some members say together.

    Attributes:
        scores: Integers in float64, which give the order of classes.
        probabilities: Probability of each class.
        signals: How sure each answer is, by the kind of signal; higher is surer.
    """

    scores: Scores
    probabilities: Float[np.ndarray, "image class"]
    signals: Mapping[Signal, Float[np.ndarray, " image"]]


@dataclass(frozen=True, eq=False)
class CascadeAnswers:
    """What a cascade answers.

    Attributes:
        scores: Integers in float64, of the members up to the step where the image stopped; they give the order of
            the classes of an image, and cannot be compared between images.
        probabilities: Probability of each class, of the same members.
        exits: The step after which each image stopped, from 0.
        slack: How far a signal was from a threshold that it was compared with, the least of each image.
    """

    scores: Scores
    probabilities: Float[np.ndarray, "image class"]
    exits: Int[np.ndarray, " image"]
    slack: Float[np.ndarray, " image"]


def contribution(
    log_probabilities: Float[np.ndarray, "image class"], member: int, weighting: Weighting
) -> Scores:
    """Give the exact scores of a member alone, times its weight; times 1 where it has none."""
    alone = np.zeros(len(weighting.units), dtype=np.int64)
    alone[member] = weighting.units[member] or 1
    return metrics.scores([log_probabilities] * len(alone), replace(weighting, units=alone))


def answer_after(added: Mapping[int, Scores], step: Order, weighting: Weighting) -> StepAnswer:
    """Put members together, with the weights that they have in the ensemble.

    Args:
        added: What `contribution` gives of each member.
        step: Members so far. One without a weight answers alone, and is not counted beside others.
        weighting: Weights of the ensemble.
    """
    voters = tuple(member for member in step if weighting.units[member]) or step
    scores = sum((added[member] for member in voters[1:]), start=added[voters[0]])
    units = np.zeros(len(weighting.units), dtype=np.int64)
    units[list(voters)] = [weighting.units[member] or 1 for member in voters]
    probabilities = metrics.to_probabilities(scores, len(units), replace(weighting, units=units))
    second, best = np.partition(probabilities, -2, axis=1)[:, -2:].T
    answers = scores.argmax(axis=1)
    same = np.mean([added[member].argmax(axis=1) == answers for member in step], axis=0)
    confidence = np.nan_to_num(best, nan=-1.0)
    return StepAnswer(
        scores,
        probabilities,
        {
            "confidence": confidence,
            "margin": np.nan_to_num(best - second, nan=-1.0),
            # One member agrees with itself: that says nothing.
            "agreement": same * len(step) + confidence if len(step) > 1 else confidence,
        },
    )


def follow(
    steps: Steps,
    weighting: Weighting,
    shape: tuple[int, int],
    predict: Callable[[int, Int[np.ndarray, " row"]], Float[np.ndarray, "row class"]],
) -> CascadeAnswers:
    """Take images through the steps of a cascade; each step has only the images that did not stop before.

    Args:
        steps: The steps.
        weighting: Weights of the ensemble's members, without the lead.
        shape: Number of images and of classes.
        predict: Gives the log-probabilities of a member, by its index, for some rows of the images.
    """
    weights = steps.weighting(weighting)
    rows, added = np.arange(shape[0]), dict[int, Scores]()
    scores, probabilities = np.zeros(shape), np.zeros(shape)
    slack, exits = np.full(shape[0], np.inf), np.zeros(shape[0], np.int64)
    for number, (member, threshold) in enumerate(
        zip(steps.order, steps.thresholds.tolist(), strict=True)
    ):
        if not len(rows):
            break
        added[member] = contribution(predict(member, rows), member, weights)
        answer = answer_after(added, steps.order[: number + 1], weights)
        signal = answer.signals[steps.signal]
        scores[rows], probabilities[rows] = answer.scores, answer.probabilities
        exits[rows] = number
        slack[rows] = np.minimum(slack[rows], np.abs(signal - threshold))
        goes_on = ~(signal >= threshold)
        rows = rows[goes_on]
        added = {index: each[goes_on] for index, each in added.items()}
    return CascadeAnswers(scores, probabilities, exits, slack)
