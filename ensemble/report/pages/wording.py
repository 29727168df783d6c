"""Wording: how pages write numbers, verdicts, searches, gates and routings."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from markupsafe import Markup

from ensemble.report.documents.run import Report, Result
from ensemble.report.documents.weights import MemberLine, Search

# The run-time check of annotations holds that an int is no float.
Number = int | float

MINUS = "\N{MINUS SIGN}"
THIN = "\N{NARROW NO-BREAK SPACE}"


def digits_for(num_images: int) -> int:
    """Return how many decimals of a percentage tell one image of so many apart."""
    return max(1, math.ceil(math.log10(num_images)) - 2)


def plain(value: Number, digits: int) -> str:
    """Write a number; one that rounds to zero has no sign."""
    text = f"{abs(value):.{digits}f}"
    return MINUS + text if value < 0 and float(text) else text


def signed(value: Number, digits: int) -> str:
    """Write a difference: above zero has its sign too."""
    text = plain(value, digits)
    return "+" + text if value > 0 and float(text) else text


def percent_text(fraction: Number, digits: int = 1) -> str:
    """Write a fraction as a percentage."""
    return f"{100 * fraction:.{digits}f}{THIN}%"


def points_text(fraction: Number, digits: int = 1) -> str:
    """Write a difference of fractions in percentage points."""
    return signed(100 * fraction, digits)


def count_text(value: int) -> str:
    """Write a count with its thousands apart."""
    return f"{value:,}"


def weight_text(value: float) -> str:
    """Write a weight so that one above 0 never reads as 0."""
    if 0 < value < 0.001:
        return "<0.001"
    return f"{value:.2f}" if math.isclose(100 * value, round(100 * value)) else f"{value:.3f}"


def p_text(value: float) -> str:
    """Write a p-value."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def short_text(value: float) -> str:
    """Write a number with three significant digits."""
    return f"{value:.3g}"


def decimal_text(value: float, digits: int) -> str:
    """Write a number with so many decimals."""
    return f"{value:.{digits}f}"


def threshold_text(value: float) -> str:
    """Write the score of a gate."""
    return short_text(value)


def rate_text(value: float) -> str:
    """Write a number of images a second."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def seconds_text(value: float) -> str:
    """Write a duration in the unit a person would use."""
    if value < 60:
        return f"{value:.1f}{THIN}s"
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}{THIN}min {seconds}{THIN}s"
    return f"{minutes // 60}{THIN}h {minutes % 60}{THIN}min"


def large_text(value: int) -> str:
    """Write a parameter count in thousands or millions."""
    for unit, name in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{THIN}{name}"
    return str(value)


def cost_text(value: Number) -> str:
    """Write a cost of any unit: 0.00312, 7.5, 30.2 M."""
    return f"{value:.3g}" if value < 1000 else large_text(round(value))


def moment_text(value: datetime) -> str:
    """Write a moment to the minute, in its own time zone."""
    return value.strftime("%Y-%m-%d %H:%M %Z")


def figure(value: Number, text: str) -> Markup:
    """Mark a number up with the exact value it stands for."""
    return Markup('<data value="{}">{}</data>').format(repr(value), text)


@dataclass(frozen=True)
class Verdict:
    """The sentence on top of the page.

    Attributes:
        kind: Whether the recommended predictor is better than the best member.
        tag: The same in words.
        subject: The recommended predictor, as the subject of a sentence.
    """

    kind: Literal["better", "worse", "undecided", "best"]
    tag: str
    subject: str


TAGS: dict[str, str] = {
    "better": "Better than the best single member",
    "worse": "Worse than the best single member",
    "undecided": "No significant difference",
    "best": "The best single member was kept",
}

SEARCHES: dict[str, str] = {
    "paper": "Members are tried from best to worst. Each gets the weight, from 0.00 to 1.00, that "
    "leaves the sum so far with the fewest top-{k} errors; a weight of 0 leaves it out.",
    "uniform": "All members weigh the same; nothing was fitted.",
    "best": "The member with the fewest top-{k} errors answers alone.",
}

GATES: dict[str, str] = {
    "entropy": "entropy, nats",
    "normalised_entropy": "entropy inside the likeliest label cluster, of its largest value",
    "margin": "1 less the lead of the first class",
    "logistic": "log of the odds that the sub-classifier is right rather than the base predictor",
}

ROUTINGS: dict[str, str] = {
    "hard": "the sub-classifier of the likeliest label cluster",
    "top2": "those of the two likeliest label clusters",
    "soft": "those of all label clusters",
}

SIMILARITIES: dict[str, str] = {
    "base": "Cosine between the label embeddings of the base",
    "members": "Cosine between label embeddings, mean over all members",
    "confusion": "Cosine between what the base takes the labels for",
}


def data_text(images: str, source: str) -> str:
    """Name the images of a run: their place, or what is known of their source without its long hash.

    Args:
        images: Kind and path; empty in reports of earlier versions.
        source: Identity of the source.
    """
    return images or re.sub(r"[0-9a-f]{32,}", lambda match: f"{match[0][:12]}…", source)


def exponents(members: Iterable[MemberLine], scale: float) -> dict[str, float]:
    """Give the power that each member's probabilities are raised to in a mean of logarithms, by name."""
    weights = {member.name: member.weight for member in members if member.weight}
    total = sum(weights.values())
    return {name: scale * weight / total for name, weight in weights.items()}


def by_weight(members: Iterable[MemberLine]) -> list[MemberLine]:
    """Order members as pages list them: by weight, then by errors, then by name."""
    return sorted(members, key=lambda member: (-member.weight, member.errors, member.name))


def search_words(search: Search) -> str:
    """Say how a search works."""
    return SEARCHES.get(search.kind, "Errors are top-{k}.").format(k=search.k)


def verdict(report: Report) -> Verdict:
    """Judge the recommended predictor by its interval on the test split."""
    chosen = report.chosen
    kind = chosen.against_best.verdict if chosen.against_best else "best"
    return Verdict(kind=kind, tag=TAGS[kind], subject=subject(report, chosen))


def subject(report: Report, result: Result) -> str:
    """Name a predictor as the subject of a sentence."""
    pool, weighted_members = len(report.members), result.members
    ensemble = (
        f"The weighted ensemble of {weighted_members} of {pool} members"
        if pool > 1
        else report.members[0].name
    )
    return {
        "best": "The best single member",
        "uniform_all": f"The plain average of all {pool} members",
        "uniform_families": "The plain average of the families",
        "uniform_selected": f"The plain average of the {weighted_members} selected members"
        if weighted_members > 1
        else f"The one selected member of {pool}",
        "paper": f"The paper's weighting of {weighted_members} of {pool} members",
        "ensemble": ensemble,
        "ensemble_subclassifiers": f"{ensemble} with sub-classifiers",
    }[result.key]
