import numpy as np
import pytest
import torch

from ensemble.inference.transforms import resize_pixels, show, square_scale
from ensemble.members.settings import Preprocessing
from ensemble.views.policies import list_views
from ensemble.views.regions import region_of
from ensemble.views.settings import (
    Crop,
    Crops144,
    MultiCrop,
    ShiftsAndScales,
    Square,
    TenCrop,
    View,
    Whole,
)

SIZE, RESIZE = 64, 80
VIEWS = [
    *list_views(Crops144(), SIZE)[:36:3],
    *list_views(TenCrop(), SIZE)[3:7],
    *list_views(MultiCrop(grid=3), SIZE)[::5],
    *list_views(ShiftsAndScales(shift=3, scales=(0.8, 1.3)), SIZE),
    Square(flip=True, right=5, down=-4, scale=1.2),
    Crop(short_side=90, along=0.5, right=0.2, flip=True),
]


def seen_edges(view: Square | Crop, shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """Read left, top, right and bottom from an image whose colours are the places of its pixels."""
    height, width = shape
    x = np.broadcast_to(np.linspace(40, 250, width), shape)
    y = np.broadcast_to(np.linspace(40, 250, height)[:, None], shape)
    pixels = torch.from_numpy(np.stack([x, y, np.full(shape, 255)])[None].round().astype(np.uint8))
    preprocessing = Preprocessing(size=SIZE, resize=RESIZE, mean=(0, 0, 0), std=(1, 1, 1))
    scale = square_scale(SIZE, RESIZE) if isinstance(view, Square) else (view.short_side,)
    shown = show(resize_pixels(pixels, scale, "bilinear"), view, preprocessing)[0].numpy() * 255
    across, down = (
        (shown[i][shown[2] > 254] - 40) / 210 for i in (0, 1)
    )  # the rest is black, or fades to it
    return across.min(), down.min(), across.max(), down.max()


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.label)
@pytest.mark.parametrize("shape", [(120, 200), (150, 100)])
def test_a_region_is_what_the_network_is_shown(view: View, shape: tuple[int, int]) -> None:
    region = region_of(view, shape, SIZE, RESIZE)
    expected = (region.left, region.top, region.left + region.width, region.top + region.height)
    assert seen_edges(view, shape) == pytest.approx(expected, abs=0.03)


def test_a_dense_view_shows_the_whole_image() -> None:
    region = region_of(Whole(short_side=256), (30, 50), SIZE, None)
    assert (region.left, region.top, region.width, region.height) == (0, 0, 1, 1)


def test_a_square_that_an_image_is_stretched_to_shows_all_of_it() -> None:
    region = region_of(Square(), (30, 50), SIZE, None)
    assert (region.left, region.top, region.width, region.height) == (0, 0, 1, 1)
