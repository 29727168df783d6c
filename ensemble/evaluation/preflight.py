"""The preflight: whether a member errs as often as its published figures say, on a few images, before a run.

What it is for: a wrong resize, swapped channels, a wrong normalisation and shifted labels make a
member worse and not fail. What it cannot see: a fault that costs less than chance does on so few
images, and images that are harder than those of the reference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from ensemble.evaluation import metrics
from ensemble.images.shard import ImageShard
from ensemble.members.member import Member
from ensemble.members.settings import Reference

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
        p_value: Chance of errors that sum to as many or more, if the reference is right; none
            without one.
    """

    member: str
    num_images: int
    top1_errors: int
    top5_errors: int
    reference: Reference | None = None
    p_value: float | None = None

    def is_passed(self, alpha: float = ALPHA) -> bool:
        """Whether nothing is a reason to doubt the member."""
        return self.p_value is None or self.p_value >= alpha


def probe(
    network: "torch.nn.Module",
    member: Member,
    shards: Sequence[ImageShard],
    label_by_id: Mapping[str, int],
    device: "torch.device",
) -> Int[np.ndarray, "image"]:
    """How many classes a member ranks above the label, for each image of a probe.

    Args:
        network: The member's, in evaluation mode.
        member: Whose preprocessing and views to use.
        shards: Decoded images.
        label_by_id: Class index of each image.
        device: Where the network is.
    """
    from ensemble.inference.predict import predict  # torch

    ranks = [np.empty(0, np.int64)]
    for shard in shards:
        block = predict(network, member, shard, device)
        labels = np.array([label_by_id[i] for i in block.image_ids.tolist()], np.int64)
        ranks.append(metrics.ranks(block.log_probabilities, labels))
    return np.concatenate(ranks)


def judge(member: str, ranks: Int[np.ndarray, "image"], reference: Reference | None) -> Verdict:
    """Hold a member's answers against its reference by a one-sided exact test.

    Top-1 and top-5 errors are added up, so that an image whose label is not even among the first five
    counts twice. One test of the sum sees a fault of preprocessing better than one of each with their
    chances halved: such a fault makes both worse.

    Args:
        member: Its name.
        ranks: For each image of the probe, the classes that outrank the label.
        reference: Published error, in %.
    """
    top1, top5 = int((ranks >= 1).sum()), int((ranks >= 5).sum())
    if reference is None:
        return Verdict(member, len(ranks), top1, top5)
    chance = _chance(len(ranks), top1, top5, reference)
    return Verdict(member, len(ranks), top1, top5, reference, chance)


def _chance(images: int, top1: int, top5: int, reference: Reference) -> float:
    """Of a sum of errors as large or larger, if each image errs as often as the reference."""
    from scipy.stats import binom  # a second of import

    first = reference.top1_error / 100
    if reference.top5_error is None:
        return float(binom.sf(top1 - 1, images, first))
    fifth = reference.top5_error / 100
    # Of the images that are right among the first five, so many are not right at once.
    near = (first - fifth) / (1 - fifth) if fifth < 1 else 0.0
    far = np.arange(images + 1)
    tails = binom.sf(top1 + top5 - 2 * far - 1, images - far, near)
    return min(1.0, float(binom.pmf(far, images, fifth) @ tails))
