"""From the findings of a search on a finished run to its report. Searches nothing, draws nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ensemble.evaluation.calibration import Temperature
from ensemble.evaluation.conformal import ConformalSets, JudgedSets
from ensemble.evaluation.outcome import Outcome
from ensemble.images.index import ImageIndex
from ensemble.outranking.table import OutrankingTable
from ensemble.report.build.costs import build_search_costs
from ensemble.report.build.diagnostics import (
    agreement,
    errors_by_class,
    reliability_at,
    sets_on_test,
)
from ensemble.report.build.difference import describe_difference
from ensemble.report.build.weights import (
    fallback_lines,
    frontier_lines,
    member_lines,
    recommended,
    stability_summary,
)
from ensemble.report.documents import diagnostics
from ensemble.report.documents import search as document
from ensemble.report.documents.weights import Cost
from ensemble.search.comparison import JudgedPredictor, warnings
from ensemble.search.explain import explain
from ensemble.search.fallbacks import Fallback, missing_fallbacks
from ensemble.search.frontier import FrontierPoint
from ensemble.search.recommend import Recommendation, answering_key
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig
from ensemble.search.stability import Stability
from ensemble.search.weights import best_member


@dataclass(frozen=True)
class RunIdentity:
    """Which finished run the weights were searched on.

    Attributes:
        name: Name of the run.
        config_sha256: Identity of its settings.
        data_sha256: Identity of its images.
        families: Architecture of each member.
        is_imported: Whether the predictions were computed elsewhere.
    """

    name: str
    config_sha256: str
    data_sha256: str
    families: Mapping[str, str]
    is_imported: bool = False


@dataclass(frozen=True, eq=False)
class SearchFindings:
    """What a search hands to its report.

    Attributes:
        table: The table that weights were fitted on.
        judged: The table that figures are reported on; the same one where it is cross-fitted.
        ensemble: The weights.
        predictors: The comparison, judged.
        temperatures: Temperature of each member; empty where the members were not calibrated.
        average: Temperature of the average.
        stability: How the weights vary over bootstrap samples; None where none were searched.
        frontier: Error against cost; empty where members have no costs.
        fallbacks: Weights for the loss of each member.
        cost_unit: What members are charged in; None where they are not.
        recommendation: Which predictor is recommended, and why.
        notes: What a reader should know first, in sentences.
        costs: What the run measured, by unit, then member.
        test: Images that the results are judged on.
        on_test: Outcomes on these images: by key of the best member, of what is recommended and of the
            ensemble, and by `CALIBRATED` of the ensemble at the average's temperature; empty where the
            results are cross-fitted.
        conformal: Sets of classes that answers have, at the temperature of the average; None where they have none.
        sets: The same, judged on the test images; None where the results are cross-fitted.
    """

    table: OutrankingTable
    judged: OutrankingTable
    ensemble: Ensemble
    predictors: tuple[JudgedPredictor, ...]
    temperatures: Mapping[str, Temperature]
    average: Temperature
    stability: Stability | None
    frontier: tuple[FrontierPoint, ...]
    fallbacks: tuple[Fallback, ...]
    cost_unit: str | None
    recommendation: Recommendation
    notes: tuple[str, ...] = ()
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    test: ImageIndex | None = None
    on_test: Mapping[str, Outcome] = field(default_factory=dict)
    conformal: ConformalSets | None = None
    sets: JudgedSets | None = None


CALIBRATED = "ensemble, calibrated"
"""Key of the ensemble's outcome at the temperature of the average."""


def build(
    run: RunIdentity,
    settings: dict[str, Any],
    search: SearchConfig,
    findings: SearchFindings,
    execution: document.Execution,
) -> document.SearchReport:
    """Put a report together.

    Args:
        run: The run that weights were searched on.
        settings: All settings of the job, as JSON values.
        search: Settings of the search.
        findings: The weights, and everything said of them.
        execution: Seconds and versions.
    """
    table, ensemble = findings.table, findings.ensemble
    return document.SearchReport(
        run=run.name,
        config_sha256=run.config_sha256,
        data_sha256=run.data_sha256,
        settings=settings,
        is_imported=run.is_imported,
        search=ensemble.search,
        combine=ensemble.combine,
        scale=ensemble.scale,
        k=ensemble.k,
        classes=table.num_classes,
        search_images=table.num_images,
        judged_images=findings.judged.num_images,
        is_cross_fitted=findings.judged is table,
        cost_unit=findings.cost_unit,
        warnings=(
            *findings.notes,
            *warnings(table, ensemble),
            *missing_fallbacks(ensemble, findings.fallbacks, search),
        ),
        recommendation=recommended(findings.recommendation),
        results=tuple(_predictor(predictor) for predictor in findings.predictors),
        members=member_lines(
            explain(table, ensemble, search),
            findings.stability,
            run.families,
            search.costs,
            {name: temperature.value for name, temperature in findings.temperatures.items()},
        ),
        stability=stability_summary(findings.stability),
        frontier=frontier_lines(
            findings.frontier,
            [
                findings.judged.of(p.ensemble.combine).errors(p.ensemble.units, ensemble.k)
                for p in findings.frontier
            ],
        ),
        fallbacks=fallback_lines(findings.fallbacks),
        costs=_costs(findings, search),
        average_temperature=_average_temperature(findings.average),
        reliability=_reliability(findings),
        sets=sets_on_test(
            next(
                row.label
                for row in findings.predictors
                if row.key == answering_key(findings.recommendation, search)
            ),
            findings.sets,
        ),
        class_names=() if findings.test is None else findings.test.classes,
        errors_by_class=_errors_by_class(findings),
        agreement=agreement(
            dict(zip(table.member_names, (findings.judged.ranks >= ensemble.k).T, strict=True)),
            ensemble.selected,
        ),
        execution=execution,
    )


def _reliability(findings: SearchFindings) -> diagnostics.ReliabilityAtTemperature | None:
    if not findings.on_test:
        return None
    return reliability_at(
        "weighted ensemble",
        findings.on_test["ensemble"],
        findings.average.value,
        findings.on_test.get(CALIBRATED),
    )


def _errors_by_class(findings: SearchFindings) -> diagnostics.ErrorsByClass | None:
    test, outcomes = findings.test, findings.on_test
    if test is None or not outcomes:
        return None
    labels = {row.key: row.label for row in findings.predictors}
    key = findings.recommendation.key
    return errors_by_class(
        test.labels,
        len(test.classes),
        (labels["best"], outcomes["best"]),
        (labels[key], outcomes[key]),
        findings.ensemble.k,
    )


def _costs(findings: SearchFindings, search: SearchConfig) -> tuple[Cost, ...]:
    names, selected = findings.table.member_names, findings.ensemble.selected
    best = names[best_member(findings.table, search)]
    predictors: dict[str, tuple[str, tuple[str, ...]]] = {
        "best": (f"best member ({best})", (best,)),
        "ensemble": (f"the {len(selected)} selected", selected),
        "uniform_all": (f"all {len(names)}", names),
    }
    return build_search_costs(predictors, findings.costs)


def _predictor(predictor: JudgedPredictor) -> document.Predictor:
    against_best, against_uniform = predictor.against_best, predictor.against_uniform
    return document.Predictor(
        key=predictor.key,
        label=predictor.label,
        members=predictor.members,
        n=predictor.n,
        errors=predictor.errors,
        error=predictor.errors / predictor.n,
        nll=predictor.nll,
        against_best=describe_difference(against_best) if against_best else None,
        against_uniform=describe_difference(against_uniform) if against_uniform else None,
    )


def _average_temperature(temperature: Temperature) -> document.AverageTemperature:
    return document.AverageTemperature(
        value=temperature.value,
        nll_before=temperature.nll_before,
        nll_after=temperature.nll_after,
        is_kept=temperature.is_kept,
    )
