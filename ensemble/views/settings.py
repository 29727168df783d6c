"""Test-time views as settings: single views, and the policies of the papers. No torch.

The papers state short sides for a network input of 224 pixels. A default short side grows in
proportion to the input, round(side * size / 224): 256 becomes 342 for Inception's input of 299. A
short side that is set is used as it is, in pixels.
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
    """Pixels of the network's input that the square is moved to the right; what comes in is black."""
    down: int = 0
    """Pixels of the network's input that the square is moved down; what comes in is black."""
    scale: PositiveFloat = 1.0
    """Factor that the square is scaled by around its centre."""
    flip: bool = False
    """Mirror the image, left for right, before it is moved or scaled."""

    @property
    def label(self) -> str:
        """Short name of the view, without a character that a file name cannot have."""
        moved = f"-right{self.right}-down{self.down}" if self.right or self.down else ""
        scaled = f"-scale{self.scale:g}" if self.scale != 1 else ""
        return f"center{moved}{scaled}" + _flipped(self.flip)


class Crop(Config):
    """A square of the network's input size out of the resized image.

    Positions are fractions of the way that the square can go: 0 is the top or left edge, 1 the
    bottom or right one. A pixel position is round(fraction * (length - size)), with halves rounded
    to even, as in torchvision's centre crop.
    """

    kind: Literal["crop"] = "crop"
    short_side: PositiveInt
    """Short side, in pixels, that the image is resized to; its aspect ratio is kept."""
    along: Fraction | None = None
    """Position, along the long side, of a square of the short side that is cut out first; if not set, the crop is cut
    out of the whole image."""
    down: Fraction = 0.5
    """Position of the crop from the top, 0, to the bottom, 1."""
    right: Fraction = 0.5
    """Position of the crop from the left, 0, to the right, 1."""
    is_resized: bool = False
    """Resize the whole region to the network's input, and cut no crop out of it."""
    flip: bool = False
    """Mirror the region, left for right, before the crop is cut out of it."""

    @property
    def label(self) -> str:
        """Short name of the view, without a character that a file name cannot have."""
        square = "" if self.along is None else f"-square{self.along:g}"
        place = "resized" if self.is_resized else f"{self.down:g}-{self.right:g}"
        return f"crop{self.short_side}{square}-{place}" + _flipped(self.flip)


class Whole(Config):
    """The whole resized image through the fully convolutional network, logits averaged over positions."""

    kind: Literal["whole"] = "whole"
    short_side: PositiveInt
    """Short side, in pixels, that the image is resized to; its aspect ratio is kept."""
    flip: bool = False
    """Mirror the image, left for right."""

    @property
    def label(self) -> str:
        """Short name of the view, without a character that a file name cannot have."""
        return f"dense{self.short_side}" + _flipped(self.flip)


View = Square | Crop | Whole


class _Averaged(Config):
    average: Average = "softmax"
    """Mean over the views: of the softmax outputs, or their geometric mean, scaled to sum to 1."""
    keep_views: bool = False
    """Make every view a member of its own, NAME@VIEW, with its own column and weight."""


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
    """Pixels of the network's input that the image is moved left, right, up and down; 0 moves it nowhere."""
    scales: tuple[PositiveFloat, ...] = ()
    """Further factors that the image is scaled by around its centre, as [0.9, 1.1]."""


class TenCrop(_Averaged):
    """Four corners and the centre of the central square, and the same of its mirror image.

    Source: Krizhevsky et al. 2012, §4.1: 224 x 224 crops of a 256 x 256 image.
    """

    kind: Literal["ten_crop"] = "ten_crop"
    short_side: PositiveInt | None = None
    """Side of the central square, in pixels; 256 for an input of 224 if not set."""


class Crops144(_Averaged):
    """4 scales x 3 squares x (4 corners, centre, the square resized) x mirror images.

    Source: Szegedy et al. 2014, §7. On a square image the three squares are one.
    """

    kind: Literal["crops_144"] = "crops_144"
    short_sides: Sides | None = None
    """Short sides, in pixels, that the image is resized to; 256, 288, 320, 352 for an input of 224 if not set."""


class DenseViews(_Averaged):
    """The whole image at several scales through the fully convolutional network: `ensemble.inference.dense`.

    Source: P1, IV-2.
    """

    kind: Literal["dense"] = "dense"
    short_sides: Sides | None = None
    """Short sides, in pixels, that the image is resized to; 224, 256, 384, 480, 640 for an input of 224 if not set."""
    flip: bool = False
    """Add the mirror image at each scale."""


class MultiScale(_Averaged):
    """Dense views at VGG's scales, each also mirrored.

    Source: Simonyan, Zisserman 2014, §4.2.
    """

    kind: Literal["multi_scale"] = "multi_scale"
    trained_at: Annotated[int, Field(gt=32)] | None = None
    """Short side S of the training images, in pixels, for views at S - 32, S and S + 32; if not set, the views are at
    256, 384, 512 for an input of 224."""


class MultiCrop(_Averaged):
    """A regular grid of crops at VGG's scales, each also mirrored: 5 x 5 x 2 x 3 = 150.

    Source: Simonyan, Zisserman 2014, §4.3.
    """

    kind: Literal["multi_crop"] = "multi_crop"
    short_sides: Sides | None = None
    """Short sides, in pixels, that the image is resized to; 256, 384, 512 for an input of 224 if not set."""
    grid: PositiveInt = 5
    """Number of rows, and of columns, in the grid of crops."""


class DenseAndMultiCrop(_Averaged):
    """The mean of dense views and multi-crop, which treat the image's border differently.

    Source: Simonyan, Zisserman 2014, §4.3: best of all.
    """

    kind: Literal["dense+multi_crop"] = "dense+multi_crop"
    short_sides: Sides | None = None
    """Short sides of both, in pixels; 256, 384, 512 for an input of 224 if not set."""
    grid: PositiveInt = 5
    """Number of rows, and of columns, in the grid of crops."""


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
    """Policies and single views; each entry has the same weight in the mean, whatever number of views it stands for."""

    kind: Literal["list"] = "list"
    views: Annotated[tuple[Policy, ...], Field(min_length=1)]
    """Policies and single views."""

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
    """Return how the views are averaged."""
    return views.average if isinstance(views, _Averaged) else "softmax"


def keeps_views(views: Views) -> bool:
    """Tell whether every view becomes a member of its own."""
    return isinstance(views, _Averaged) and views.keep_views


def _flipped(flip: bool) -> str:
    return "-flip" if flip else ""
