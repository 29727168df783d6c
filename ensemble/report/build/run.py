"""Building report.json from the findings of a run: scores and intervals, but no drawings."""

from collections.abc import Callable

import numpy as np

from ensemble.evaluation.outcome import Outcome
from ensemble.outranking import measures
from ensemble.outranking.fixed_point import WEIGHT_UNITS
from ensemble.report.build.difference import difference
from ensemble.report.build.examples import Change, PredictorOnTest, list_examples
from ensemble.report.build.findings import Findings, frontier_key
from ensemble.report.build.subclassifiers import build_subclassifiers
from ensemble.report.build.weights import frontier_lines, member_lines, stability_summary
from ensemble.report.documents import provenance
from ensemble.report.documents import run as document
from ensemble.report.documents import weights as weights_document
from ensemble.report.documents.subclassifiers import Subclassifiers
from ensemble.search.comparison import warnings
from ensemble.search.explain import explain
from ensemble.search.stability import bootstrap
from ensemble.subclassifiers.answers import CalibrationOnTest
from ensemble.table.logit_table import LogitTable
from ensemble.views.policies import describe_views, list_views

STABILITY_RESAMPLES = 200

MAX_RESAMPLED_NUMBERS = 5_000_000
"""Size of the largest outranking table whose search a run resamples. It is no limit of time, by which
two runs of one config would differ; `ensemble search` resamples tables of any size."""


def build(
    name: str,
    identity: provenance.Identity,
    settings: tuple[int, int, int],
    findings: Findings,
    table: LogitTable,
    decode: Callable[[str], np.ndarray],
    execution: provenance.Execution,
) -> document.Report:
    """Put a report together.

    Args:
        name: Name of the run.
        identity: Settings, code and data that the figures depend on.
        settings: k of the top-k error, number of bootstrap resamples, and greatest number of examples.
        findings: What the stages of the run found.
        table: The logit table, for the probabilities of single images.
        decode: Gives the pixels of an image by its id, uint8 RGB.
        execution: Time, hosts and counts of the run.
    """
    top_k, resamples, max_examples = settings
    return document.Report(
        name=name,
        identity=identity,
        data=_data(findings),
        top_k=top_k,
        members=tuple(_member(findings, i, top_k) for i in range(len(findings.members))),
        search=_search(findings),
        results=_results(findings, top_k, resamples),
        calibration=_calibration(findings.calibration),
        subclassifiers=_subclassifiers(findings, table, decode, (top_k, resamples)),
        examples=_examples(findings, table, decode, max_examples),
        execution=execution,
    )


def _score(outcome: Outcome, top_k: int) -> document.Score:
    return document.Score.of(
        len(outcome.ranks), outcome.errors(1), outcome.errors(top_k), outcome.nll
    )


def _data(findings: Findings) -> provenance.Data:
    splits = findings.splits
    parts = {"train": splits.train, "search": splits.search, "test": splits.test}
    return provenance.Data(
        source=splits.test.source,
        classes=splits.test.classes,
        num_images=sum(len(part) for part in parts.values()),
        splits=tuple(
            provenance.Split.model_validate(
                {"name": key, "images": len(part), "sha256": part.sha256}
            )
            for key, part in parts.items()
        ),
        bad_images=tuple(
            provenance.BadImage(image_id=bad.image_id, reason=bad.reason) for bad in findings.bad
        ),
    )


def _member(findings: Findings, index: int, top_k: int) -> document.Member:
    member, weight = findings.members[index], float(findings.ensemble.weights[index])
    return document.Member(
        name=member.name,
        architecture=member.architecture,
        seed=member.seed,
        parameters=member.parameters,
        views=describe_views(member.views, member.preprocessing.size),
        num_views=len(list_views(member.views, member.preprocessing.size)),
        weight=weight,
        selected=weight > 0,
        search=_score(findings.search[member.name], top_k),
        test=_score(findings.test[member.name], top_k),
    )


def _search(findings: Findings) -> weights_document.Search:
    ensemble, outranking, settings = findings.ensemble, findings.outranking, findings.settings
    stability = None
    if outranking.differences.size <= MAX_RESAMPLED_NUMBERS:
        stability = bootstrap(outranking, ensemble, settings, STABILITY_RESAMPLES, settings.seed)
    families = {member.name: member.architecture for member in findings.members}
    temperatures = {m.name: m.temperature for m in findings.members if m.temperature != 1.0}
    reasons = explain(outranking, ensemble, settings)
    on_test = [findings.test[frontier_key(i)] for i in range(len(findings.frontier))]
    return weights_document.Search(
        kind=ensemble.kind,
        k=ensemble.k,
        num_images=ensemble.num_images,
        steps=tuple(
            weights_document.SearchStep(
                member=step.member,
                weight=step.weight,
                errors=step.errors,
                selected=step.selected,
                errors_by_weight=tuple(step.errors_by_weight.tolist()),
            )
            for step in ensemble.steps
        ),
        tied_images=measures.num_ties(outranking, ensemble.units, ensemble.k),
        warnings=warnings(outranking, ensemble),
        members=member_lines(reasons, stability, families, settings.costs, temperatures),
        stability=stability_summary(stability),
        cost_unit=findings.cost_unit,
        max_cost=settings.max_cost,
        frontier=frontier_lines(findings.frontier, [out.errors(ensemble.k) for out in on_test]),
    )


def _results(findings: Findings, top_k: int, resamples: int) -> tuple[document.Result, ...]:
    best, uniform = findings.test[findings.best.name], findings.test["uniform_all"]
    rows: list[tuple[document.ResultKey, str, int, Outcome]] = [
        (
            row.key,
            row.label,
            len(row.ensemble.selected),
            best if row.key == "best" else findings.test[row.key],
        )
        for row in findings.predictors
    ]
    if findings.subclassifiers is not None and findings.routed is not None:
        num_members = int((findings.subclassifiers.units > 0).sum())
        label = f"{findings.subclassifiers.first} + sub-classifiers"
        rows.append(("ensemble_subclassifiers", label, num_members, findings.routed.chosen.outcome))
    chosen = "ensemble_subclassifiers" if findings.is_routing else "ensemble"
    return tuple(
        document.Result(
            key=key,
            label=label,
            members=count,
            score=_score(outcome, top_k),
            against_best=None if key == "best" else difference(outcome, best, resamples),
            against_uniform=None
            if key == "uniform_all"
            else difference(outcome, uniform, resamples),
            chosen=key == chosen,
        )
        for key, label, count, outcome in rows
    )


def _calibration(calibration: CalibrationOnTest | None) -> document.Calibration | None:
    if calibration is None:
        return None
    temperature = calibration.temperature
    return document.Calibration(
        temperature=temperature.value,
        is_kept=temperature.is_kept,
        search_images=temperature.n,
        search_nll_before=temperature.nll_before,
        search_nll_after=temperature.nll_after,
        test_nll_before=calibration.nll_before,
        test_nll_after=calibration.nll_after,
    )


def _subclassifiers(
    findings: Findings,
    table: LogitTable,
    decode: Callable[[str], np.ndarray],
    settings: tuple[int, int],
) -> Subclassifiers | None:
    subclassified, config = findings.subclassifiers, findings.subclassifier_settings
    if subclassified is None or config is None or findings.routed is None:
        return None
    return build_subclassifiers(
        config,
        subclassified,
        findings.routed,
        findings.test[subclassified.member.name],
        findings.splits,
        findings.members,
        table,
        decode,
        settings,
    )


def _examples(
    findings: Findings,
    table: LogitTable,
    decode: Callable[[str], np.ndarray],
    max_examples: int,
) -> tuple[document.Example, ...]:
    name, units = findings.best.name, findings.ensemble.units
    best = np.zeros_like(units)
    best[findings.members.index(findings.best)] = WEIGHT_UNITS
    changes = [
        Change(
            before=PredictorOnTest(name, best, findings.test[name]),
            after=PredictorOnTest("weighted ensemble", units, findings.test["ensemble"]),
        )
    ]
    subclassified, routed = findings.subclassifiers, findings.routed
    if findings.is_routing and subclassified and routed:
        units, chosen = subclassified.units, routed.chosen
        changes.append(
            Change(
                before=PredictorOnTest(subclassified.first, units, routed.first),
                after=PredictorOnTest("with sub-classifiers", units, chosen.outcome, chosen.fitted),
            )
        )
    return list_examples(
        changes, table, findings.members, findings.splits.test, decode, max_examples
    )
