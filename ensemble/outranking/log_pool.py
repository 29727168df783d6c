"""The NLL of a mean of logarithms: softmax(scale · sum_m share_m log p_m), on the classes that are kept.

The shares are the weights over their sum; the scale is the inverse of a temperature, one number that
changes no order. With weights of a likelihood fit, shares times scale are its exponents. What searches
compare is taken on a sample of at most `SAMPLE_IMAGES` images and at the scale that suits the plain
average; the scale of the weights that a search ends with is fitted for them.

Source: Genest and Zidek 1986 (the logarithmic pool); Hinton 1999 (products of experts); Heskes 1998
(its weights by likelihood).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.outranking.fixed_point import LOG_FLOOR
from ensemble.outranking.likely_classes import LikelyClasses

SAMPLE_IMAGES = 5000
"""As many images tell losses apart that differ by thousandths of a nat."""

_LEAST_SCALE, _LARGEST_SCALE = 0.05, 20.0
_STEPS = 60
_TOLERANCE = 1e-7  # of a scale
_BLOCK_ROWS = 1024


@dataclass(frozen=True, eq=False)
class LogSample:
    """Some images with the log-probabilities of their likely classes.

    Attributes:
        logs: The label first, as in `LikelyClasses`.
        offsets: Log of the number of classes that each slot stands for.
        counts: How often each image counts.
        broken: Rows with NaN or +inf.
    """

    logs: Float[np.ndarray, "member row slot"]
    offsets: Float[np.ndarray, " slot"]
    counts: Float[np.ndarray, " row"]
    broken: Bool[np.ndarray, "row member"]

    @classmethod
    def draw(
        cls,
        likely: LikelyClasses,
        image_counts: Int[np.ndarray, " image"],
        broken: Bool[np.ndarray, "image member"],
        most: int = SAMPLE_IMAGES,
    ) -> "LogSample":
        """Take images that count, evenly spread over all of them."""
        rows = np.flatnonzero(image_counts[likely.images])
        if len(rows) > most:
            rows = rows[np.arange(most) * len(rows) // most]
        images = likely.images[rows]
        return cls(
            logs=likely.logs(rows),
            offsets=np.log(likely.class_counts),
            counts=image_counts[images].astype(np.float64),
            broken=broken[images],
        )

    def take(self, rows: Int[np.ndarray, " chosen"]) -> "LogSample":
        """Keep some of the images."""
        return LogSample(self.logs[:, rows], self.offsets, self.counts[rows], self.broken[rows])

    @cached_property
    def common_scale(self) -> float:
        """The scale that suits the plain average of all members."""
        return fit_scale(self, np.ones(len(self.logs), dtype=np.int64))

    def nll(self, units: Int[np.ndarray, " member"]) -> float:
        """Average the losses of weights at the common scale, nats."""
        scores = pool_scores(self.logs, units * (self.common_scale / units.sum()))
        return self.mean(losses_of(scores, self.offsets), units)

    def mean(self, losses: Float[np.ndarray, " row"], units: Int[np.ndarray, " member"]) -> float:
        """Average losses, floored; an image that a member with a weight is broken on has the floor."""
        losses = np.minimum(losses, -LOG_FLOOR)
        losses[self.broken[:, units > 0].any(axis=1)] = -LOG_FLOOR
        return float(np.average(losses, weights=self.counts))


def pool_scores(
    logs: Float[np.ndarray, "member row slot"], exponents: Float[np.ndarray, " member"]
) -> Float[np.ndarray, "row slot"]:
    """Add up the members' logs, each times its exponent."""
    scores = np.zeros(logs.shape[1:])
    for member in np.flatnonzero(exponents):
        scores += logs[member] * float(exponents[member])
    return scores


def pool_losses(
    likely: LikelyClasses, exponents: Float[np.ndarray, " member"]
) -> Float[np.ndarray, " row"]:
    """Give -log of the label's probability in the mean of logs, nats."""
    losses, offsets = np.empty(len(likely.images)), np.log(likely.class_counts)
    for first in range(0, len(losses), _BLOCK_ROWS):
        part = slice(first, first + _BLOCK_ROWS)
        losses[part] = losses_of(pool_scores(likely.logs(part), exponents), offsets)
    return losses


def losses_of(
    scores: Float[np.ndarray, "row slot"], offsets: Float[np.ndarray, " slot"]
) -> Float[np.ndarray, " row"]:
    """Give -log of the softmax at the label, the first slot, nats."""
    whole = scores + offsets
    peak = whole.max(axis=1, keepdims=True)
    whole -= peak
    total = np.log(np.exp(whole, out=whole).sum(axis=1))
    return np.asarray(total + peak[:, 0] - scores[:, 0])


def fit_scale(sample: LogSample, units: Int[np.ndarray, " member"]) -> float:
    """Find the scale with the lowest NLL; 1 where it does not help on images that it was not fitted on.

    The NLL is convex in the scale. Two halves of the images are held out in turn, as for temperatures.

    Args:
        sample: The images.
        units: Weights; at these the scale is 1 for shares that sum to 1.
    """
    usable = np.flatnonzero(~sample.broken[:, units > 0].any(axis=1))
    if len(usable) < 2:
        return 1.0
    scores = pool_scores(sample.logs, units / units.sum())[usable]
    counts, halves = sample.counts[usable], np.arange(len(usable)) % 2
    gain = 0.0
    for half in (0, 1):
        seen, held_out = halves != half, halves == half
        scale = _lowest(scores[seen], sample.offsets, counts[seen])
        change = losses_of(scores[held_out] * scale, sample.offsets)
        change -= losses_of(scores[held_out], sample.offsets)
        gain -= float(change @ counts[held_out])
    return round(_lowest(scores, sample.offsets, counts), 6) if gain > 0 else 1.0


def _lowest(
    scores: Float[np.ndarray, "row slot"],
    offsets: Float[np.ndarray, " slot"],
    counts: Float[np.ndarray, " row"],
) -> float:
    """Find where the derivative is 0, by Newton's steps inside a bracket that shrinks."""
    low, high, scale = _LEAST_SCALE, _LARGEST_SCALE, 1.0
    relative = scores - scores[:, :1]
    for _ in range(_STEPS):
        whole = relative * scale + offsets
        whole -= whole.max(axis=1, keepdims=True)
        probabilities = np.exp(whole)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        mean = (probabilities * relative).sum(axis=1)
        slope = float(mean @ counts)
        curvature = float(((probabilities * relative**2).sum(axis=1) - mean**2) @ counts)
        low, high = (low, scale) if slope > 0 else (scale, high)
        step = scale - slope / curvature if curvature > 0 else low
        following = step if low < step < high else (low + high) / 2
        if abs(following - scale) < _TOLERANCE * scale or high - low < _TOLERANCE * low:
            return following
        scale = following
    return scale
