"""The preflight: whether a member errs as often as its published figures say, on a few images.

A wrong resize, swapped channels, a wrong normalisation and shifted labels make a member worse but
raise no error; this finds them before a run. It cannot find a fault that costs less than chance does
on so few images, and it blames the member where the images are harder than those of the reference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
_TOP = 5


@dataclass(frozen=True)
class Verdict:
    """Errors of one member on the images of the preflight, beside its published ones.

    Attributes:
        member: Name of the member.
        num_images: Number of images in the preflight.
        top1_errors: Images whose label is not the most probable class.
        top5_errors: Images whose label is not among the five most probable classes.
        reference: Published errors; None where none are known.
        p_value: Probability of as many errors or more, if the published ones hold; None without
            published errors.
        num_broken: Number of images on which the member predicted NaN or infinity.
        has_top5: Whether there are more than five classes, so that a top-5 error means something.
    """

    member: str
    num_images: int
    top1_errors: int
    top5_errors: int
    reference: Reference | None = None
    p_value: float | None = None
    num_broken: int = 0
    has_top5: bool = True

    def is_passed(self, alpha: float = ALPHA) -> bool:
        """Tell whether all predictions are numbers, and the errors agree with the published ones.

        Args:
            alpha: Level of significance.
        """
        return not self.num_broken and (self.p_value is None or self.p_value >= alpha)


def probe(
    network: "torch.nn.Module",
    member: Member,
    shards: Sequence[ImageShard],
    label_by_id: Mapping[str, int],
    device: "torch.device",
) -> Int[np.ndarray, "image"]:
    """Count for each image the classes that a member ranks above the label.

    Args:
        network: Network of the member, in evaluation mode.
        member: The member, for its preprocessing and views.
        shards: Decoded images.
        label_by_id: Class index of the label, by image id.
        device: Device that holds the network.
    """
    from ensemble.inference.predict import predict  # torch

    ranks = [np.empty(0, np.int64)]
    for shard in shards:
        block = predict(network, member, shard, device)
        labels = np.array([label_by_id[i] for i in block.image_ids.tolist()], np.int64)
        ranks.append(metrics.ranks(block.log_probabilities, labels))
    return np.concatenate(ranks)


def judge(
    member: str,
    ranks: Int[np.ndarray, "image"],
    reference: Reference | None,
    num_classes: int | None = None,
) -> Verdict:
    """Compare a member's errors with the published ones by a one-sided exact test.

    Top-1 and top-5 errors are added up, so that an image whose label is not even among the first five
    counts twice. One test of the sum finds a fault of preprocessing more often than a test of each at
    half the level: such a fault makes both worse.

    Args:
        member: Name of the member.
        ranks: For each image, the number of classes that outrank the label.
        reference: Published errors, in %; None where none are known.
        num_classes: Number of classes; more than five if None.
    """
    top1, top5 = int((ranks >= 1).sum()), int((ranks >= _TOP).sum())
    verdict = Verdict(
        member=member,
        num_images=len(ranks),
        top1_errors=top1,
        top5_errors=top5,
        # Every class outranks the label in a row that holds NaN or infinity.
        num_broken=0 if num_classes is None else int((ranks >= num_classes).sum()),
        has_top5=num_classes is None or num_classes > _TOP,
    )
    if reference is None:
        return verdict
    p_value = _p_value(len(ranks), top1, top5, reference)
    return replace(verdict, reference=reference, p_value=p_value)


def _p_value(images: int, top1: int, top5: int, reference: Reference) -> float:
    """Give the probability of errors that sum to as many or more, if the published ones hold."""
    from scipy.stats import binom  # a second of import

    top1_rate = reference.top1_error / 100
    if reference.top5_error is None:
        return float(binom.sf(top1 - 1, images, top1_rate))
    top5_rate = reference.top5_error / 100
    # Share of top-1 errors among the images that are no top-5 errors.
    near_rate = (top1_rate - top5_rate) / (1 - top5_rate) if top5_rate < 1 else 0.0
    far = np.arange(images + 1)
    tails = binom.sf(top1 + top5 - 2 * far - 1, images - far, near_rate)
    return min(1.0, float(binom.pmf(far, images, top5_rate) @ tails))
