"""What a policy of test-time views stands for: its single views, their weights, cost and description. No torch."""

from collections.abc import Sequence
from typing import Any

from ensemble.errors import ConfigError
from ensemble.views.settings import (
    CenterView,
    Crop,
    Crops144,
    DenseAndMultiCrop,
    DenseViews,
    FlipViews,
    ListedViews,
    MultiCrop,
    MultiScale,
    ShiftsAndScales,
    Square,
    TenCrop,
    View,
    Views,
    Whole,
    average_of,
)

REFERENCE_SIZE = 224
"""Side of the network's input that the papers state short sides for, in pixels."""


def list_views(views: Views, size: int = REFERENCE_SIZE) -> tuple[View, ...]:
    """List the single views that a setting stands for.

    Args:
        views: The setting.
        size: Side of the network's input, in pixels.
    """
    return tuple(view for part in _parts(views, size) for view in part)


def weigh_views(views: Views, size: int = REFERENCE_SIZE) -> tuple[tuple[View, float], ...]:
    """List the single views with their weights in the mean, which sum to 1.

    Views have equal weights; in a list, and in dense + multi-crop, each part has an equal weight
    instead, divided equally among its views.

    Args:
        views: The setting.
        size: Side of the network's input, in pixels.

    Raises:
        ConfigError: A short side is smaller than the network's input.
    """
    parts = _parts(views, size)
    for view in (view for part in parts for view in part):
        _check_fit(view, size)
    return tuple((view, 1 / (len(parts) * len(part))) for part in parts for view in part)


def relative_cost(views: Views, size: int = REFERENCE_SIZE) -> float:
    """Compute how many pixels of a square image pass through the network, as a multiple of one input."""
    listed = list_views(views, size)
    return sum((v.short_side / size) ** 2 if isinstance(v, Whole) else 1.0 for v in listed)


def _parts(views: Views, size: int) -> tuple[Sequence[View], ...]:
    if isinstance(views, ListedViews):
        return tuple(list_views(entry, size) for entry in views.views)
    if isinstance(views, DenseAndMultiCrop):
        sides = views.short_sides or _scaled((256, 384, 512), size)
        return _dense(sides, (False, True)), _grid(sides, views.grid)
    return (_plain(views, size),)


def _plain(views: Any, size: int) -> Sequence[View]:
    match views:
        case Square() | Crop() | Whole():
            return [views]
        case CenterView():
            return [Square()]
        case FlipViews():
            return [Square(), Square(flip=True)]
        case ShiftsAndScales():
            return _moved(views)
        case TenCrop():
            (side,) = (views.short_side,) if views.short_side else _scaled((256,), size)
            return [
                Crop(short_side=side, along=0.5, down=down, right=right, flip=flip)
                for flip in (False, True)
                for down, right in _FIVE
            ]
        case Crops144():
            return _crops_144(views.short_sides or _scaled((256, 288, 320, 352), size))
        case DenseViews():
            sides = views.short_sides or _scaled((224, 256, 384, 480, 640), size)
            return _dense(sides, (False, True) if views.flip else (False,))
        case MultiScale():
            trained_at = views.trained_at
            near = None if trained_at is None else (trained_at - 32, trained_at, trained_at + 32)
            return _dense(near or _scaled((256, 384, 512), size), (False, True))
        case MultiCrop():
            return _grid(views.short_sides or _scaled((256, 384, 512), size), views.grid)
    raise TypeError(f"{views!r} is no setting of views.")


# In torchvision's order: corners row by row, then the centre.
_FIVE = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5))


def _moved(views: ShiftsAndScales) -> list[View]:
    listed: list[View] = [Square()]
    if views.shift:
        moves = ((-views.shift, 0), (views.shift, 0), (0, -views.shift), (0, views.shift))
        listed += [Square(right=right, down=down) for right, down in moves]
    return listed + [Square(scale=scale) for scale in views.scales]


def _dense(sides: Sequence[int], flips: Sequence[bool]) -> list[View]:
    return [Whole(short_side=side, flip=flip) for side in sides for flip in flips]


def _crops_144(sides: Sequence[int]) -> list[View]:
    listed: list[View] = []
    for side in sides:
        for along in (0.0, 0.5, 1.0):
            for flip in (False, True):
                square = Crop(short_side=side, along=along, is_resized=True, flip=flip)
                cut = square.model_copy(update={"is_resized": False})
                places = [
                    cut.model_copy(update={"down": down, "right": right}) for down, right in _FIVE
                ]
                listed += [*places, square]
    return listed


def _grid(sides: Sequence[int], grid: int) -> list[View]:
    steps = [i / (grid - 1) for i in range(grid)] if grid > 1 else [0.5]
    return [
        Crop(short_side=side, down=down, right=right, flip=flip)
        for side in sides
        for down in steps
        for right in steps
        for flip in (False, True)
    ]


def _check_fit(view: View, size: int) -> None:
    """Refuse a view that reaches beyond the image; a region that is resized as a whole may be smaller."""
    is_cut = isinstance(view, Whole) or (isinstance(view, Crop) and not view.is_resized)
    if is_cut and not isinstance(view, Square) and view.short_side < size:
        raise ConfigError(
            f"views: {view.label} shows an image whose short side is {view.short_side} pixels, and "
            f"the network's input is {size} x {size}. Set short sides of {size} or more."
        )


def _scaled(sides: Sequence[int], size: int) -> tuple[int, ...]:
    return tuple(round(side * size / REFERENCE_SIZE) for side in sides)


def describe_views(views: Views, size: int = REFERENCE_SIZE) -> str:
    """Describe the views in words."""
    words = _describe(views, size)
    return words if average_of(views) == "softmax" else f"{words}, geometric mean"


def _describe(views: Any, size: int) -> str:
    match views:
        case CenterView():
            return "centre"
        case FlipViews():
            return "centre + flip"
        case ShiftsAndScales():
            parts = ["centre"]
            parts += [f"shifts of {views.shift} px"] if views.shift else []
            scales = ", ".join(f"{scale:g}" for scale in views.scales)
            return " + ".join([*parts, f"scales {scales}"] if scales else parts)
        case ListedViews():
            return " + ".join(_describe(entry, size) for entry in views.views)
        case Square() | Crop() | Whole():
            return views.label
    listed = list_views(views, size)
    sides = sorted({view.short_side for view in listed if not isinstance(view, Square)})
    name = views.kind.replace("crops_144", "144 crops").replace("_", "-")
    flips = " + flip" if any(view.flip for view in listed) else ""
    return f"{name} at {', '.join(map(str, sides))}{flips}"
