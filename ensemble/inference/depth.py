"""Depth: the number of weighted layers on the longest path through a network.

A layer is weighted if it multiplies by a matrix or a kernel that was learnt: convolutions and linear
layers. Normalisation, activations and the products of attention are not counted. This is the depth that
papers give: 8 for AlexNet, 16 for VGG-16, 22 for GoogLeNet, 152 for ResNet-152.
"""

from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.weak import WeakTensorKeyDictionary

from ensemble.checkpoints.load import load_network
from ensemble.members.member import PROGRAMS, Member
from ensemble.models import registry as models

# Operators that multiply by a matrix or a kernel, and how many of their tensors can be that.
_WEIGHTED = {
    "convolution": 1,
    "linear": 1,
    "addmm": 1,
    "mm": 1,
    "bmm": 1,
    "baddbmm": 1,
    "_native_multi_head_attention": 2,
}


def count_depth(network: nn.Module, size: int) -> int | None:
    """Count the weighted layers on the longest path of a network, by one forward pass of one image.

    Args:
        network: A network in evaluation mode, on any device; on `meta` nothing is computed.
        size: Side of the input, in pixels.

    Returns:
        The depth; None where the network computes outside torch, as an ONNX graph does.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    counter = _DepthCounter(network)
    with torch.no_grad(), counter:
        output = network(torch.zeros(1, 3, size, size, device=device))
    return counter.depth_of(output) or None


def depth_of(member: Member) -> int | None:
    """Count the depth of a member's network.

    The weights are read only where they hold the network, or where it cannot run without them.
    """
    size = member.preprocessing.size
    if member.architecture not in PROGRAMS and not member.architecture.startswith("factory/"):
        try:
            with torch.device("meta"):
                network = models.build(member.architecture, len(member.classes))
            return count_depth(network.eval(), size)
        except (NotImplementedError, RuntimeError):
            pass  # a network that looks at values while it runs
    return count_depth(load_network(member), size)


class _DepthCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows tensors through a forward pass, each with the depth at which it was made."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._depths: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        # Tensors that are learnt matrices or kernels, or made from nothing else.
        self._weights: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        for parameter in network.parameters():
            self._weights[parameter] = True

    def depth_of(self, tensor: torch.Tensor) -> int:
        return int(self._depths.get(tensor, 0))  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        inputs = [value for value in tree_iter((args, kwargs)) if isinstance(value, torch.Tensor)]
        outputs = [value for value in tree_iter(result) if isinstance(value, torch.Tensor)]
        learnt = [tensor for tensor in inputs if tensor in self._weights]
        if inputs and len(learnt) == len(inputs):
            for tensor in outputs:
                self._weights[tensor] = True
            return result
        name = func.overloadpacket.__name__
        matrices = sum(tensor.dim() >= 2 for tensor in learnt)
        layers = min(_WEIGHTED.get(name, 0), matrices)
        depth = layers + max((self.depth_of(tensor) for tensor in inputs), default=0)
        for tensor in outputs:
            self._depths[tensor] = max(depth, self.depth_of(tensor))
        return result
