"""Why a figure changed: blame, classes and images, from the table alone."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from ensemble.images.index import ImageIndex
from ensemble.nightly.blame import (
    ClassChange,
    blame,
    changed_images,
    changes_by_class,
    changes_by_cluster,
)
from ensemble.nightly.deployment import WEIGHTS, Deployment, evaluate
from ensemble.nightly.members import MemberChange, compare_members, worse_members
from ensemble.nightly.outcomes import Outcomes
from ensemble.nightly.verdict import top_k
from ensemble.report.build.examples import png
from ensemble.report.documents.nightly import (
    BlameLine,
    ChangedImage,
    ClassLine,
    Comparison,
    Explanation,
    RowResult,
    WorseMemberLine,
)
from ensemble.table.logit_table import LogitTable
from ensemble.table.overview import list_differences
from jobs.nightly.baselines import MUST_MATCH_ALWAYS, Baseline, differences
from jobs.nightly.candidate import Candidate
from jobs.nightly.draft import Draft
from jobs.nightly.suite import MEMBER_ERROR, SECONDS, RowConfig, SuiteConfig

_NUM_CLASSES = 10
_NUM_CHANGES = 8


def explain(
    suite: SuiteConfig,
    row: RowConfig,
    table: LogitTable,
    draft: Draft,
    comparisons: Sequence[Comparison],
) -> Explanation | None:
    """Explain a change against the baseline that shows it most, from the table alone."""
    changed = [c for c in comparisons if c.verdict in ("regressed", "improved", "drift")]
    changed = [c for c in changed if c.metric not in (MEMBER_ERROR, SECONDS)]
    if not changed or draft.candidate is None or draft.watch is None or draft.outcomes is None:
        return None
    chosen = min(changed, key=lambda c: (c.verdict != "regressed", not c.is_gate))
    baseline = next(b for b in draft.baselines if b.number == chosen.baseline_record)
    before = deployment_in(baseline.row)
    if before is None:
        return None
    after = draft.candidate.deployment
    lacking = {
        part
        for part, column in before.columns.items()
        if table.missing(column, draft.watch.image_ids.tolist())
    }
    if lacking:
        return Explanation(
            metric=chosen.metric,
            blame=(
                BlameLine(
                    part=", ".join(sorted(lacking)),
                    recovered=0.0,
                    share=0.0,
                    changes=("the table no longer holds the baseline's predictions",),
                ),
            ),
        )
    k = top_k(chosen.metric) or 1
    then = evaluate(table, before, draft.watch)
    classes = draft.watch.classes
    routing = after.document.routing
    clusters = routing.label_clusters if routing else ()
    lines = changes_by_class(then, draft.outcomes, draft.watch.labels, k)
    return Explanation(
        metric=chosen.metric,
        blame=tuple(
            BlameLine(
                part=share.part,
                recovered=share.recovered,
                share=share.share,
                changes=_changes(baseline.row, draft.result, share.part),
            )
            for share in blame(table, before, after, draft.watch, chosen.metric)
        ),
        classes=tuple(_class_line(classes[line.label], line) for line in lines[:_NUM_CLASSES]),
        clusters=tuple(
            _class_line(", ".join(classes[label] for label in clusters[line.label]), line)
            for line in changes_by_cluster(lines, clusters, draft.watch.labels)
        ),
        images=tuple(
            _changed_image(draft.candidate, draft.watch, then, draft.outcomes, index, k)
            for index in changed_images(then, draft.outcomes, k, suite.max_examples)
        ),
    )


def _class_line(name: str, change: ClassChange) -> ClassLine:
    return ClassLine(
        name=name,
        images=change.images,
        newly_wrong=change.newly_wrong,
        newly_right=change.newly_right,
    )


def member_changes(
    table: LogitTable,
    deployment: Deployment,
    images: ImageIndex,
    tonight: RowResult,
    baselines: Sequence[Baseline],
    groups: Int[np.ndarray, " image"] | None = None,
) -> tuple[MemberChange, ...]:
    """Compare each changed member with itself at the accepted baseline, as far as the table holds its rows.

    Args:
        table: The table of the suite.
        deployment: Tonight's deployment.
        images: The images that tonight is judged on.
        tonight: The row's result so far.
        baselines: The baselines of the row.
        groups: Number of the group of near-duplicates of each image; every image alone if not passed.
    """
    accepted = _accepted(baselines)
    before = deployment_in(accepted.row) if accepted else None
    if before is None or accepted is None:
        return ()
    assert accepted.row.conditions is not None
    assert tonight.conditions is not None
    if differences(accepted.row.conditions, tonight.conditions, MUST_MATCH_ALWAYS):
        return ()
    ids = images.image_ids.tolist()
    there = {part: c for part, c in before.columns.items() if not table.missing(c, ids)}
    return compare_members(table, Deployment(before.document, there), deployment, images, groups)


def name_worse_members(draft: Draft, level: float) -> tuple[WorseMemberLine, ...]:
    """Name the members that do worse by themselves by more than chance, with the classes of which this is so."""
    accepted = _accepted(draft.baselines)
    if accepted is None or draft.watch is None:
        return ()
    return tuple(
        WorseMemberLine(
            name=member.change.name,
            baseline_record=accepted.number,
            loss=member.change.evidence.loss,
            p=member.change.evidence.p_worse,
            newly_wrong=member.change.evidence.newly_wrong or 0,
            newly_right=member.change.evidence.newly_right or 0,
            classes=tuple(
                _class_line(draft.watch.classes[line.label], line)
                for line in member.classes[:_NUM_CLASSES]
            ),
        )
        for member in worse_members(draft.member_changes, level)
    )


def _accepted(baselines: Sequence[Baseline]) -> Baseline | None:
    return next((baseline for baseline in baselines if baseline.name == "accepted"), None)


def deployment_in(row: RowResult) -> Deployment | None:
    """Give the deployment that a record's row was judged with; None where the row failed."""
    if row.document is None:
        return None
    return Deployment(row.document, {name: part.column for name, part in row.parts.items()})


def _changed_image(
    candidate: Candidate,
    watch: ImageIndex,
    before: Outcomes,
    after: Outcomes,
    index: int,
    k: int,
) -> ChangedImage:
    image_id, names = str(watch.image_ids[index]), watch.classes
    return ChangedImage(
        image_id=image_id,
        label=names[int(watch.labels[index])],
        before=names[int(before.answers[index])],
        after=names[int(after.answers[index])],
        is_wrong=bool(after.is_error(k)[index]),
        png_base64=png(candidate.decode(image_id)) if candidate.decode else None,
    )


def _changes(before: RowResult, after: RowResult, part: str) -> tuple[str, ...]:
    """Say what differs in a part: keys of its identity, or members and their weights."""
    if part != WEIGHTS:
        lines = list_differences(before.parts[part].identity, after.parts[part].identity)
        return tuple(lines[:_NUM_CHANGES])
    assert before.document is not None
    assert after.document is not None
    old, new = (
        {m.name: m.weight_units for m in document.members}
        for document in (before.document, after.document)
    )
    total_old, total_new = sum(old.values()), sum(new.values())
    lines = [
        f"weight of {name}: {old.get(name, 0) / total_old:.3f} -> {new.get(name, 0) / total_new:.3f}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name, 0) / total_old != new.get(name, 0) / total_new
    ]
    for key in ("combine", "scale", "temperature"):
        was, is_now = getattr(before.document, key), getattr(after.document, key)
        if was != is_now:
            lines.append(f"{key}: {was} -> {is_now}")
    if bool(before.document.routing) != bool(after.document.routing):
        lines.append("sub-classifiers came or went")
    if before.document.cascade != after.document.cascade:
        lines.append("the steps of a cascade came, went or changed")
    return tuple(lines[:_NUM_CHANGES])
