"""Building the parts about weights, which the reports of runs and of searches share."""

from collections.abc import Mapping, Sequence

from ensemble.report.documents.weights import Fallback as FallbackLine
from ensemble.report.documents.weights import (
    FrontierLine,
    HeldOutLine,
    MemberLine,
    StabilitySummary,
)
from ensemble.report.documents.weights import Recommendation as RecommendationLine
from ensemble.search.explain import MemberReason
from ensemble.search.fallbacks import Fallback
from ensemble.search.frontier import FrontierPoint, cheapest_tied
from ensemble.search.recommend import Recommendation
from ensemble.search.result import Ensemble
from ensemble.search.stability import Stability


def member_lines(
    reasons: Sequence[MemberReason],
    stability: Stability | None,
    families: Mapping[str, str],
    costs: Mapping[str, float],
    temperatures: Mapping[str, float],
) -> tuple[MemberLine, ...]:
    """Put each member's weight into a report, with the reasons for it.

    Args:
        reasons: Reasons for the weight of each member, in pool order.
        stability: Spread of the weights; None where the search was not resampled.
        families: Architecture of each member.
        costs: Cost of each member; empty where costs do not count.
        temperatures: Temperatures of the members that have one.
    """
    spreads = {spread.member: spread for spread in stability.members} if stability else {}
    lines = []
    for reason in reasons:
        name, spread = reason.member, spreads.get(reason.member)
        lines.append(
            MemberLine(
                name=name,
                family=families[name],
                weight=reason.weight,
                errors=reason.errors,
                gain=reason.gain,
                loss=reason.loss,
                nearest=reason.nearest,
                correlation=reason.correlation,
                reason=reason.reason,
                cost=costs.get(name),
                temperature=temperatures.get(name),
                frequency=spread.frequency if spread else None,
                share_low=spread.low if spread else None,
                share_high=spread.high if spread else None,
            )
        )
    return tuple(lines)


def recommended(recommendation: Recommendation, key: str | None = None) -> RecommendationLine:
    """Put a recommendation into a report.

    Args:
        recommendation: The recommended row of the comparison.
        key: Key of what is recommended in its place; that of the recommendation if not given.
    """
    return RecommendationLine(
        key=key or recommendation.key,
        reason=recommendation.reason,
        held_out=tuple(
            HeldOutLine(
                key=row.key,
                label=row.label,
                error=row.error,
                behind=row.behind,
                standard_error=row.standard_error,
                is_tied=row.is_tied,
                is_allowed=row.is_allowed,
            )
            for row in recommendation.rows
        ),
    )


def stability_summary(stability: Stability | None) -> StabilitySummary | None:
    """Put the spread of the weights into a report; None where the search was not resampled."""
    if stability is None:
        return None
    return StabilitySummary(
        resamples=stability.resamples,
        same_selection=stability.same_selection,
        in_bag_error=stability.in_bag_error,
        out_of_bag_error=stability.out_of_bag_error,
    )


def frontier_lines(
    frontier: Sequence[FrontierPoint], errors: Sequence[int]
) -> tuple[FrontierLine, ...]:
    """Put a frontier into a report.

    Args:
        frontier: Ensembles that no cheaper one beats.
        errors: Errors of each on images that it was not fitted on.
    """
    return tuple(
        FrontierLine(
            cost=point.cost,
            kind=point.ensemble.search,
            members=len(point.ensemble.selected),
            weights=_named(point.ensemble),
            search_errors=point.ensemble.errors,
            errors=wrong,
            is_tied=point.is_tied,
            is_cheapest_tied=point is cheapest_tied(frontier),
        )
        for point, wrong in zip(frontier, errors, strict=True)
    )


def fallback_lines(fallbacks: Sequence[Fallback]) -> tuple[FallbackLine, ...]:
    """Put the weights for the loss of a member into a report."""
    return tuple(
        FallbackLine(
            missing=fallback.member,
            weights=fallback.weights,
            search_errors=fallback.errors,
            search_errors_unchanged=fallback.errors_unchanged,
            scale=fallback.scale,
        )
        for fallback in fallbacks
    )


def _named(ensemble: Ensemble) -> dict[str, float]:
    weights = zip(ensemble.members, ensemble.weights.tolist(), strict=True)
    return {name: weight for name, weight in weights if weight > 0}
