"""Test-time views as settings, and the single views that each policy stands for. No torch.

Short sides are given for a network input of 224 pixels, as in the papers. Where they are not set,
they grow in proportion to the input: round(side * size / 224), so that 256 is 342 for Inception's 299.
Sides that are set are pixels as they stand.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from ensemble.config import Config
from ensemble.errors import ConfigError

REFERENCE_SIZE = 224
"""Side of the network input that the papers' short sides are about, in pixels."""

Sides = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
Average = Literal["softmax", "geometric"]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Square(Config):
    """The square that the member's preprocessing cuts out, possibly moved, scaled or mirrored."""

    kind: Literal["square"] = "square"
    right: int = 0
    """Pixels of the input that it is moved; what comes in is black."""
    down: int = 0
    """Likewise."""
    scale: PositiveFloat = 1.0
    """Around the centre."""
    flip: bool = False
    """Mirrored, left for right, before anything else."""

    @property
    def label(self) -> str:
        """A short name, fit for a file."""
        moved = f"-right{self.right}-down{self.down}" if self.right or self.down else ""
        scaled = f"-scale{self.scale:g}" if self.scale != 1 else ""
        return f"center{moved}{scaled}" + _flipped(self.flip)


class Crop(Config):
    """A square of the network's input size out of the resized image.

    Positions are fractions of the way that the square can go: 0 is the top or left edge, 1 the
    bottom or right one. A pixel position is round(fraction * (length - size)), halves to even, as
    torchvision's centre crop has it.
    """

    kind: Literal["crop"] = "crop"
    short_side: PositiveInt
    """The image is resized to it, its shape kept."""
    along: Fraction | None = None
    """Cut a square of the short side first, so far along the long side; from the whole image if not set."""
    down: Fraction = 0.5
    """How far down."""
    right: Fraction = 0.5
    """How far right."""
    is_resized: bool = False
    """The whole region is resized to the input's size; nothing is cut out of it."""
    flip: bool = False
    """The region is mirrored, left for right, before the crop is cut out of it."""

    @property
    def label(self) -> str:
        """A short name, fit for a file."""
        square = "" if self.along is None else f"-square{self.along:g}"
        place = "resized" if self.is_resized else f"{self.down:g}-{self.right:g}"
        return f"crop{self.short_side}{square}-{place}" + _flipped(self.flip)


class Whole(Config):
    """The whole resized image through the fully convolutional network, logits averaged over positions."""

    kind: Literal["whole"] = "whole"
    short_side: PositiveInt
    """The image is resized to it, its shape kept."""
    flip: bool = False
    """Mirrored, left for right."""

    @property
    def label(self) -> str:
        """A short name, fit for a file."""
        return f"dense{self.short_side}" + _flipped(self.flip)


View = Square | Crop | Whole


class _Averaged(Config):
    average: Average = "softmax"
    """Mean of the softmax outputs over views, or their geometric mean, which sums to 1 again."""
    keep_views: bool = False
    """Every view becomes a member of its own, NAME@VIEW, with its own column and weight."""


class CenterView(Config):
    """The image as it is, once."""

    kind: Literal["center"] = "center"


class FlipViews(_Averaged):
    """The image as it is, and mirrored."""

    kind: Literal["flip"] = "flip"


class ShiftsAndScales(_Averaged):
    """The image as it is, shifted in four directions, and at other scales; for images that must not be flipped."""

    kind: Literal["shifts_and_scales"] = "shifts_and_scales"
    shift: NonNegativeInt = 1
    """Pixels of the network's input that the image is moved left, right, up and down; 0 for none."""
    scales: tuple[PositiveFloat, ...] = ()
    """Further scales around the centre, e.g. [0.9, 1.1]."""


class TenCrop(_Averaged):
    """Four corners and the centre of the central square, and the same of its mirror image.

    Source: Krizhevsky et al. 2012, §4.1: 224 x 224 crops of a 256 x 256 image.
    """

    kind: Literal["ten_crop"] = "ten_crop"
    short_side: PositiveInt | None = None
    """Side of the central square; 256 at an input of 224 if not set."""


class Crops144(_Averaged):
    """4 scales x 3 squares x (4 corners, centre, the square resized) x mirror images.

    Source: Szegedy et al. 2014, §7. On a square image the three squares are one.
    """

    kind: Literal["crops_144"] = "crops_144"
    short_sides: Sides | None = None
    """256, 288, 320, 352 at an input of 224 if not set."""


class DenseViews(_Averaged):
    """The whole image at several scales, fully convolutional: `ensemble.dense`.

    Source: P1, IV-2.
    """

    kind: Literal["dense"] = "dense"
    short_sides: Sides | None = None
    """224, 256, 384, 480, 640 at an input of 224 if not set."""
    flip: bool = False
    """Also mirrored, at each scale."""


class MultiScale(_Averaged):
    """Dense at VGG's scales, each also mirrored.

    Source: Simonyan, Zisserman 2014, §4.2.
    """

    kind: Literal["multi_scale"] = "multi_scale"
    trained_at: Annotated[int, Field(gt=32)] | None = None
    """The short side S of training: S - 32, S, S + 32; 256, 384, 512 at an input of 224 if not set."""


class MultiCrop(_Averaged):
    """A regular grid of crops at VGG's scales, each also mirrored: 5 x 5 x 2 x 3 = 150.

    Source: Simonyan, Zisserman 2014, §4.3.
    """

    kind: Literal["multi_crop"] = "multi_crop"
    short_sides: Sides | None = None
    """256, 384, 512 at an input of 224 if not set."""
    grid: PositiveInt = 5
    """Rows and columns of the grid."""


class DenseAndMultiCrop(_Averaged):
    """The mean of dense and multi-crop, which see the borders differently.

    Source: Simonyan, Zisserman 2014, §4.3: best of all.
    """

    kind: Literal["dense+multi_crop"] = "dense+multi_crop"
    short_sides: Sides | None = None
    """Of both; 256, 384, 512 at an input of 224 if not set."""
    grid: PositiveInt = 5
    """Rows and columns of the grid of crops."""


Policy = Annotated[
    CenterView
    | FlipViews
    | ShiftsAndScales
    | TenCrop
    | Crops144
    | DenseViews
    | MultiScale
    | MultiCrop
    | DenseAndMultiCrop
    | Square
    | Crop
    | Whole,
    Field(discriminator="kind"),
]


class ListedViews(_Averaged):
    """Policies and single views of your own; each entry counts the same, whatever it stands for."""

    kind: Literal["list"] = "list"
    views: Annotated[tuple[Policy, ...], Field(min_length=1)]
    """Entries."""

    @field_validator("views", mode="after")
    @classmethod
    def _check_entries(cls, views: tuple[Any, ...]) -> tuple[Any, ...]:
        for view in views:
            if average_of(view) != "softmax" or keeps_views(view):
                raise ValueError(
                    f"the entry {view.kind!r} sets average or keep_views; say it once, for the list."
                )
        return views


Views = Annotated[
    CenterView
    | FlipViews
    | ShiftsAndScales
    | TenCrop
    | Crops144
    | DenseViews
    | MultiScale
    | MultiCrop
    | DenseAndMultiCrop
    | Square
    | Crop
    | Whole
    | ListedViews,
    Field(discriminator="kind"),
]


def list_views(views: Views, size: int = REFERENCE_SIZE) -> tuple[View, ...]:
    """The single views that a setting stands for.

    Args:
        views: The setting.
        size: Side of the network's input, in pixels.
    """
    return tuple(view for part in _parts(views, size) for view in part)


def weigh_views(views: Views, size: int = REFERENCE_SIZE) -> tuple[tuple[View, float], ...]:
    """The single views with their shares of the mean, which sum to 1.

    Views count the same, except that each part of a list, and of dense + multi-crop, does.

    Raises:
        ConfigError: A short side is smaller than the input.
    """
    parts = _parts(views, size)
    for view in (view for part in parts for view in part):
        _check_fit(view, size)
    return tuple((view, 1 / (len(parts) * len(part))) for part in parts for view in part)


def average_of(views: Views) -> Average:
    """How the views are averaged."""
    return views.average if isinstance(views, _Averaged) else "softmax"


def keeps_views(views: Views) -> bool:
    """Whether every view becomes a member of its own."""
    return isinstance(views, _Averaged) and views.keep_views


def relative_cost(views: Views, size: int = REFERENCE_SIZE) -> float:
    """Pixels that a square image sends through the network, as multiples of one input."""
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
    """Refuse what reaches beyond the image; a region that is resized as a whole may be smaller."""
    is_cut = isinstance(view, Whole) or (isinstance(view, Crop) and not view.is_resized)
    if is_cut and not isinstance(view, Square) and view.short_side < size:
        raise ConfigError(
            f"views: {view.label} is of an image whose short side is {view.short_side} pixels, and "
            f"the network's input is {size} x {size}. Set short sides of {size} or more."
        )


def _scaled(sides: Sequence[int], size: int) -> tuple[int, ...]:
    return tuple(round(side * size / REFERENCE_SIZE) for side in sides)


def _flipped(flip: bool) -> str:
    return "-flip" if flip else ""


def describe_views(views: Views, size: int = REFERENCE_SIZE) -> str:
    """The views in words, with their number where it is not plain."""
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
