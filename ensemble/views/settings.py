"""Test-time views as settings: single views, and the papers' policies. No torch.

Short sides are given for a network input of 224 pixels, as in the papers. Where they are not set,
they grow in proportion to the input: round(side * size / 224), so that 256 is 342 for Inception's 299.
Sides that are set are pixels as they stand.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from ensemble.config import Config

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


AnyPolicy = (
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
)
Policy = Annotated[AnyPolicy, Field(discriminator="kind")]


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


Views = Annotated[AnyPolicy | ListedViews, Field(discriminator="kind")]


def average_of(views: Views) -> Average:
    """How the views are averaged."""
    return views.average if isinstance(views, _Averaged) else "softmax"


def keeps_views(views: Views) -> bool:
    """Whether every view becomes a member of its own."""
    return isinstance(views, _Averaged) and views.keep_views


def _flipped(flip: bool) -> str:
    return "-flip" if flip else ""
