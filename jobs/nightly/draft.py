"""A row of a night while it is judged: what is known of it before the verdicts of all rows are in."""

from dataclasses import dataclass

from ensemble.images.index import ImageIndex
from ensemble.nightly.members import MemberChange
from ensemble.nightly.outcomes import Outcomes
from ensemble.report.documents.nightly import (
    RowResult,
)
from jobs.nightly.baselines import (
    Baseline,
)
from jobs.nightly.candidate import (
    Candidate,
)
from jobs.nightly.verdicts import Pending


@dataclass(frozen=True)
class Draft:
    """A row that is judged, and not yet decided."""

    result: RowResult
    pending: list[Pending]
    candidate: Candidate | None = None
    watch: ImageIndex | None = None
    outcomes: Outcomes | None = None
    baselines: tuple[Baseline, ...] = ()
    member_changes: tuple[MemberChange, ...] = ()
