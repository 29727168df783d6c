"""Where training images lie; those that need a GPU skip themselves without one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ensemble.training.training_images import TrainingImages, device_bytes_for_images, to_float

CPU = torch.device("cpu")
INFINITE = float("inf")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def numbered(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose pixels are their number, which is their label too."""
    labels = torch.arange(count)
    return labels.to(torch.uint8).view(-1, 1, 1, 1).repeat(1, 3, 4, 4), labels


def drawn(
    images: torch.Tensor, labels: torch.Tensor, device: torch.device, device_bytes: float
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    data = TrainingImages(images, labels, device, device_bytes)
    return list(data.batches(8, torch.Generator().manual_seed(0)))


@given(st.integers(2, 60), st.integers(2, 20))
def test_each_image_is_drawn_once_with_its_label_but_for_a_last_one_alone(
    count: int, batch_size: int
) -> None:
    images, labels = numbered(count)
    data = TrainingImages(images, labels, CPU, INFINITE)
    batches = list(data.batches(batch_size, torch.Generator().manual_seed(count)))
    assert len(batches) == data.num_steps(batch_size)
    assert all(1 < len(batch) <= batch_size for batch, _ in batches)
    seen = [label for _, part in batches for label in part.tolist()]
    assert len(set(seen)) == len(seen) == count - (count % batch_size == 1)
    for batch, part in batches:
        assert torch.equal(batch.amax(dim=(1, 2, 3)).long(), part)


@pytest.mark.parametrize("are_bytes", [True, False])
def test_images_that_stay_in_host_memory_give_the_same_batches(are_bytes: bool) -> None:
    images, labels = numbered(30)
    pixels = images if are_bytes else to_float(images)
    there, here = (drawn(pixels, labels, CPU, size) for size in (INFINITE, 0.0))
    assert len(there) == len(here) == 4
    for left, right in zip(there, here, strict=True):
        assert torch.equal(left[0], right[0])
        assert torch.equal(left[1], right[1])


def test_bytes_become_the_floats_that_inference_divides_by_255() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(1, 3, 1, 1)
    assert torch.equal(to_float(pixels), pixels.to(torch.float32).div_(255))
    assert pixels.max() == 255
    floats = torch.rand(1, 3, 4, 4)
    assert to_float(floats) is floats


def test_a_cpu_takes_all_images() -> None:
    assert device_bytes_for_images(CPU) == INFINITE


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("device_bytes", [INFINITE, 0.0])
# torch says so when the mode is first set.
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
def test_batches_reach_a_gpu_whole_and_without_waiting(device_bytes: float) -> None:
    images, labels = numbered(200)
    expected = drawn(images, labels, CPU, INFINITE)
    data = TrainingImages(images, labels, torch.device("cuda", 0), device_bytes)
    for _ in range(2):
        list(data.batches(8, torch.Generator().manual_seed(0)))
    torch.cuda.set_sync_debug_mode("error")
    try:
        arrived = list(data.batches(8, torch.Generator().manual_seed(0)))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for left, right in zip(arrived, expected, strict=True):
        assert torch.equal(left[0].cpu(), right[0])
        assert torch.equal(left[1].cpu(), right[1])
