"""Verdicts: what a night's figure is against a baseline's, under one budget of false alarms for the whole night."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from ensemble.errors import ConfigError
from ensemble.nightly.outcomes import Outcomes
from ensemble.nightly.paired import (
    Evidence,
    compare_errors,
    compare_sums,
    holm,
    images_to_decide,
)

Verdict = Literal[
    "identical",
    "drift",
    "ok",
    "improved",
    "regressed",
    "inconclusive",
    "not_comparable",
]
VERDICTS: tuple[Verdict, ...] = (
    "regressed",
    "not_comparable",
    "drift",
    "inconclusive",
    "improved",
    "ok",
    "identical",
)
"""All verdicts, the most urgent first."""

METRICS = r"^(top[1-9][0-9]*_error|nll|ece|seconds)$"
_TOP_K = re.compile(r"^top([1-9][0-9]*)_error$")


@dataclass(frozen=True)
class Judgement:
    """The verdict on one figure.

    Attributes:
        verdict: The verdict.
        evidence: What the images say; None where nothing was tested.
        num_images_needed: Images that would decide an inconclusive comparison; None for all others.
        reason: What differs, where figures cannot be compared or drifted; empty for all others.
    """

    verdict: Verdict
    evidence: Evidence | None = None
    num_images_needed: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Drift:
    """The difference between two computations of one identity.

    Attributes:
        largest: Largest difference of a label's probability.
        flips: Number of images whose answer differs.
    """

    largest: float
    flips: int

    def describe(self) -> str:
        """Describe the drift in one sentence."""
        return (
            "the identity is the same, and the numbers are not: a label's probability differs by up to "
            f"{self.largest:.1e}, and {self.flips} answers do"
        )


def top_k(metric: str) -> int | None:
    """Give the k of a metric that counts errors; None for all others."""
    match = _TOP_K.match(metric)
    return int(match[1]) if match else None


def figure(metric: str, outcomes: Outcomes) -> float:
    """Compute a metric: an error rate as a fraction, the NLL in nats, or the ECE as a fraction.

    Raises:
        ConfigError: The metric is not one of images.
    """
    return float(np.abs(_columns(metric, outcomes).mean(axis=0)).sum())


def collect(
    metric: str,
    before: Outcomes,
    after: Outcomes,
    groups: Int[np.ndarray, " image"] | None = None,
    seed: int = 0,
) -> Evidence:
    """Collect what the images say of a metric, tonight against a baseline.

    Args:
        metric: topK_error, nll or ece.
        before: Outcomes of the baseline.
        after: Outcomes of tonight, on the same images.
        groups: Number of the group of near-duplicates of each image.
        seed: Seed of the bootstrap.

    Raises:
        ConfigError: The metric is not one of images.
        ShapeError: The numbers of images differ.
    """
    k = top_k(metric)
    if k is not None:
        return compare_errors(before.is_error(k), after.is_error(k), groups)
    return compare_sums(_columns(metric, before), _columns(metric, after), groups, seed=seed)


def drift(before: Outcomes, after: Outcomes) -> Drift:
    """Measure how far two computations of one identity differ."""
    gaps = np.abs(after.label_probabilities - before.label_probabilities)
    return Drift(float(gaps.max(initial=0.0)), int((before.answers != after.answers).sum()))


def judge(
    evidences: Sequence[Evidence], min_effects: Sequence[float], level: float
) -> tuple[Judgement, ...]:
    """Judge all comparisons of a night together, so that chance raises an alarm with `level` at most.

    `regressed` is significant by Holm's rule and at least the minimum effect; `improved` is a gain that is
    significant if each comparison has its equal part of the level; `ok` is shown not to be worse by the
    minimum effect; all else is `inconclusive`.

    Args:
        evidences: What the images say, a comparison each.
        min_effects: The least loss that matters, above 0, by comparison.
        level: Chance of an alarm in a night without any loss.
    """
    is_worse = holm([evidence.p_worse for evidence in evidences], level)
    return tuple(
        _judge(evidence, min_effect, worse, level / len(evidences))
        for evidence, min_effect, worse in zip(evidences, min_effects, is_worse, strict=True)
    )


def _judge(evidence: Evidence, min_effect: float, is_worse: bool, level: float) -> Judgement:
    if is_worse and evidence.loss > 0 and evidence.loss >= min_effect:
        return Judgement("regressed", evidence)
    if evidence.p_better <= level and evidence.loss < 0:
        return Judgement("improved", evidence)
    if evidence.high < min_effect:
        return Judgement("ok", evidence)
    return Judgement("inconclusive", evidence, images_to_decide(evidence, min_effect))


def nightly_level(
    false_alarms_per_year: float, nights_per_year: int = 365, vault_openings: int = 0
) -> float:
    """Give the chance of a false alarm that one night may take of the year's budget.

    Args:
        false_alarms_per_year: False alarms that are accepted in a year, all comparisons together.
        nights_per_year: Number of nights in a year.
        vault_openings: Openings of the vault in the last year; each one takes as much as a night.
    """
    return min(0.5, false_alarms_per_year / (nights_per_year + vault_openings))


def _columns(metric: str, outcomes: Outcomes) -> np.ndarray:
    k = top_k(metric)
    if k is not None:
        return outcomes.is_error(k).astype(np.float64)[:, None]
    if metric == "nll":
        return outcomes.losses[:, None]
    if metric == "ece":
        return outcomes.bin_gaps
    raise ConfigError(
        f"no metric {metric!r} of images. Expected top1_error, topK_error, nll or ece; time is compared by its "
        "own rule."
    )
