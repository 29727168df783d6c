"""Changed members against themselves: an ensemble hides what one of its members loses.

Each is compared on the same images over all classes and class by class: two outputs that were exchanged are seen there
only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int

from ensemble.evaluation import metrics
from ensemble.images.index import ImageIndex
from ensemble.nightly.blame import ClassChange, changed_parts, count_by_class
from ensemble.nightly.deployment import Deployment, windows
from ensemble.nightly.paired import Evidence, compare_errors, holm
from ensemble.table.logit_table import LogitTable


@dataclass(frozen=True)
class MemberChange:
    """A changed member against itself at the baseline, whatever the ensemble makes of it.

    Attributes:
        name: Name of the member.
        evidence: Its top-1 errors tonight against its own of the baseline, over all classes.
        classes: The classes on which its errors changed, those with the greatest loss first.
        class_p_values: One-sided p-value of no loss of each of these classes.
    """

    name: str
    evidence: Evidence
    classes: tuple[ClassChange, ...]
    class_p_values: tuple[float, ...]

    @property
    def summary(self) -> Evidence:
        """The evidence over all classes, with the p-value of no loss in any class (Bonferroni's rule)."""
        p_values = [self.evidence.p_worse, *self.class_p_values]
        return replace(self.evidence, p_worse=min(1.0, len(p_values) * min(p_values)))


@dataclass(frozen=True)
class WorseMember:
    """A member that does worse by itself than it did.

    Attributes:
        change: How it changed.
        is_worse_overall: Whether its errors over all classes are more by more than chance.
        classes: The classes on which it errs more by more than chance, those with the greatest loss first.
    """

    change: MemberChange
    is_worse_overall: bool
    classes: tuple[ClassChange, ...]


def compare_members(
    table: LogitTable,
    before: Deployment,
    after: Deployment,
    images: ImageIndex,
    groups: Int[np.ndarray, " image"] | None = None,
) -> tuple[MemberChange, ...]:
    """Compare each changed member with itself, over all classes and class by class, by McNemar's exact test.

    Args:
        table: A table with the rows of both deployments.
        before: The baseline's deployment; members whose column it lacks are left out.
        after: Tonight's deployment.
        images: The images that both were judged on.
        groups: Number of the group of near-duplicates of each image; every image alone if not passed.

    Raises:
        IncompleteTableError: The table lacks rows of the baseline.
    """
    members = {member.name for member in after.document.members}
    changes = []
    for name in changed_parts(before, after):
        if name not in members or name not in before.columns:
            continue
        was, is_now = (_errors_alone(table, of.columns[name], images) for of in (before, after))
        classes = count_by_class(was, is_now, images.labels)
        p_values = []
        for line in classes:
            own = images.labels == line.label
            own_groups = groups[own] if groups is not None else None
            p_values.append(compare_errors(was[own], is_now[own], own_groups).p_worse)
        evidence = compare_errors(was, is_now, groups)
        changes.append(MemberChange(name, evidence, classes, tuple(p_values)))
    return tuple(changes)


def worse_members(changes: Sequence[MemberChange], level: float) -> tuple[WorseMember, ...]:
    """Find the members that do worse by themselves, all of them and their classes together by Holm's rule.

    Args:
        changes: Every changed member against itself.
        level: Chance of naming a member that is no worse.

    Returns:
        The worse members, the surest first.
    """
    p_values = [p for c in changes for p in (c.evidence.p_worse, *c.class_p_values)]
    is_worse = iter(holm(p_values, level))
    comparisons = [
        WorseMember(
            change, next(is_worse), tuple(line for line in change.classes if next(is_worse))
        )
        for change in changes
    ]
    worse = [member for member in comparisons if member.is_worse_overall or member.classes]
    return tuple(sorted(worse, key=lambda member: member.change.evidence.p_worse))


def _errors_alone(table: LogitTable, column: str, images: ImageIndex) -> Bool[np.ndarray, " image"]:
    parts = [
        metrics.ranks(table.read(column, images.image_ids[window]), images.labels[window]) > 0
        for window in windows(len(images))
    ]
    return np.concatenate(parts)
