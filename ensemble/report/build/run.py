"""From what a run found to its report. Computes scores and intervals; draws nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ensemble.evaluation.outcome import Outcome
from ensemble.images.shard import BadImage
from ensemble.images.split import Splits
from ensemble.members.member import Member
from ensemble.outranking.fixed_point import WEIGHT_UNITS
from ensemble.outranking.table import OutrankingTable
from ensemble.report.build.difference import difference
from ensemble.report.build.examples import Change, list_examples
from ensemble.report.build.subclassifiers import build_subclassifiers
from ensemble.report.build.weights import frontier_lines, member_lines, stability_summary
from ensemble.report.documents import run as document
from ensemble.report.documents import weights as weights_document
from ensemble.report.documents.subclassifiers import Subclassifiers
from ensemble.search.comparison import Predictor, warnings
from ensemble.search.explain import explain
from ensemble.search.fallbacks import WithoutMember
from ensemble.search.frontier import FrontierPoint
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig
from ensemble.search.stability import bootstrap
from ensemble.search.weights import best_member
from ensemble.subclassifiers.answers import CalibrationOnTest
from ensemble.subclassifiers.findings import Subclassified, SubclassifiersOnTest
from ensemble.subclassifiers.settings import SubclassifiersConfig
from ensemble.table.logit_table import LogitTable
from ensemble.views.policies import describe_views, list_views

STABILITY_RESAMPLES = 200


MAX_RESAMPLED_NUMBERS = 5_000_000
"""Of an outranking table with more, a run tells no stability; a clock would tell two runs apart.
`ensemble search` does it for tables of any size."""


@dataclass(frozen=True)
class Findings:
    """What the stages of a run hand to the report.

    Attributes:
        splits: The images.
        bad: Images left out, and why.
        members: The pool.
        ensemble: The weights.
        outranking: The search split as the search saw it.
        predictors: What the ensemble is compared with, and the ensemble itself.
        search: Outcome of each member on the search split, by name.
        test: Outcome of each member by name, and of each predictor but the best member by its key.
        calibration: A temperature for the answers of the chosen predictor; None where there were too
            few images to fit one.
        subclassifiers: What was fine-tuned and chosen; none without sub-classifiers.
        routed: How that does on the test split.
        subclassifier_settings: How that was asked for.
        settings: Of the search.
        cost_unit: What members were charged in; None where they were not.
        frontier: Error against cost, where they were; outcomes are at `frontier_key` in `test`.
        fallbacks: Weights for the loss of a member, over others that have a weight; none where the
            base of sub-classifiers answers with other weights than the ensemble's.
    """

    splits: Splits
    bad: tuple[BadImage, ...]
    members: tuple[Member, ...]
    ensemble: Ensemble
    outranking: OutrankingTable
    predictors: tuple[Predictor, ...]
    search: dict[str, Outcome]
    test: dict[str, Outcome]
    calibration: CalibrationOnTest | None = None
    subclassifiers: Subclassified | None = None
    routed: SubclassifiersOnTest | None = None
    subclassifier_settings: SubclassifiersConfig | None = None
    settings: SearchConfig = field(default_factory=SearchConfig)
    cost_unit: str | None = None
    frontier: tuple[FrontierPoint, ...] = ()
    fallbacks: tuple[WithoutMember, ...] = ()

    @property
    def best(self) -> Member:
        """The best single member on the search split, by what the search lowers."""
        return self.members[best_member(self.outranking, self.settings)]

    @property
    def is_routing(self) -> bool:
        """Whether sub-classifiers lower the errors on held-out search images."""
        return self.subclassifiers is not None and self.subclassifiers.is_used


def frontier_key(number: int) -> str:
    """Name the outcome of a point of the frontier."""
    return f"frontier {number}"


def build(
    name: str,
    identity: document.Identity,
    settings: tuple[int, int, int],
    findings: Findings,
    table: LogitTable,
    decode: Callable[[str], np.ndarray],
    execution: document.Execution,
) -> document.Report:
    """Put a report together.

    Args:
        name: Of the run.
        identity: What the figures depend on.
        settings: k of the top-k error, bootstrap resamples, and examples at the most.
        findings: What the stages found.
        table: For the probabilities of single images.
        decode: Pixels of an image, uint8 RGB.
        execution: How the run went.
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


def _data(findings: Findings) -> document.Data:
    splits = findings.splits
    parts = {"train": splits.train, "search": splits.search, "test": splits.test}
    return document.Data(
        source=splits.test.source,
        classes=splits.test.classes,
        num_images=sum(len(part) for part in parts.values()),
        splits=tuple(
            document.Split.model_validate({"name": key, "images": len(part), "sha256": part.sha256})
            for key, part in parts.items()
        ),
        bad_images=tuple(
            document.BadImage(image_id=bad.image_id, reason=bad.reason) for bad in findings.bad
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
        tied_images=outranking.num_ties(ensemble.units, ensemble.k),
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


def _calibration(found: CalibrationOnTest | None) -> document.Calibration | None:
    if found is None:
        return None
    fitted = found.temperature
    return document.Calibration(
        temperature=fitted.value,
        is_kept=fitted.is_kept,
        search_images=fitted.n,
        search_nll_before=fitted.nll_before,
        search_nll_after=fitted.nll_after,
        test_nll_before=found.nll_before,
        test_nll_after=found.nll_after,
    )


def _subclassifiers(
    findings: Findings,
    table: LogitTable,
    decode: Callable[[str], np.ndarray],
    settings: tuple[int, int],
) -> Subclassifiers | None:
    found, config = findings.subclassifiers, findings.subclassifier_settings
    if found is None or config is None or findings.routed is None:
        return None
    return build_subclassifiers(
        config,
        found,
        findings.routed,
        findings.test[found.member.name],
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
    units = findings.ensemble.units
    best = np.zeros_like(units)
    best[findings.members.index(findings.best)] = WEIGHT_UNITS
    changes = [
        Change(
            (findings.best.name, best, None),
            ("weighted ensemble", units, None),
            findings.test[findings.best.name],
            findings.test["ensemble"],
        )
    ]
    if findings.is_routing and findings.subclassifiers and findings.routed:
        found, routed = findings.subclassifiers, findings.routed
        changes.append(
            Change(
                (found.first, found.units, None),
                ("with sub-classifiers", found.units, routed.chosen.fitted),
                routed.first,
                routed.chosen.outcome,
            )
        )
    return list_examples(
        changes, table, findings.members, findings.splits.test, decode, max_examples
    )
