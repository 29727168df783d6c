"""What the outputs of somebody's network are, logits or not, and how they become logits."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import nn

Scores = Literal["logits", "probabilities", "sigmoids"]

Outputs = Float[torch.Tensor, "image class"]

# A softmax sums to 1 up to rounding, in half precision too.
_SUM_TOLERANCE = 1e-3
# Beside what it was trained on, a network is tried on larger numbers, at which logits leave [0, 1].
_AMPLITUDES = (1.0, 1.0, 3.0, 3.0, 10.0, 10.0, 30.0, 30.0)

NOTES = {
    "probabilities": "its outputs are probabilities already; their logarithms are taken as logits",
    "sigmoids": (
        "its outputs are sigmoids, one for each class; their log-odds are taken as logits, whose softmax "
        "is compared with other members'"
    ),
}
"""What a report says of a network that does not give logits, by the kind of its scores."""


def make_images(size: int) -> Float[torch.Tensor, "image 3 size size"]:
    """Make random images to tell the kind of a network's scores by; the first two are like real ones."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(_AMPLITUDES), 3, size, size, generator=generator)
    return noise * torch.tensor(_AMPLITUDES).reshape(-1, 1, 1, 1)


def tell_scores(outputs: Outputs) -> Scores:
    """Tell what the outputs for the images of `make_images` are."""
    outputs = outputs.to(torch.float32)
    is_share = bool(((outputs >= 0) & (outputs <= 1 + _SUM_TOLERANCE)).all())
    if not is_share:
        return "logits"
    sums = outputs.sum(dim=1)
    if bool(((sums - 1).abs() < _SUM_TOLERANCE).all()):
        return "probabilities"
    # Outputs that are all the same are those of a network that is dead, and not of a sigmoid.
    return "sigmoids" if outputs.min() < outputs.max() else "logits"


def to_logits(outputs: Outputs, scores: Scores) -> Outputs:
    """Turn a network's outputs into logits, up to a constant for each image."""
    if scores == "logits":
        return outputs
    least = torch.finfo(outputs.dtype)
    if scores == "probabilities":
        return outputs.clamp_min(least.tiny).log()
    # Half of the spacing at 1 keeps a saturated output finite.
    return outputs.clamp_min(least.tiny).log() - (1 - outputs).clamp_min(least.eps / 2).log()


def give_logits(network: nn.Module, scores: Scores) -> nn.Module:
    """Let a network give logits where it gave other scores; its parts and their names stay."""
    if scores != "logits":
        network.register_forward_hook(_ToLogits(scores))
    return network


class _ToLogits:
    """A forward hook; a class, so that a copy of the network can be pickled."""

    def __init__(self, scores: Scores) -> None:
        self._scores = scores

    def __call__(self, network: nn.Module, images: object, outputs: torch.Tensor) -> torch.Tensor:
        return to_logits(outputs, self._scores)
