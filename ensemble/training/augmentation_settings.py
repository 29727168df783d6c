"""How training images are cut and changed, as settings. No torch."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from ensemble.config import Config
from ensemble.training.optimizer_settings import Fraction


class ColourConfig(Config):
    """Random changes of each training image's colours, uniform within the bounds and drawn anew in each epoch."""

    brightness: Fraction = 0.0
    """Largest change of the brightness, as a share of it."""
    contrast: Fraction = 0.0
    """Largest change of the contrast, as a share of it."""
    saturation: Fraction = 0.0
    """Largest change of the saturation, as a share of it."""
    pca_sd: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Standard deviation, as 0.1, of what each image's colours move along the principal components of all training
    pixels, as a share of the variance along them (pixels in [0, 1]); 0 for none. Source: Krizhevsky et al. 2012,
    section 4.1."""


class ErasingConfig(Config):
    """A random rectangle of an image that becomes the mean colour.

    Source: Zhong et al. 2017 (Random Erasing).
    """

    probability: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Probability that an image loses a rectangle."""
    min_area: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """Smallest area of the rectangle, as a fraction of the image's."""
    max_area: Annotated[float, Field(gt=0, lt=1)] = 0.33
    """Largest area of the rectangle, as a fraction of the image's."""


class AugmentationConfig(Config):
    """Random changes of each training image, uniform within the bounds and drawn anew in each epoch."""

    max_shift: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Largest shift in each direction, as a fraction of the side. Images move by whole pixels where they are neither
    rotated nor zoomed; what comes in from outside is black."""
    max_rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 10.0
    """Largest rotation in either direction, in degrees."""
    min_scale: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Smallest factor that the content is zoomed by; below 1 it shrinks."""
    max_scale: Annotated[float, Field(ge=1, le=4)] = 1.1
    """Largest factor that the content is zoomed by; above 1 it grows."""
    flip_probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability that an image is mirrored; 0 where left and right differ, as in digits."""


class CopiesConfig(Config):
    """Scaled and rotated copies that are added to the training images once, before the first epoch."""

    number: PositiveInt = 1
    """Number of copies of each image; 1 doubles the images of an epoch."""
    max_rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 15.0
    """Largest rotation of a copy in either direction, in degrees."""
    min_scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Smallest factor that the content of a copy is zoomed by; below 1 it shrinks."""
    max_scale: Annotated[float, Field(ge=1, le=4)] = 1.25
    """Largest factor that the content of a copy is zoomed by; above 1 it grows."""


class NoiseConfig(Config):
    """Gaussian noise on a network while it is trained, each as a share of the root mean square of what it is added to.

    Noise on the input is `noise_sd`.
    """

    weights: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Noise on each tensor of weights, for the passes over one batch; 0 for none."""
    gradients: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Noise on each tensor of gradients; 0 for none."""
    activations: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Noise on the output of each activation function; 0 for none."""


class RandomCropConfig(Config):
    """A square of the input's size at a random place of the image, resized to a short side."""

    kind: Literal["random_crop"] = "random_crop"
    """Name of the crop."""
    short_side: PositiveInt | tuple[PositiveInt, PositiveInt] = 256
    """Short side that images are resized to before, in pixels; or two, between which it is drawn anew each time
    (scale jittering)."""

    @model_validator(mode="after")
    def _ascends(self) -> "RandomCropConfig":
        low, high = self.short_sides
        if low > high:
            raise ValueError(f"short_side [{low}, {high}] must ascend; exchange them.")
        return self

    def check_size(self, size: int) -> None:
        """Refuse a short side that has no room for the input.

        Raises:
            ValueError: The smallest short side is less than the side of the input.
        """
        if self.short_sides[0] < size:
            raise ValueError(
                f"crop.short_side {self.short_sides[0]} is less than the input's {size} pixels, which cannot be "
                f"cut out of it; set {size} or more."
            )

    @property
    def short_sides(self) -> tuple[int, int]:
        """Smallest and largest short side, in pixels."""
        return self.short_side if isinstance(self.short_side, tuple) else (self.short_side,) * 2


class RandomResizedCropConfig(Config):
    """A random part of the image, of random area and aspect ratio, resized to the input's square."""

    kind: Literal["random_resized_crop"] = "random_resized_crop"
    """Name of the crop."""
    min_area: Annotated[float, Field(gt=0, le=1)] = 0.08
    """Smallest area of the part, as a fraction of the image's."""
    max_area: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Largest area of the part, as a fraction of the image's."""
    max_ratio: Annotated[float, Field(ge=1, le=10)] = 4 / 3
    """Largest ratio of the part's sides, either way."""

    @model_validator(mode="after")
    def _ascends(self) -> "RandomResizedCropConfig":
        if self.min_area > self.max_area:
            raise ValueError(
                f"min_area={self.min_area} is above max_area={self.max_area}; exchange them."
            )
        return self


Crop = Annotated[RandomCropConfig | RandomResizedCropConfig, Field(discriminator="kind")]
