"""From what a run found to its report. Computes scores and intervals; draws nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool

from ensemble.evaluation import FittedRouting, Outcome, within_cluster
from ensemble.images.shard import BadImage
from ensemble.images.split import Splits
from ensemble.members import Member
from ensemble.report import document, weights_document
from ensemble.report.examples import Change, list_examples
from ensemble.report.weights import member_lines, stability_summary
from ensemble.search.config import SearchConfig
from ensemble.search.fixed_point import WEIGHT_UNITS
from ensemble.search.honesty import compare, warnings
from ensemble.search.outranking import OutrankingTable
from ensemble.search.result import Ensemble
from ensemble.search.stability import bootstrap
from ensemble.search.why import explain
from ensemble.subclassifiers.embeddings import cosine_similarity, label_embeddings
from ensemble.subclassifiers.route import RoutingCurve
from ensemble.table.logit_table import LogitTable
from ensemble.view_policies import describe_views, list_views

MAX_CURVE_POINTS = 60
STABILITY_RESAMPLES = 200
MAX_RESAMPLED_NUMBERS = 5_000_000
"""Of an outranking table with more, a run tells no stability; a clock would tell two runs apart.
`ensemble search` does it for tables of any size."""


@dataclass(frozen=True)
class Candidate:
    """One number of label clusters, with everything that was fitted for it."""

    fitted: FittedRouting
    curve: RoutingCurve


@dataclass(frozen=True)
class Findings:
    """What the stages of a run hand to the report.

    Attributes:
        splits: The images.
        bad: Images left out, and why.
        members: The pool.
        ensemble: The weights.
        outranking: The search split as the search saw it.
        search: Outcome of each member on the search split, by name.
        test: Outcome of each member by name, and of `uniform_all`, `uniform_selected`, `ensemble`.
        base: The member that sub-classifiers start from; none without sub-classifiers.
        candidates: Fitted routings, one for each number of label clusters tried.
        chosen: Which of them.
        routed_test: Outcome with sub-classifiers on the test split, and which images were routed.
        paper: The paper's weights, where another search was asked for; its outcome is `paper` in
            `test`.
        settings: Of the search.
    """

    splits: Splits
    bad: tuple[BadImage, ...]
    members: tuple[Member, ...]
    ensemble: Ensemble
    outranking: OutrankingTable
    search: dict[str, Outcome]
    test: dict[str, Outcome]
    base: Member | None = None
    candidates: tuple[Candidate, ...] = ()
    chosen: Candidate | None = None
    routed_test: tuple[Outcome, Bool[np.ndarray, "image"]] | None = None
    paper: Ensemble | None = None
    settings: SearchConfig = field(default_factory=SearchConfig)

    @property
    def best(self) -> Member:
        """The best single member where the search was fitted: the first that its order takes."""
        return self.members[best_member(self.outranking, self.ensemble.k)]

    @property
    def is_routing(self) -> bool:
        """Whether sub-classifiers lower the errors on the search split."""
        return self.chosen is not None and bool(np.isfinite(self.chosen.fitted.routing.threshold))


def best_member(outranking: OutrankingTable, k: int) -> int:
    """Index of the member with the fewest errors; of equals the lower NLL, then pool order."""
    order = np.lexsort((outranking.member_nll(), outranking.member_errors(k)))
    return int(order[0])


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
        subclassifiers=_subclassifiers(findings, table, top_k),
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
    reasons = explain(outranking, ensemble, settings)
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
        members=member_lines(reasons, stability, families, {}, {}),
        stability=stability_summary(stability),
    )


def _results(findings: Findings, top_k: int, resamples: int) -> tuple[document.Result, ...]:
    best, selected = findings.test[findings.best.name], len(findings.ensemble.selected)
    uniform = findings.test["uniform_all"]
    everyone = len(findings.members)
    rows: list[tuple[document.ResultKey, str, int, Outcome]] = [
        ("best", f"best member ({findings.best.name})", 1, best),
        ("uniform_all", f"uniform over all {everyone}", everyone, uniform),
        (
            "uniform_selected",
            f"uniform over the {selected} selected",
            selected,
            findings.test["uniform_selected"],
        ),
        ("ensemble", "weighted ensemble", selected, findings.test["ensemble"]),
    ]
    if findings.paper is not None:
        count = len(findings.paper.selected)
        rows.insert(3, ("paper", "the paper's search", count, findings.test["paper"]))
    if findings.routed_test is not None:
        rows.append(
            (
                "ensemble_subclassifiers",
                "weighted ensemble + sub-classifiers",
                selected,
                findings.routed_test[0],
            )
        )
    chosen = "ensemble_subclassifiers" if findings.is_routing else "ensemble"
    return tuple(
        document.Result(
            key=key,
            label=label,
            members=count,
            score=_score(outcome, top_k),
            against_best=None if key == "best" else _compare(outcome, best, resamples),
            against_uniform=None if key == "uniform_all" else _compare(outcome, uniform, resamples),
            chosen=key == chosen,
        )
        for key, label, count, outcome in rows
    )


def _compare(outcome: Outcome, other: Outcome, resamples: int) -> document.Difference:
    found = compare(outcome.is_wrong, other.is_wrong, resamples)
    interval = found.interval
    return document.Difference(
        difference=interval.mean,
        low=interval.low,
        high=interval.high,
        level=interval.level,
        resamples=resamples,
        fixed=found.fixed,
        broken=found.broken,
        mcnemar_p=found.p,
    )


def _threshold(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _subclassifiers(
    findings: Findings, table: LogitTable, top_k: int
) -> document.Subclassifiers | None:
    if findings.base is None or findings.chosen is None or findings.routed_test is None:
        return None
    chosen = findings.chosen
    similarity = None
    if len(findings.splits.test.classes) <= document.MAX_DRAWN_CLASSES:
        cosines = cosine_similarity(label_embeddings(findings.base))
        similarity = tuple(tuple(round(float(v), 6) for v in row) for row in cosines)
    return document.Subclassifiers(
        base=findings.base.name,
        routed_base="weighted ensemble",
        num_clusters=len(chosen.fitted.routing.clusters),
        threshold=_threshold(chosen.fitted.routing.threshold),
        candidates=tuple(_candidate(candidate) for candidate in findings.candidates),
        curve=_curve(chosen.curve),
        similarity=similarity,
        clusters=tuple(
            _label_cluster(findings, table, index, findings.base, sub, top_k)
            for index, sub in enumerate(chosen.fitted.subclassifiers)
        ),
        routed_test=int(findings.routed_test[1].sum()),
    )


def _candidate(candidate: Candidate) -> document.RoutingCandidate:
    curve = candidate.curve
    return document.RoutingCandidate(
        num_clusters=len(candidate.fitted.routing.clusters),
        threshold=_threshold(candidate.fitted.routing.threshold),
        search_errors=int(curve.errors[curve.best]),
        routed=int(curve.routed[curve.best]),
    )


def _curve(curve: RoutingCurve) -> tuple[document.RoutingPoint, ...]:
    finite = np.flatnonzero(np.isfinite(curve.thresholds))
    # Evenly over the images routed, so that a long curve keeps its shape; the chosen point stays.
    picked = finite[np.linspace(0, len(finite) - 1, min(MAX_CURVE_POINTS, len(finite))).astype(int)]
    if np.isfinite(curve.thresholds[curve.best]):
        picked = np.union1d(picked, curve.best)
    return tuple(
        document.RoutingPoint(
            threshold=float(curve.thresholds[i]),
            search_errors=int(curve.errors[i]),
            routed=int(curve.routed[i]),
        )
        for i in np.unique(picked)
    )


def _label_cluster(
    findings: Findings, table: LogitTable, index: int, base: Member, sub: Member, top_k: int
) -> document.LabelCluster:
    train, test = findings.splits.train, findings.splits.test
    ours = within_cluster(table, base, test, sub.classes)
    theirs = within_cluster(table, sub, test, sub.classes)
    n = len(ours.ranks)

    def accuracy(outcome: Outcome, k: int) -> float | None:
        return 1 - outcome.errors(k) / n if n else None

    return document.LabelCluster(
        index=index,
        classes=sub.classes,
        train_images=int(np.isin(train.labels, sub.classes).sum()),
        test_images=n,
        base_top1_accuracy=accuracy(ours, 1),
        sub_top1_accuracy=accuracy(theirs, 1),
        base_topk_accuracy=accuracy(ours, top_k),
        sub_topk_accuracy=accuracy(theirs, top_k),
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
    if findings.is_routing and findings.chosen is not None and findings.routed_test is not None:
        changes.append(
            Change(
                ("weighted ensemble", units, None),
                ("with sub-classifiers", units, findings.chosen.fitted),
                findings.test["ensemble"],
                findings.routed_test[0],
            )
        )
    return list_examples(
        changes, table, findings.members, findings.splits.test, decode, max_examples
    )
