"""The preflight: whether a member errs as often as its published figures say, on a few images, before a run.

What it is for: a wrong resize, swapped channels, a wrong normalisation and shifted labels make a
member worse and not fail. What it cannot see: a fault that costs less than chance does on so few
images, and images that are harder than those of the reference.

A wrong mean costs some networks so little that few images do not tell. So where errors leave room for
doubt, the same images are shown under the usual normalisations too: a paired comparison sees much less.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from ensemble import metrics
from ensemble.images.shard import ImageShard
from ensemble.members import Channels, Member, PositiveChannels, Reference

if TYPE_CHECKING:
    import torch

ALPHA = 0.01

USUAL: Mapping[str, tuple[Channels, PositiveChannels]] = {
    "mean 0.5 and std 0.5": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "ImageNet's mean and std": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mean 0 and std 1": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Normalisations that weights are trained with, by name."""

# Errors as many as this are no surprise to one right member in five, and are looked at twice.
_DOUBT = 0.2
# The share of its loss by which another normalisation must be better: less may be calibration.
_MUCH = 0.1


@dataclass(frozen=True)
class Answers:
    """What a member says of a probe.

    Attributes:
        ranks: For each image that could be decoded, how many classes outrank its label.
        losses: Minus the log-probability of the label, in nats.
    """

    ranks: Int[np.ndarray, "image"]
    losses: Float[np.ndarray, "image"]

    @property
    def top1_errors(self) -> int:
        """Images whose label is not the first answer."""
        return int((self.ranks >= 1).sum())


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
        better: A usual normalisation under which the member is clearly better; none if there is none,
            or none was tried.
    """

    member: str
    num_images: int
    top1_errors: int
    top5_errors: int
    reference: Reference | None = None
    p_value: float | None = None
    better: str | None = None

    @property
    def is_in_doubt(self) -> bool:
        """Whether the errors leave room for a fault that they do not show."""
        return self.p_value is None or self.p_value < _DOUBT

    def is_passed(self, alpha: float = ALPHA) -> bool:
        """Whether nothing is a reason to doubt the member."""
        return self.better is None and (self.p_value is None or self.p_value >= alpha)


def probe(
    network: "torch.nn.Module",
    member: Member,
    shards: Sequence[ImageShard],
    label_by_id: Mapping[str, int],
    device: "torch.device",
) -> Answers:
    """Show a member the images of a probe.

    Args:
        network: The member's, in evaluation mode.
        member: Whose preprocessing and views to use.
        shards: Decoded images.
        label_by_id: Class index of each image.
        device: Where the network is.
    """
    from ensemble.predict import predict  # torch

    ranks, losses = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for shard in shards:
        block = predict(network, member, shard, device)
        labels = np.array([label_by_id[i] for i in block.image_ids.tolist()], np.int64)
        ranks.append(metrics.ranks(block.log_probabilities, labels))
        losses.append(-block.log_probabilities[np.arange(len(labels)), labels])
    return Answers(np.concatenate(ranks), np.concatenate(losses))


def probe_otherwise(
    network: "torch.nn.Module",
    member: Member,
    shards: Sequence[ImageShard],
    label_by_id: Mapping[str, int],
    device: "torch.device",
) -> dict[str, Answers]:
    """The same under each of the usual normalisations that is not the member's, by name."""
    given = member.preprocessing
    others = {
        name: given.model_copy(update={"mean": mean, "std": std})
        for name, (mean, std) in USUAL.items()
    }
    return {
        name: probe(network, replace(member, preprocessing=to), shards, label_by_id, device)
        for name, to in others.items()
        if to != given
    }


def find_better(given: Answers, others: Mapping[str, Answers], alpha: float = ALPHA) -> str | None:
    """The normalisation with the lowest loss of those that are clearly better than the member's own.

    Clearly: no more errors, a loss lower by a tenth, and by a one-sided paired t-test of the losses,
    its chance multiplied by the number of normalisations (Bonferroni), no luck.
    """
    from scipy.stats import ttest_rel  # a second of import

    if len(given.losses) < 2:
        return None
    lowest, found = (1 - _MUCH) * float(given.losses.mean()), None
    for name, other in others.items():
        loss = float(other.losses.mean())
        if loss >= lowest or other.top1_errors > given.top1_errors:
            continue
        p_value = ttest_rel(given.losses, other.losses, alternative="greater").pvalue
        if p_value * len(others) < alpha:
            lowest, found = loss, name
    return found


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
