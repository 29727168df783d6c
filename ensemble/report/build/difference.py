"""A paired difference between two predictors on the same images, as every report tells it."""

from ensemble.evaluation.outcome import Outcome
from ensemble.report.documents.weights import Difference
from ensemble.search.comparison import Comparison, compare


def difference(outcome: Outcome, other: Outcome, k: int, resamples: int) -> Difference:
    """Compare the top-k errors of two predictors: this minus the other."""
    return describe_difference(compare(outcome.is_error(k), other.is_error(k), resamples))


def describe_difference(comparison: Comparison) -> Difference:
    """Put a comparison into a report."""
    interval = comparison.interval
    return Difference(
        difference=interval.mean,
        low=interval.low,
        high=interval.high,
        level=interval.level,
        resamples=interval.resamples,
        fixed=comparison.fixed,
        broken=comparison.broken,
        mcnemar_p=comparison.p,
    )
