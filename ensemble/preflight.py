"""The preflight: whether a member errs as often as its published figures say, on a few images, before a run.

What it is for: a wrong resize, swapped channels, a wrong normalisation and shifted labels make a
member worse and not fail. What it cannot see: a fault that costs less than chance does on so few
images, and images that are harder than those of the reference.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from ensemble import metrics
from ensemble.images.shard import ImageShard
from ensemble.members import Member, Reference

if TYPE_CHECKING:
    import torch

ALPHA = 0.01


@dataclass(frozen=True)
class Verdict:
    """What the probe says of one member.

    Attributes:
        member: Its name.
        num_images: Of the probe.
        top1_errors: Images whose label is not the first answer.
        top5_errors: Images whose label is not among the first five.
        reference: What it is held to; none if nothing is known.
        p_value: Chance of as many errors or more if the reference is right; none without one.
    """

    member: str
    num_images: int
    top1_errors: int
    top5_errors: int
    reference: Reference | None = None
    p_value: float | None = None

    def is_passed(self, alpha: float = ALPHA) -> bool:
        """Whether the errors are no reason to doubt the member."""
        return self.p_value is None or self.p_value >= alpha


def probe(
    network: "Callable[[torch.Tensor], torch.Tensor]",
    member: Member,
    shards: Sequence[ImageShard],
    label_by_id: Mapping[str, int],
    device: "torch.device",
) -> Int[np.ndarray, "image"]:
    """For each image that could be decoded, how many classes outrank its label.

    Args:
        network: The member's, in evaluation mode.
        member: Whose preprocessing and views to use.
        shards: Decoded images.
        label_by_id: Class index of each image.
        device: Where the network is.
    """
    from ensemble.predict import predict  # torch

    ranks = [np.empty(0, np.int64)]
    for shard in shards:
        block = predict(network, member, shard, device)
        labels = np.array([label_by_id[i] for i in block.image_ids.tolist()], np.int64)
        ranks.append(metrics.ranks(block.log_probabilities, labels))
    return np.concatenate(ranks)


def judge(member: str, ranks: Int[np.ndarray, "image"], reference: Reference | None) -> Verdict:
    """Hold a member's answers against its reference by one-sided exact binomial tests.

    Args:
        member: Its name.
        ranks: For each image of the probe, the classes that outrank the label.
        reference: Published error, in %.

    Returns:
        The verdict. Its p-value is the smaller of the tests of top-1 and top-5, doubled where both
        are made (Bonferroni).
    """
    top1, top5 = int((ranks >= 1).sum()), int((ranks >= 5).sum())
    if reference is None:
        return Verdict(member, len(ranks), top1, top5)
    from scipy.stats import binomtest  # a second of import

    pairs = [(top1, reference.top1_error)]
    if reference.top5_error is not None:
        pairs.append((top5, reference.top5_error))
    p_values = [
        binomtest(errors, len(ranks), error / 100, alternative="greater").pvalue
        for errors, error in pairs
    ]
    p_value = min(1.0, len(pairs) * min(p_values))
    return Verdict(member, len(ranks), top1, top5, reference, float(p_value))
