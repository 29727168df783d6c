import pytest
import torch

from ensemble.inference.forward import PreparedNetwork
from jobs.benchmark.gpu.out_of_memory import Tight


def test_a_network_without_room_takes_what_fits_and_counts_what_does_not() -> None:
    tight = Tight(torch.nn.Flatten(), most=3)
    prepared = PreparedNetwork(tight)
    images = torch.rand(8, 3, 2, 2)
    assert torch.equal(prepared(images), images.flatten(1))
    assert (prepared.largest_batch, tight.failures) == (2, 2)
    prepared(images)
    assert tight.failures == 2


def test_memory_that_never_suffices_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        PreparedNetwork(Tight(torch.nn.Flatten(), most=0))(torch.rand(4, 3, 2, 2))
