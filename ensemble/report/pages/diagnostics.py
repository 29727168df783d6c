"""What pages show of errors: by class, reliability, and agreement of members."""

from collections.abc import Sequence
from typing import Any

from ensemble.report.documents.diagnostics import (
    Agreement,
    ErrorsByClass,
    ReliabilityAtTemperature,
)
from ensemble.report.pages.charts import reliability_chart
from ensemble.report.pages.heat_map import agreement_map

SHOWN_CLASSES = 20


def diagnostics(
    agreement: Agreement | None,
    errors_by_class: ErrorsByClass | None,
    reliability: ReliabilityAtTemperature | None,
    order: Sequence[str],
    digits: int,
) -> dict[str, Any]:
    """Prepare what the templates of these parts need; a part that the report lacks is None.

    Args:
        agreement: How alike the members' errors are.
        errors_by_class: Errors by class, and confusions.
        reliability: Reliability before and after a temperature.
        order: Names of the members in the order that drawings have them in.
        digits: Decimals of a percentage.
    """
    both = [part for part in (reliability.before, reliability.after) if part] if reliability else []
    classes = errors_by_class.classes if errors_by_class else ()
    return {
        "agreement_map": agreement and agreement_map(agreement, order),
        "mean_disagreement": agreement and _mean_of_pairs(agreement.disagreement),
        "class_rows": sorted(classes, key=lambda c: (-c.errors, -c.best_errors, c.label))[
            :SHOWN_CLASSES
        ],
        "reliability_charts": [(part, reliability_chart(part, digits)) for part in both],
    }


def _mean_of_pairs(matrix: Sequence[Sequence[float]]) -> float:
    pairs = [value for i, row in enumerate(matrix) for value in row[:i]]
    return sum(pairs) / len(pairs)
