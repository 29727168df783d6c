"""A paired difference between two predictors on the same images, as the report tells it."""

from ensemble.evaluation.outcome import Outcome
from ensemble.report.documents.weights import Difference
from ensemble.search.comparison import compare


def difference(outcome: Outcome, other: Outcome, resamples: int) -> Difference:
    """Compare the top-1 errors of two predictors: this minus the other."""
    found = compare(outcome.is_wrong, other.is_wrong, resamples)
    interval = found.interval
    return Difference(
        difference=interval.mean,
        low=interval.low,
        high=interval.high,
        level=interval.level,
        resamples=resamples,
        fixed=found.fixed,
        broken=found.broken,
        mcnemar_p=found.p,
    )
