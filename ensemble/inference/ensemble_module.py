"""A whole ensemble as one plain torch module: from pixels to the probabilities of its weighted mean.

It takes images of one size, and does to them what the predictor does: resize, cut out views, normalise,
average views, members and temperatures. Numbers agree with the predictor's up to the rounding of float32,
not to the bit. Sub-classifiers are not in it, because which of them answers depends on the image.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from ensemble.errors import ConfigError
from ensemble.inference.transforms import Scale, resize_unit, show, square_scale
from ensemble.members.member import PROGRAMS, Member
from ensemble.outranking.fixed_point import LOG_FLOOR
from ensemble.outranking.weighting import Weighting
from ensemble.views.policies import weigh_views
from ensemble.views.settings import Crop, Square, average_of

Images = Float[torch.Tensor, "image 3 height width"]
Logs = Float[torch.Tensor, "image class"]


class EnsembleModule(nn.Module):
    """The weighted mean of members, from pixels in [0, 1] to probabilities.

    Args:
        members: Members, each at its temperature.
        networks: Their networks, in evaluation mode; a network may stand for several members.
        weighting: Weight of each member.
        temperature: Temperature of the ensemble's probabilities.

    Raises:
        ConfigError: A member is a program, or looks at whole images (dense views).
    """

    def __init__(
        self,
        members: Sequence[Member],
        networks: Sequence[nn.Module],
        weighting: Weighting,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            _MemberModule(member, network)
            for member, network in zip(members, networks, strict=True)
        )
        self._shares = [int(units) / int(weighting.units.sum()) for units in weighting.units]
        self._is_of_logs = weighting.combine == "logs"
        self._scale, self._temperature = weighting.scale, temperature

    def forward(self, images: Images) -> Float[torch.Tensor, "image class"]:
        """Compute the probabilities of the classes.

        Args:
            images: RGB pixels in [0, 1], all of one height and width.
        """
        parts = []
        for share, member in zip(self._shares, self.members, strict=True):
            logs = member(images)
            logs = logs.clamp(min=LOG_FLOOR) if self._is_of_logs else logs.exp()
            parts.append(share * logs)
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        if self._is_of_logs:
            total = torch.softmax(self._scale * total, dim=1)
        if self._temperature == 1:
            return total
        return torch.softmax(total.log().clamp(min=LOG_FLOOR) / self._temperature, dim=1)


class _MemberModule(nn.Module):
    """One member, from pixels in [0, 1] to log-probabilities at its temperature."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, member: Member, network: nn.Module) -> None:
        super().__init__()
        if member.architecture in PROGRAMS:
            raise ConfigError(
                f"the member {member.name!r} is a program ({member.architecture}), which cannot become part of "
                "another. Leave it out of the search, or use the artifact as it is."
            )
        weighted = weigh_views(member.views, member.preprocessing.size)
        views = [(view, w) for view, w in weighted if isinstance(view, Square | Crop)]
        if len(views) < len(weighted):
            raise ConfigError(
                f"the member {member.name!r} looks at whole images (dense views), whose size is not fixed. Search "
                "again with members that have other views, or use the artifact as it is."
            )
        self.network = network
        self._views = views
        self._preprocessing = member.preprocessing
        self._is_geometric = average_of(member.views) == "geometric"
        self._temperature = member.temperature
        self._dtype = getattr(torch, member.precision)
        for name, values in (("mean", self._preprocessing.mean), ("std", self._preprocessing.std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self._moved = [view for view, _ in views if isinstance(view, Square)]
        for number, view in enumerate(self._moved):
            grid = _grid_of(view, self._preprocessing.size)
            self.register_buffer(_grid_name(number), grid, persistent=False)

    def forward(self, images: Images) -> Logs:
        resized: dict[Scale, torch.Tensor] = {}
        parts = []
        for view, weight in self._views:
            scale: Scale
            if isinstance(view, Square):
                scale = square_scale(self._preprocessing.size, self._preprocessing.resize)
            else:
                scale = (view.short_side,)
            if scale not in resized:
                resized[scale] = resize_unit(images, scale, self._preprocessing.interpolation)
            shown = self._show(resized[scale], view)
            logs = torch.log_softmax(self._logits((shown - self.mean) / self.std), dim=1)
            parts.append(weight * logs if self._is_geometric else logs + math.log(weight))
        stacked = torch.stack(parts)
        mean = torch.logsumexp(stacked, dim=0)
        if self._is_geometric:
            mean = torch.log_softmax(stacked.sum(dim=0), dim=1)
        mean = mean.clamp(max=0)
        if self._temperature == 1:
            return mean
        return torch.log_softmax(mean.clamp(min=LOG_FLOOR) / self._temperature, dim=1)

    def _show(self, resized: torch.Tensor, view: Square | Crop) -> torch.Tensor:
        if isinstance(view, Crop) or not (view.right or view.down or view.scale != 1):
            return show(resized, view, self._preprocessing)
        centre = show(resized, Square(flip=view.flip), self._preprocessing)
        grid = getattr(self, _grid_name(self._moved.index(view)))
        return functional.grid_sample(
            centre,
            grid.expand(centre.shape[0], -1, -1, -1),
            padding_mode="zeros",
            align_corners=False,
        )

    def _logits(self, batch: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(batch.to(self._dtype))
        return logits.to(torch.float32)


def _grid_name(number: int) -> str:
    return f"grid_{number}"


def _grid_of(view: Square, size: int) -> Float[torch.Tensor, "1 size size 2"]:
    """Compute where each pixel of a moved and scaled square comes from, as `grid_sample` takes it.

    It is the grid of torchvision's `affine`, which exporters to ONNX do not get right when they trace it.
    """
    pixels = torch.arange(size, dtype=torch.float32) - size / 2 + 0.5
    right = (pixels - view.right) / view.scale / (size / 2)
    down = (pixels - view.down) / view.scale / (size / 2)
    return torch.stack([right.expand(size, size), down[:, None].expand(size, size)], dim=2)[None]
