"""The weights with the lowest NLL of the average: a convex problem, of probabilities and of logarithms.

**Probabilities**, by EM: it multiplies each weight by the average share of the member in the
probability of the label; the NLL falls with every step. Steps are lengthened by extrapolation where
that lowers the NLL further. With g_m = mean(p_m / average), log(max g) bounds what is left to gain, so
the end is certified: less than `_TOLERANCE` nats.

**Logarithms**, by `exponents`, then `refine`: a weight is changed where that lowers the errors, and
where several weights have as few errors to the one with the lowest NLL; the NLL alone moves nothing. For
`objective: nll` the weights stay as the likelihood has them.

Caps take out the member that is missed least, one after the other. A member with broken rows makes the
average of these images worthless, and the problem is then not convex: such members are left out one
after the other while that lowers the NLL.

Source: Dempster et al. 1977 (EM of mixture weights); Varadhan and Roland 2008 (extrapolation).
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.outranking import measures
from ensemble.outranking.fixed_point import PROBABILITY_FLOOR
from ensemble.outranking.table import OutrankingTable
from ensemble.search import exponents, refine
from ensemble.search.limits import Limits
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig
from ensemble.search.weights import finish, late_note, to_scale

_TOLERANCE = 1e-6  # nats
_MAX_STEPS = 2000
_SMALLEST = (
    1e-3  # of the largest weight: less is dropped where that costs no more than the tolerance
)


def fit(table: OutrankingTable, config: SearchConfig) -> Ensemble:
    """Minimise the NLL; then, of logarithms, lower the errors from there."""
    limits = Limits.of(table, config)
    strength = 0.0
    if table.combine == "logs":
        strength = exponents.choose_strength(table.log_sample, config.seed)
    pool = limits.costs <= limits.max_cost
    units = _fit_within(table, limits, pool, strength)
    while suspects := np.flatnonzero((table.num_broken > 0) & (units > 0)).tolist():
        pools = [pool & (np.arange(len(pool)) != member) for member in suspects]
        fitted = [
            _fit_within(table, limits, without, strength) for without in pools if without.any()
        ]
        nlls = [measures.search_nll(table, candidate) for candidate in fitted]
        if not nlls or min(nlls) >= measures.search_nll(table, units):
            break
        best = nlls.index(min(nlls))
        pool, units = pools[best], fitted[best]
    notes = (late_note(config, "before it was solved"),) if limits.is_late else ()
    if table.combine == "probabilities" or config.objective == "nll":
        return finish(table, config, "likelihood", units, notes=notes)
    refined = refine.descend(table, config, units, refine.fewer_errors)
    steps = tuple(refined.steps)
    return finish(table, config, "likelihood", refined.units, steps, (*notes, *refined.notes))


def mixture_weights(
    probabilities: Float[np.ndarray, "image member"],
    counts: Int[np.ndarray, " image"] | None = None,
    limits: Limits | None = None,
) -> Float[np.ndarray, " member"]:
    """Find the weights, summing to 1, whose average gives the labels the highest likelihood.

    Args:
        probabilities: Probability of the label by each member.
        counts: How often each image counts; once each by default.
        limits: Limits with the deadline, if there is one.
    """
    counted = slice(None) if counts is None else np.flatnonzero(counts)
    rows = np.ascontiguousarray(np.maximum(probabilities[counted], PROBABILITY_FLOOR).T)
    num_members, num_images = rows.shape
    shares = np.full(num_images, 1 / num_images)
    if counts is not None:
        shares = counts[counted] / counts.sum()

    # Not by BLAS: its threads take longer to meet than the sums take, and how many there are would
    # show in the last digits of the weights.
    def gain(average: Float[np.ndarray, " image"]) -> Float[np.ndarray, " member"]:
        return np.einsum("mi,i->m", rows, shares / average)

    def averaged(weights: Float[np.ndarray, " member"]) -> Float[np.ndarray, " image"]:
        return np.einsum("m,mi->i", weights, rows)

    weights = np.full(num_members, 1 / num_members)
    average = averaged(weights)
    for _ in range(_MAX_STEPS):
        gains = gain(average)
        if np.log(gains.max()) < _TOLERANCE or (limits and limits.is_late):
            break
        once = weights * gains
        twice = once * gain(averaged(once))
        weights = _extrapolated(weights, once, twice)
        average, safe = averaged(weights), averaged(twice)
        if not (shares * np.log(average / safe)).sum() >= 0:
            weights, average = twice, safe
    return weights / weights.sum()


def _extrapolated(
    start: Float[np.ndarray, " member"],
    once: Float[np.ndarray, " member"],
    twice: Float[np.ndarray, " member"],
) -> Float[np.ndarray, " member"]:
    """Go on in the direction of two EM steps, as far as their ratio suggests."""
    step, turn = once - start, (twice - once) - (once - start)
    length = np.linalg.norm(turn)
    if length == 0:
        return twice
    reach = max(1.0, float(np.linalg.norm(step) / length))
    # A weight at 0 could never come back.
    there = np.maximum(start + 2 * reach * step + reach**2 * turn, 1e-12)
    return np.asarray(there / there.sum())


def _fit_within(
    table: OutrankingTable, limits: Limits, pool: Bool[np.ndarray, " member"], strength: float
) -> Int[np.ndarray, " member"]:
    """Fit the members of a pool, then take out what the caps forbid."""
    allowed = pool.copy()
    while True:
        units = _fit_allowed(table, limits, allowed, strength)
        if limits.allow(units > 0):
            return units
        losses = {}
        for member in np.flatnonzero(units):
            without = np.where(np.arange(len(units)) == member, 0, units)
            losses[int(member)] = measures.search_nll(table, without) if without.any() else np.inf
        allowed = units > 0
        allowed[min(losses, key=lambda member: losses[member])] = False


def _fit_allowed(
    table: OutrankingTable, limits: Limits, allowed: Bool[np.ndarray, " member"], strength: float
) -> Int[np.ndarray, " member"]:
    members = np.flatnonzero(allowed)
    if table.combine == "logs":
        fitted = exponents.fit_exponents(table.log_sample, members, strength)
    else:
        counts = table.image_counts
        fitted = mixture_weights(table.true_probabilities[:, members], counts, limits)
    units = np.zeros(table.num_members, dtype=np.int64)
    units[members] = to_scale(fitted)
    trimmed = np.where(units < _SMALLEST * units.max(), 0, units)
    before, after = (measures.search_nll(table, weights) for weights in (units, trimmed))
    return trimmed if after <= before + _TOLERANCE else units
