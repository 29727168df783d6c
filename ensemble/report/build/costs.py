"""What predictors cost an image: the best member, the selected members, all members, the recommended."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from ensemble.members.member import Member
from ensemble.report.build.findings import Findings
from ensemble.report.documents.run import ResultKey
from ensemble.report.documents.weights import Cost
from ensemble.search.settings import PredictorKey


def build_costs(findings: Findings) -> tuple[Cost, ...]:
    """Put the costs of the best member, of the selected members, of all and of what is recommended in a report."""
    return tuple(
        Cost(
            key=key,
            label=label,
            networks=len(_networks(members)),
            parameters=sum(member.parameters for member in _networks(members)),
            flops=_sum(findings, members, "flops"),
            depth=None
            if (depth := _sum(findings, _networks(members), "depth")) is None
            else int(depth),
        )
        for key, label, members in _predictors(findings)
    )


def seconds_per_image(findings: Findings) -> dict[str, float]:
    """Give the seconds that an image took on one device, by key; no entry where they were not measured."""
    seconds = {key: _sum(findings, members, "seconds") for key, _, members in _predictors(findings)}
    return {key: value for key, value in seconds.items() if value is not None}


def seconds_by_member(findings: Findings) -> dict[str, float]:
    """Give the seconds that an image took each member, by name; no entry where they were not measured."""
    seconds = {m.name: cost_or_none(findings, m, "seconds") for m in findings.members}
    return {name: value for name, value in seconds.items() if value is not None}


def build_search_costs(
    members_by_key: Mapping[str, tuple[str, Collection[str]]],
    costs: Mapping[str, Mapping[str, float]],
) -> tuple[Cost, ...]:
    """Put the costs of some predictors into the report of a search.

    Args:
        members_by_key: Label and members of each predictor, by key.
        costs: What the run measured, by unit, then member; a unit is there if every member has it.
    """

    def total(unit: str, members: Collection[str]) -> float | None:
        return sum(costs[unit][name] for name in members) if unit in costs else None

    def count(unit: str, members: Collection[str]) -> int | None:
        value = total(unit, members)
        return None if value is None else int(value)

    return tuple(
        Cost(
            key=key,
            label=label,
            networks=len(members),
            parameters=count("parameters", members),
            flops=total("flops", members),
            depth=count("depth", members),
            seconds=total("seconds", members),
        )
        for key, (label, members) in members_by_key.items()
    )


def cost_or_none(findings: Findings, member: Member, unit: str) -> float | None:
    """Give what a member costs an image; None where it was not measured."""
    return findings.costs.get(member.column, {}).get(unit) or None


def _predictors(findings: Findings) -> Iterator[tuple[ResultKey, str, list[Member]]]:
    labels: dict[PredictorKey, str] = {
        "best": f"best member ({findings.best.name})",
        "ensemble": f"the {len(findings.ensemble.selected)} selected",
        "uniform_all": f"all {len(findings.members)}",
    }
    by_key = {row.key: row for row in findings.outcome.predictors}
    recommended = findings.outcome.recommendation.key
    if recommended in by_key and recommended not in (*labels, "uniform_selected"):
        labels[recommended] = by_key[recommended].label
    for key, label in labels.items():
        yield key, label, _weighted(findings, by_key[key].ensemble.units.tolist())
    subclassified = findings.subclassifiers
    if findings.is_routing and subclassified is not None:
        fitted = subclassified.fitted()
        subs = [fitted.subclassifiers[number] for number in fitted.routing.used]
        first = _weighted(findings, subclassified.weighting.units.tolist())
        yield "ensemble_subclassifiers", f"{subclassified.first} + sub-classifiers", first + subs


def _weighted(findings: Findings, units: Sequence[int]) -> list[Member]:
    return [member for member, unit in zip(findings.members, units, strict=True) if unit]


def _networks(members: Sequence[Member]) -> list[Member]:
    """Keep one member of each network: the views of a member share it."""
    return list({member.weights_sha256: member for member in members}.values())


def _sum(findings: Findings, members: Sequence[Member], unit: str) -> float | None:
    costs = [cost_or_none(findings, member, unit) for member in members]
    return None if None in costs else float(sum(cost for cost in costs if cost is not None))
