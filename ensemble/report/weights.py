"""From what a search found to what both reports say of its weights."""

from collections.abc import Mapping, Sequence

from ensemble.report.weights_document import MemberLine, StabilitySummary
from ensemble.search.stability import Stability
from ensemble.search.why import MemberReason


def member_lines(
    reasons: Sequence[MemberReason],
    stability: Stability | None,
    families: Mapping[str, str],
    costs: Mapping[str, float],
    temperatures: Mapping[str, float],
) -> tuple[MemberLine, ...]:
    """Say why each member has its weight; costs and temperatures may lack members."""
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


def stability_summary(stability: Stability | None) -> StabilitySummary | None:
    """Put a resampling into the report, where there was one."""
    if stability is None:
        return None
    return StabilitySummary(
        resamples=stability.resamples,
        same_selection=stability.same_selection,
        in_bag_error=stability.in_bag_error,
        out_of_bag_error=stability.out_of_bag_error,
    )
