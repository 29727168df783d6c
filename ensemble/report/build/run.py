"""Building report.json from the findings of a run: scores and intervals, but no drawings."""

from collections.abc import Callable

import numpy as np

from ensemble.evaluation.outcome import Outcome
from ensemble.members.member import Member
from ensemble.outranking import measures
from ensemble.outranking.fixed_point import WEIGHT_UNITS
from ensemble.outranking.weighting import Weighting
from ensemble.report.build.costs import (
    build_costs,
    cost_or_none,
    seconds_by_member,
    seconds_per_image,
)
from ensemble.report.build.curves import read_curves, read_training_seconds
from ensemble.report.build.diagnostics import (
    agreement,
    errors_by_class,
    reliability_at,
    sets_on_test,
)
from ensemble.report.build.difference import difference
from ensemble.report.build.examples import Change, PredictorOnTest, list_examples
from ensemble.report.build.findings import Findings, frontier_key
from ensemble.report.build.subclassifiers import build_subclassifiers
from ensemble.report.build.views import networks_by_views, seen_image
from ensemble.report.build.weights import (
    fallback_lines,
    frontier_lines,
    member_lines,
    recommended,
    stability_summary,
)
from ensemble.report.documents import diagnostics, provenance
from ensemble.report.documents import run as document
from ensemble.report.documents import weights as weights_document
from ensemble.report.documents.subclassifiers import Subclassifiers
from ensemble.search.comparison import warnings
from ensemble.subclassifiers.answers import CalibrationOnTest
from ensemble.subclassifiers.findings import Subclassified
from ensemble.table.logit_table import LogitTable
from ensemble.views.policies import describe_views, list_views


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
        settings: k of the top-k error beside the top-1 error where the search counts top-1 errors, number
            of bootstrap resamples, and greatest number of examples.
        findings: What the stages of the run found.
        table: The logit table, for the probabilities of single images.
        decode: Gives the pixels of an image by its id, uint8 RGB.
        execution: Time, hosts and counts of the run.
    """
    top_k, resamples, max_examples = settings
    k = findings.ensemble.k
    if k > 1:  # one more k would say less than the two that matter
        top_k = k
    return document.Report(
        name=name,
        identity=identity,
        data=_data(findings),
        top_k=top_k,
        k=k,
        members=tuple(_member(findings, i, top_k) for i in range(len(findings.members))),
        search=_search(findings),
        recommendation=recommended(findings.outcome.recommendation, findings.recommended_key),
        results=_results(findings, top_k, resamples),
        costs=build_costs(findings),
        fallbacks=fallback_lines(findings.fallbacks),
        calibration=_calibration(findings.calibration),
        reliability=_reliability(findings),
        sets=sets_on_test(
            _answering(findings), findings.calibration.sets if findings.calibration else None
        ),
        errors_by_class=_errors_by_class(findings),
        agreement=agreement(
            {member.name: findings.test[member.name].is_error(k) for member in findings.members},
            findings.ensemble.selected,
        ),
        networks_by_views=networks_by_views(findings, 1 if k > 1 else top_k, resamples),
        seen_image=seen_image(findings, decode) if max_examples else None,
        curves=read_curves([*findings.members, *_fine_tuned(findings.subclassifiers)]),
        subclassifiers=_subclassifiers(findings, table, decode, (k, top_k, resamples)),
        examples=_examples(findings, table, decode, max_examples),
        execution=execution.model_copy(
            update={
                "seconds_per_image": seconds_per_image(findings),
                "seconds_by_member": seconds_by_member(findings),
                "training_seconds": read_training_seconds(findings.members),
            }
        ),
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
        flops=cost_or_none(findings, member, "flops"),
        depth=None if (depth := cost_or_none(findings, member, "depth")) is None else int(depth),
        views=describe_views(member.views, member.preprocessing.size),
        num_views=len(list_views(member.views, member.preprocessing.size)),
        weight=weight,
        selected=weight > 0,
        among_all=_among_all(findings, member),
        search=_score(findings.search[member.name], top_k),
        test=_score(findings.test[member.name], top_k),
    )


def _among_all(findings: Findings, member: Member) -> document.AmongAllOutputs | None:
    both = findings.among_all.get(member.pool_name)
    if both is None:
        return None
    k = findings.ensemble.k
    return document.AmongAllOutputs(
        outputs=both.outputs,
        n=len(both.among_all.ranks),
        errors_among_classes=both.among_classes.errors(k),
        errors_among_all=both.among_all.errors(k),
    )


def _search(findings: Findings) -> weights_document.Search:
    outranking, outcome = findings.outranking, findings.outcome
    ensemble, settings = outcome.ensemble, outcome.settings
    families = {member.name: member.architecture for member in findings.members}
    temperatures = {m.name: m.temperature for m in findings.members if m.temperature != 1.0}
    on_test = [findings.test[frontier_key(i)] for i in range(len(outcome.frontier))]
    return weights_document.Search(
        kind=ensemble.kind,
        combine=ensemble.combine,
        scale=ensemble.scale,
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
        tied_images=measures.num_ties(outranking.of(ensemble.combine), ensemble.units, ensemble.k),
        warnings=(*findings.notes, *warnings(outranking, ensemble)),
        members=member_lines(
            outcome.reasons, outcome.stability, families, settings.costs, temperatures
        ),
        stability=stability_summary(outcome.stability),
        cost_unit=findings.cost_unit,
        max_cost=settings.max_cost,
        frontier=frontier_lines(outcome.frontier, [out.errors(ensemble.k) for out in on_test]),
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
        for row in findings.outcome.predictors
    ]
    if findings.subclassifiers is not None and findings.routed is not None:
        num_members = int((findings.subclassifiers.weighting.units > 0).sum())
        label = f"{findings.subclassifiers.first} + sub-classifiers"
        rows.append(("ensemble_subclassifiers", label, num_members, findings.routed.chosen.outcome))
    k = findings.ensemble.k
    return tuple(
        document.Result(
            key=key,
            label=label,
            members=count,
            score=_score(outcome, top_k),
            against_best=None if key == "best" else difference(outcome, best, k, resamples),
            against_uniform=None
            if key == "uniform_all"
            else difference(outcome, uniform, k, resamples),
            chosen=key == findings.recommended_key,
            answers=key == findings.answering_key,
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


def _reliability(findings: Findings) -> diagnostics.ReliabilityAtTemperature | None:
    """Judge how reliable the answers of the artifact are; None where no temperature could be fitted."""
    calibration = findings.calibration
    if calibration is None:
        return None
    temperature = calibration.temperature
    after = calibration.after if temperature.is_kept else None
    return reliability_at(_answering(findings), calibration.before, temperature.value, after)


def _answering(findings: Findings) -> str:
    """Name the predictor that the artifact answers with."""
    subclassified = findings.subclassifiers
    if findings.is_routing and subclassified is not None:
        return f"{subclassified.first} + sub-classifiers"
    return findings.answer.label


def _errors_by_class(findings: Findings) -> diagnostics.ErrorsByClass:
    test, routed = findings.splits.test, findings.routed
    best = (findings.best.name, findings.test[findings.best.name])
    key, recommended = findings.recommended_key, best
    if key == "ensemble_subclassifiers" and findings.subclassifiers and routed:
        label = f"{findings.subclassifiers.first} + sub-classifiers"
        recommended = (label, routed.chosen.outcome)
    elif key != "best":
        row = next(row for row in findings.outcome.predictors if row.key == key)
        recommended = (row.label, findings.test[key])
    return errors_by_class(test.labels, len(test.classes), best, recommended, findings.ensemble.k)


def _fine_tuned(subclassified: Subclassified | None) -> list[Member]:
    """List the sub-classifiers of all numbers of label clusters that were tried."""
    if subclassified is None:
        return []
    return [network for tried in subclassified.tried for network in tried.subclassifiers.values()]


def _subclassifiers(
    findings: Findings,
    table: LogitTable,
    decode: Callable[[str], np.ndarray],
    settings: tuple[int, int, int],
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
    name, answer = findings.best.name, findings.answer
    best = np.zeros(len(findings.members), dtype=np.int64)
    best[findings.members.index(findings.best)] = WEIGHT_UNITS
    changes = []
    if answer.key != "best":
        outcome = findings.test[answer.key]
        changes.append(
            Change(
                before=PredictorOnTest(name, Weighting(best), findings.test[name]),
                after=PredictorOnTest(answer.label, answer.ensemble.weighting, outcome),
            )
        )
    subclassified, routed = findings.subclassifiers, findings.routed
    if findings.is_routing and subclassified and routed:
        weighting, chosen = subclassified.weighting, routed.chosen
        changes.append(
            Change(
                before=PredictorOnTest(subclassified.first, weighting, routed.first),
                after=PredictorOnTest(
                    "with sub-classifiers", weighting, chosen.outcome, chosen.fitted
                ),
            )
        )
    return list_examples(
        changes,
        table,
        findings.members,
        findings.splits.test,
        decode,
        max_examples,
        findings.ensemble.k,
    )
