"""From outcomes on the test images to the parts of a report about errors."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int

from ensemble.evaluation.conformal import JudgedSets
from ensemble.evaluation.confusions import list_confusions
from ensemble.evaluation.outcome import Outcome
from ensemble.evaluation.reliability import calibration_error, reliability, risk_coverage_area
from ensemble.report.documents import diagnostics as document
from ensemble.statistics import effective_number, error_correlations

MAX_CONFUSIONS = 15


def errors_by_class(
    labels: Int[np.ndarray, " image"],
    num_classes: int,
    best: tuple[str, Outcome],
    recommended: tuple[str, Outcome],
    k: int,
) -> document.ErrorsByClass:
    """Count the errors of each class, and list the most frequent confusions.

    Args:
        labels: Class index of each test image.
        num_classes: Number of classes.
        best: Name and outcome of the best member.
        recommended: Name and outcome of the recommended predictor.
        k: The errors counted are top-k.
    """
    images, before, after = (
        np.bincount(of, minlength=num_classes).tolist()
        for of in (
            labels,
            labels[best[1].is_error(k)],
            labels[recommended[1].is_error(k)],
        )
    )
    return document.ErrorsByClass(
        predictor=recommended[0],
        best=best[0],
        classes=tuple(
            document.ClassErrors(
                label=label, images=images[label], best_errors=before[label], errors=after[label]
            )
            for label in range(num_classes)
        ),
        confusions=tuple(
            document.Confusion(label=c.label, answer=c.answer, images=c.images)
            for c in list_confusions(recommended[1], labels, MAX_CONFUSIONS)
        ),
    )


def reliability_at(
    predictor: str, before: Outcome, temperature: float, after: Outcome | None
) -> document.ReliabilityAtTemperature:
    """Put the reliability of a predictor into a report.

    Args:
        predictor: Name of the predictor.
        before: Outcome on the test images at a temperature of 1.
        temperature: The temperature that was kept.
        after: Outcome at that temperature; None where none was kept.
    """
    return document.ReliabilityAtTemperature(
        predictor=predictor,
        before=_reliability(before, 1.0),
        after=None if after is None else _reliability(after, temperature),
    )


def sets_on_test(predictor: str, judged: JudgedSets | None) -> document.SetsOnTest | None:
    """Put conformal sets into a report.

    Args:
        predictor: Name of the predictor.
        judged: The sets on the test images; None where answers have none.
    """
    if judged is None:
        return None
    return document.SetsOnTest(
        predictor=predictor,
        promised=judged.sets.coverage,
        fitted_on=judged.sets.num_images,
        images=judged.num_images,
        coverage=judged.coverage,
        mean_size=judged.mean_size,
        naive_coverage=judged.naive_coverage,
        naive_mean_size=judged.naive_mean_size,
    )


def _reliability(outcome: Outcome, temperature: float) -> document.Reliability:
    bins = reliability(outcome)
    return document.Reliability(
        temperature=temperature,
        calibration_error=calibration_error(bins),
        risk_coverage_area=risk_coverage_area(outcome.answer_probabilities, outcome.is_wrong),
        bins=tuple(
            document.ReliabilityBin(
                low=part.low,
                high=part.high,
                images=part.images,
                confidence=part.confidence,
                accuracy=part.accuracy,
            )
            for part in bins
        ),
    )


def agreement(
    wrong_by_member: Mapping[str, Bool[np.ndarray, " image"]], selected: Sequence[str]
) -> document.Agreement | None:
    """Measure how alike the members' errors are; None for a single member.

    Args:
        wrong_by_member: Whether each member errs on each image, by name in pool order.
        selected: Names of the members with weight > 0.
    """
    names = tuple(wrong_by_member)
    if len(names) < 2:
        return None
    wrong = np.stack(list(wrong_by_member.values()), axis=1)
    correlation = error_correlations(wrong)
    kept = [names.index(name) for name in selected]
    errors = wrong.astype(np.float64)
    both, own = errors.T @ errors, errors.sum(axis=0)
    disagreement = (own[:, None] + own[None, :] - 2 * both) / len(wrong)
    return document.Agreement(
        images=len(wrong),
        members=names,
        correlation=_rows(correlation),
        disagreement=_rows(disagreement),
        effective_all=effective_number(correlation),
        effective_selected=effective_number(correlation[np.ix_(kept, kept)]),
        selected=len(kept),
    )


def _rows(matrix: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(value, 6) for value in row) for row in matrix.tolist())
