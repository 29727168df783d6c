"""Fresh labelled images every night: an e-detector, whose false alarms are bounded however often one looks.

On a fixed set of images nights are no new data, and this is not valid: there the paired comparison with a
pinned baseline applies.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

# A small bet finds a small loss, a large one a large loss soon; each holds an equal part of the evidence.
BETS = (0.05, 0.15, 0.4)


@dataclass(frozen=True)
class EDetector:
    """Evidence that an ensemble has become worse than its reference.

    An image that only one of them errs on is a bet: the evidence is multiplied by 1 + b or 1 - b, and never
    falls below 1. While both err equally often, an alarm comes once in `average_run_length` such images or
    more seldom, without any assumption on the images but that.

    Attributes:
        average_run_length: Least mean number of discordant images until a false alarm.
        evidence: Evidence of each bet.
        images: Number of discordant images so far.
        alarmed_at: Number of discordant images at the first alarm; None while there is none.

    Source: Shin, Ramdas and Rinaldo, E-detectors, arXiv 2203.03532.
    """

    average_run_length: float
    evidence: tuple[float, ...] = (1.0,) * len(BETS)
    images: int = 0
    alarmed_at: int | None = None

    @property
    def level(self) -> float:
        """The evidence, which is an alarm once it reaches `average_run_length`."""
        return sum(self.evidence) / len(self.evidence)

    def update(self, signs: Iterable[int]) -> "EDetector":
        """Add discordant images in the order in which they came.

        Args:
            signs: 1 for an image that only the ensemble errs on, -1 for one that only the reference does.
        """
        evidence, images, alarmed_at = list(self.evidence), self.images, self.alarmed_at
        for sign in signs:
            images += 1
            evidence = [
                max(level, 1.0) * (1 + bet * sign)
                for level, bet in zip(evidence, BETS, strict=True)
            ]
            if alarmed_at is None and sum(evidence) / len(evidence) >= self.average_run_length:
                alarmed_at = images
        return replace(self, evidence=tuple(evidence), images=images, alarmed_at=alarmed_at)
