"""Dense evaluation: apply a classifier to whole images, its head at every position of the feature map.

A classifier ends in a pool over the feature map and a head. At its training size the pool reads the
whole map, side x side. On a larger image the head is applied to every side x side window of the
larger map (stride 1), and the class scores are averaged over the windows.

That is what the papers get by rewriting the head as convolutions: a global average pool becomes an
average pool of the training map's size with stride 1 and the linear layer a 1x1 convolution (ResNet
and relatives), the first fully connected layer a convolution as large as the map (7x7 for VGG, 6x6
for AlexNet), the others 1x1. A convolution is one matrix product over windows; here the windows are
the rows of the network's own layers, so one rule serves every architecture, weights are shared, and
the network stays as it is.

Windows are not crops. Where a network pads, a crop has zeros around it, and a window the image that
surrounds it; they agree for a network without padding. That is why VGG's authors average dense
evaluation with multi-crop: the two treat the borders of a window differently.

Source: Sermanet et al. 2013 (OverFeat); Simonyan, Zisserman 2014, §3.2; P1, IV-2.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ensemble.errors import ConfigError

Function = Callable[..., Any]
Images = Float[torch.Tensor, "image 3 _ _"]
FeatureMaps = Float[torch.Tensor, "image channel _ _"]


class DenseNetwork:
    """A classifier of whole images of any size from its training size on. Make one with `to_dense`.

    Args:
        network: A classifier in evaluation mode; it is shared, not copied.
        size: Side of the training input, in pixels.
        side: Side of the feature map that the head's pool reads at the training size.
        pool: Index of the head's pool among the network's calls of a spatial pool, from 0.
        linear: Index of the last linear layer among those after the head's pool, from 0; None if
            the logits come from another layer.
    """

    def __init__(
        self, network: nn.Module, size: int, side: int, pool: int, linear: int | None
    ) -> None:
        self._network = network
        self._size = size
        self._side = side
        self._pool = pool
        self._linear = linear

    def __call__(self, images: Images) -> Float[torch.Tensor, "image class"]:
        """Compute the logits of normalised images, averaged over all windows.

        The last linear layer is applied once per image, because it commutes with the mean:
        mean_p(W h_p + b) = W mean_p(h_p) + b for the inputs h_p of P windows. The mean over scales
        or mirror images cannot be taken before that layer, because it is a mean of softmax outputs,
        which is not the softmax of a mean.

        Raises:
            ConfigError: The images are smaller than the training input.
        """
        height, width = images.shape[2:]
        if min(height, width) < self._size:
            raise ConfigError(
                f"dense views: an image of {height} x {width} pixels is smaller than the network's "
                f"input, {self._size} x {self._size}. Set short sides of {self._size} or more."
            )
        with _OnWindows(len(images), self._side, self._pool, self._linear) as windows:
            logits: torch.Tensor = self._network(images)
        return logits if windows.is_averaged else windows.average(logits)


def to_dense(network: nn.Module, size: int) -> DenseNetwork:
    """Make a classifier dense; the network itself is not changed, and its weights are shared.

    The network is run once, on a black image of its training size, to find where its head begins:
    at its last pool over height and width (`adaptive_avg_pool2d`, or a mean over both).

    Args:
        network: A classifier in evaluation mode.
        size: Side of the training input, in pixels.

    Raises:
        ConfigError: The network's head does not follow such a pool, as in a vision transformer.
    """
    image = torch.zeros(1, 3, size, size)
    if (first := next(network.parameters(), None)) is not None:
        image = image.to(first.device, first.dtype)
    with torch.inference_mode(), _Watch() as watch:
        logits = network(image)
    if not watch.side:
        raise ConfigError(
            f"{type(network).__name__} cannot be made dense: its head does not follow an average "
            "pool over the feature map. Use views of fixed size for it, as center or ten_crop."
        )
    is_last = watch.linear_output is logits
    linear = watch.num_linears - 1 if is_last else None
    return DenseNetwork(network, size, watch.side, watch.num_pools - 1, linear)


class _Watch(TorchFunctionMode):
    """Records the last spatial pool of a forward pass, and the linear layers after it."""

    def __init__(self) -> None:
        super().__init__()
        # Side of the map that the last pool read; 0 if there is none, or it is not the head's.
        self.side = 0
        self.num_pools = 0
        self.num_linears = 0
        self.linear_output: object = None
        self._map_shape: object = None

    def __torch_function__(
        self,
        func: Function,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if _is_pool(func, args, kwargs or {}):
            self.side = args[0].shape[2] if args[0].shape[2] == args[0].shape[3] else 0
            self._map_shape = None if output.shape == args[0].shape else args[0].shape
            self.num_pools += 1
            self.num_linears = 0
        elif any(isinstance(arg, torch.Tensor) and arg.shape == self._map_shape for arg in args):
            # The map is used again after the pool: that is squeeze-and-excitation, not the head.
            self.side = 0
        if func is functional.linear:
            self.num_linears += 1
            self.linear_output = output
        return output


class _OnWindows(TorchFunctionMode):
    """Feeds every window of the feature map to the head, and averages before its last layer."""

    def __init__(self, num_images: int, side: int, pool: int, linear: int | None) -> None:
        super().__init__()
        self.is_averaged = False
        self._num_images = num_images
        self._side = side
        self._pools_left = pool
        self._linears_left = linear

    def __torch_function__(
        self,
        func: Function,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if _is_pool(func, args, kwargs or {}):
            self._pools_left -= 1
            if self._pools_left == -1:
                args = (_windows(args[0], self._side, _is_mean(func, args, kwargs)), *args[1:])
        elif func is functional.linear and self._pools_left < 0 and self._linears_left is not None:
            self._linears_left -= 1
            if self._linears_left == -1:
                args = (self.average(args[0]), *args[1:])
                self.is_averaged = True
        return func(*args, **(kwargs or {}))

    def average(self, rows: Float[torch.Tensor, "window _"]) -> Float[torch.Tensor, "image _"]:
        """Average over the windows of each image, whose rows follow each other."""
        return rows.reshape(self._num_images, -1, rows.shape[1]).mean(dim=1)


def _windows(
    features: FeatureMaps, side: int, is_mean: bool
) -> Float[torch.Tensor, "window channel _ _"]:
    """List all windows of the maps, image by image; each is its mean, 1 x 1, if `is_mean`."""
    if is_mean:
        means = functional.avg_pool2d(features, side, stride=1)
        return means.permute(0, 2, 3, 1).flatten(0, 2)[:, :, None, None]
    windows = features.unfold(2, side, 1).unfold(3, side, 1)
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


def _is_pool(func: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    if func is functional.adaptive_avg_pool2d:
        return True
    if func not in (torch.mean, torch.Tensor.mean) or args[0].ndim != 4:
        return False
    dim = args[1] if len(args) > 1 else kwargs.get("dim")
    return isinstance(dim, tuple | list) and sorted(d % 4 for d in dim) == [2, 3]


def _is_mean(func: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> bool:
    """Tell whether a pool returns one value per channel."""
    if func is not functional.adaptive_avg_pool2d:
        return True
    size = args[1] if len(args) > 1 else (kwargs or {})["output_size"]
    return size in (1, (1, 1), [1, 1])
