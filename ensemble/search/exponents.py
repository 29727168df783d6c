"""The exponents of a product of experts with the highest likelihood: a convex problem, solved to a tolerance.

Minimised over w >= 0 is the mean of -log softmax(sum_m w_m log p_m) at the label, plus a ridge
(strength / images) / 2 · |w - equal|². `equal` are equal weights at the scale that suits them, so that
with few images the answer is near the plain mean of logarithms, and not near no answer at all. The
strength is chosen on held-out images. There is no other constraint: the sum of the weights is what a
temperature would be the inverse of, and a member that is too sure of itself simply gets a lower weight.

Newton's method; each step solves the quadratic problem over w >= 0 exactly (as non-negative least
squares), and is halved until the loss falls. It ends when a step promises less than `_TOLERANCE` nats;
as the problem is convex, that is all there is to gain, to first order. Members are broken on no image
here: where one has NaN it says nothing.

Source: Genest and Zidek 1986; Hinton 1999; Heskes 1998 for the weights by likelihood. The ridge towards
equal weights is ours.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import nnls

from ensemble.outranking.log_pool import LogSample

STRENGTHS = (0.0, 1.0, 10.0, 100.0, 1000.0, 1e6)
"""Candidates, in images: so many images of evidence for equal weights at a distance of 1. The last one
is equal weights, for all that can be measured."""

_NUM_FOLDS = 3
_CHOICE_IMAGES = 2000  # one number is chosen
_TOLERANCE = 1e-8  # nats
_MAX_STEPS = 50
_HALVINGS = 30
_JITTER = 1e-9  # members that are copies of each other leave the problem without one answer


def choose_strength(sample: LogSample, seed: int) -> float:
    """Choose the strength of the ridge by the NLL on images that weights were not fitted on.

    Of equals the strongest is taken.
    """
    rows = np.random.default_rng(seed).permutation(len(sample.counts))[:_CHOICE_IMAGES]
    if len(rows) < _NUM_FOLDS:
        return STRENGTHS[-1]
    members = np.arange(len(sample.logs))
    parts = [np.sort(rows[fold::_NUM_FOLDS]) for fold in range(_NUM_FOLDS)]
    nlls = np.zeros(len(STRENGTHS))
    for fold, held_out in enumerate(parts):
        seen = np.sort(np.concatenate([p for other, p in enumerate(parts) if other != fold]))
        problem, judged = (
            _Problem(sample.take(seen), members),
            _Problem(sample.take(held_out), members),
        )
        weights = problem.equal
        for number, strength in reversed(list(enumerate(STRENGTHS))):
            weights = problem.solve(strength, weights)
            nlls[number] += judged.nll(weights) * judged.total
    return STRENGTHS[len(nlls) - 1 - int(nlls[::-1].argmin())]


def fit_exponents(
    sample: LogSample, members: Int[np.ndarray, " chosen"], strength: float
) -> Float[np.ndarray, " chosen"]:
    """Find the exponents of some members with the highest likelihood, with a ridge.

    Args:
        sample: Images with their likely classes.
        members: Members that may have a weight.
        strength: Of the ridge, images.
    """
    problem = _Problem(sample, members)
    weights = problem.solve(strength, problem.equal)
    return weights if weights.any() else problem.equal


class _Problem:
    """The loss of exponents on some images, with its derivatives."""

    def __init__(self, sample: LogSample, members: Int[np.ndarray, " chosen"]) -> None:
        logs = sample.logs[members]
        # Relative to the label, whose own score is then 0 for all weights.
        self._logs = logs - logs[:, :, :1]
        self._offsets = sample.offsets
        self.total = float(sample.counts.sum())
        self._shares = sample.counts / self.total
        self.equal = np.full(len(members), sample.common_scale / len(members))

    def nll(self, weights: Float[np.ndarray, " member"]) -> float:
        """Average the losses, nats; none is floored, or the problem would not be convex."""
        _, losses = self._softmax(weights)
        return float(np.einsum("r,r->", losses, self._shares))

    def solve(
        self, strength: float, weights: Float[np.ndarray, " member"]
    ) -> Float[np.ndarray, " member"]:
        """Minimise from some weights on."""
        ridge = strength / self.total + _JITTER
        loss, gradient, curvature = self._at(weights, ridge)
        for _ in range(_MAX_STEPS):
            factor = np.linalg.cholesky(curvature).T
            target = factor @ weights - np.linalg.solve(factor.T, gradient)
            step = nnls(factor, target)[0] - weights
            promised = float(gradient @ step)
            if -promised < _TOLERANCE:
                break
            for _ in range(_HALVINGS):
                tried = weights + step
                tried_loss = self.nll(tried) + ridge / 2 * float(((tried - self.equal) ** 2).sum())
                if tried_loss <= loss + 1e-4 * promised:
                    break
                step, promised = step / 2, promised / 2
            else:
                break
            weights = np.maximum(tried, 0)
            loss, gradient, curvature = self._at(weights, ridge)
        return weights

    def _softmax(
        self, weights: Float[np.ndarray, " member"]
    ) -> tuple[Float[np.ndarray, "row slot"], Float[np.ndarray, " row"]]:
        # Not by BLAS: how many threads it has would show in the last digits.
        scores = np.einsum("m,mrs->rs", weights, self._logs)
        scores += self._offsets
        peak = scores.max(axis=1, keepdims=True)
        scores -= peak
        np.exp(scores, out=scores)
        total = scores.sum(axis=1, keepdims=True)
        scores /= total
        return scores, (np.log(total) + peak)[:, 0]

    def _at(
        self, weights: Float[np.ndarray, " member"], ridge: float
    ) -> tuple[float, Float[np.ndarray, " member"], Float[np.ndarray, "member member"]]:
        probabilities, losses = self._softmax(weights)
        means = np.einsum("mrs,rs->mr", self._logs, probabilities)
        away = weights - self.equal
        loss = float(np.einsum("r,r->", losses, self._shares)) + ridge / 2 * float((away**2).sum())
        gradient = np.einsum("mr,r->m", means, self._shares) + ridge * away
        probabilities *= self._shares[:, None]
        curvature = np.empty((len(weights), len(weights)))
        for member in range(len(weights)):
            own = (probabilities * self._logs[member]).ravel()
            for other in range(member + 1):
                second = float(np.einsum("i,i->", own, self._logs[other].ravel()))
                second -= float(np.einsum("r,r,r->", means[member], means[other], self._shares))
                curvature[member, other] = curvature[other, member] = second
        curvature[np.diag_indices_from(curvature)] += ridge
        return loss, gradient, curvature
