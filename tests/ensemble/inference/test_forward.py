import pytest
import torch
from torch import nn

from ensemble.inference.forward import PreparedNetwork
from ensemble.members.settings import Precision


class Narrow(nn.Module):
    """Sums of pixels, on a device that has room for so many images."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.batches = room, list[int]()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.room:
            raise torch.OutOfMemoryError
        self.batches.append(len(images))
        return images.flatten(1).sum(dim=1, keepdim=True).repeat(1, 2)


IMAGES = torch.arange(10 * 3 * 4 * 4, dtype=torch.float32).reshape(10, 3, 4, 4)


def test_in_float32_a_network_answers_to_the_bit() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2)).eval()
    expected = network(IMAGES)
    assert torch.equal(PreparedNetwork(network)(IMAGES), expected)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near_and_comes_back_as_float32(precision: Precision) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2)).eval()
    images = IMAGES / 480
    expected = network(images)
    found = PreparedNetwork(network, precision)(images)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


def test_channels_last_changes_no_more_than_rounding() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2)).eval()
    expected = network(IMAGES)
    torch.testing.assert_close(PreparedNetwork(network, channels_last=True)(IMAGES), expected)


def test_a_batch_that_does_not_fit_is_halved_and_that_is_remembered() -> None:
    narrow = Narrow(room=3)
    network = PreparedNetwork(narrow)
    expected = Narrow(room=10)(IMAGES)
    assert torch.equal(network(IMAGES), expected)
    assert network.largest_batch == 2
    narrow.batches.clear()
    network(IMAGES)
    assert narrow.batches == [2] * 5


def test_what_is_known_to_fit_is_not_tried_larger() -> None:
    narrow = Narrow(room=10)
    PreparedNetwork(narrow, largest_batch=4)(IMAGES)
    assert narrow.batches == [4, 4, 2]


def test_one_image_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        PreparedNetwork(Narrow(room=0))(IMAGES)
