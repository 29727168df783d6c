"""Regions: which rectangle of an image a test-time view shows. No torch."""

from dataclasses import dataclass

from ensemble.views.settings import Crop, Square, View, Whole

# The run-time check of annotations holds that an int is no float.
Number = int | float


@dataclass(frozen=True)
class Region:
    """A rectangle in fractions of the image's width and height.

    Attributes:
        left: Left edge; below 0 where the view reaches beyond the image.
        top: Top edge.
        width: Width.
        height: Height.
    """

    left: float
    top: float
    width: float
    height: float


def region_of(view: View, shape: tuple[int, int], size: int, resize: int | None) -> Region:
    """Give the region of the original image that a view shows, whether mirrored or not.

    Args:
        view: The view.
        shape: Height and width of the image, in pixels.
        size: Side of the network's input, in pixels.
        resize: Short side that the member's preprocessing resizes to before it cuts out the centre;
            None where it stretches the image to the square.
    """
    match view:
        case Whole():
            return Region(0.0, 0.0, 1.0, 1.0)
        case Crop():
            return _crop(view, _resized(shape, view.short_side), size)
        case Square():
            scaled = (size, size) if resize is None else _resized(shape, resize)
            return _square(view, scaled, size)
    raise TypeError(f"{view!r} is no view.")


def _resized(shape: tuple[int, int], short_side: int) -> tuple[int, int]:
    short = min(shape)
    height, width = (int(short_side * length / short) for length in shape)
    return height, width


def _crop(view: Crop, scaled: tuple[int, int], size: int) -> Region:
    top, left, height, width = 0, 0, *scaled
    if view.along is not None:
        side = min(scaled)
        top, left = round((height - side) * view.along), round((width - side) * view.along)
        height = width = side
    if not view.is_resized:
        down, right = round((height - size) * view.down), round((width - size) * view.right)
        # The crop is cut out of the mirrored region.
        right = width - size - right if view.flip else right
        top, left, height, width = top + down, left + right, size, size
    return _fractions(left, top, width, height, scaled)


def _square(view: Square, scaled: tuple[int, int], size: int) -> Region:
    height, width = scaled
    top, left = round((height - size) / 2), round((width - size) / 2)
    # Moving the square's content to the right shows what lies to the left of it.
    horizontal = _visible(size, -view.right / view.scale, view.scale)
    vertical = _visible(size, -view.down / view.scale, view.scale)
    x = left + horizontal[0]
    if view.flip:
        x = width - x - horizontal[1]
    return _fractions(x, top + vertical[0], horizontal[1], vertical[1], scaled)


def _visible(size: int, shift: float, scale: float) -> tuple[float, float]:
    """Give start and length of what is seen of a length after it is moved and scaled around its middle."""
    half = size / scale / 2
    start = max(0.0, size / 2 + shift - half)
    end = min(float(size), size / 2 + shift + half)
    return start, end - start


def _fractions(
    left: Number, top: Number, width: Number, height: Number, scaled: tuple[int, int]
) -> Region:
    return Region(left / scaled[1], top / scaled[0], width / scaled[1], height / scaled[0])
