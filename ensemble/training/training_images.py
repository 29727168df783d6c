"""The images that a network is trained on: where they lie, and how a batch of them gets to the device."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64, UInt8

from ensemble.errors import DataError
from ensemble.inference.staging import Staging, to_device

# Part of a GPU's free memory that images may take; the rest is for the network and its batches.
_MEMORY_PART = 0.25

Pixels = UInt8[torch.Tensor, "image 3 height width"] | Float[torch.Tensor, "image 3 height width"]
# Labels are class indices, or probabilities of all classes where an ensemble gave them.
Labels = Int64[torch.Tensor, " batch"] | Float[torch.Tensor, "batch class"]
Batch = tuple[Pixels, Labels]


@runtime_checkable
class Batches(Protocol):
    """Images with their labels, drawn batch after batch in a new order each epoch."""

    def num_steps(self, batch_size: int) -> int:
        """Return the number of batches in an epoch."""

    def batches(
        self,
        batch_size: int,
        generator: torch.Generator,
        first_step: int = 0,
        order_generator: torch.Generator | None = None,
    ) -> Iterator[Batch]:
        """Draw an order of all images, and yield batch after batch on the device.

        Pixels are from 0 to 255 as uint8, or in [0, 1] as floats.

        Args:
            batch_size: Number of images in each batch but the last.
            generator: A generator on the CPU. What is drawn of an epoch here is drawn before its first batch.
            first_step: Number of batches that are left out at the beginning.
            order_generator: Generator of the order alone; `generator` draws it too if None.
        """


@runtime_checkable
class ImageBatches(Batches, Protocol):
    """Batches of images, of which some can be looked at before a training."""

    def sample(self, num_images: int) -> Iterator[Batch]:
        """Yield some images, evenly spaced, in batches and unchanged."""


class TrainingImages:
    """Images and their labels, of which the host draws batches without waiting for the device.

    Images are moved to the device once if they fit into `device_bytes` there. Otherwise they stay in
    the host's memory, and each batch is copied while the device computes the one before it.

    Args:
        images: Pixels from 0 to 255 as uint8, a quarter of the memory, or in [0, 1] as floats.
        labels: Class index of each image.
        device: Device that batches are drawn for.
        device_bytes: Memory of the device that the images may take, in bytes.
    """

    def __init__(
        self,
        images: Pixels,
        labels: Int64[torch.Tensor, " image"],
        device: torch.device,
        device_bytes: float,
    ) -> None:
        self._device = device
        self._is_resident = images.is_cuda or images.nbytes <= device_bytes
        self._images = images.to(device) if self._is_resident else images
        self._labels = labels.to(device)
        self._staging = Staging(device)

    def num_steps(self, batch_size: int) -> int:
        """Return the number of batches in an epoch; a last batch of one image, without a variance, is left out."""
        return len(self._images) // batch_size + (len(self._images) % batch_size > 1)

    def batches(
        self,
        batch_size: int,
        generator: torch.Generator,
        first_step: int = 0,
        order_generator: torch.Generator | None = None,
    ) -> Iterator[Batch]:
        """Draw an order of all images, and yield batch after batch on the device.

        Pixels are from 0 to 255 as uint8, or in [0, 1] as floats.

        Args:
            batch_size: Number of images in each batch but the last.
            generator: A generator on the CPU, so that the order is the same on a GPU.
            first_step: Number of batches that are left out at the beginning.
            order_generator: Generator of the order alone; `generator` draws it too if None.
        """
        order = torch.randperm(len(self._images), generator=order_generator or generator)
        order_there = to_device(order, self._device)
        labels = self._labels[order_there]
        rows = order_there if self._is_resident else order
        for step in range(first_step, self.num_steps(batch_size)):
            part = slice(step * batch_size, (step + 1) * batch_size)
            yield self._take(rows[part]), labels[part]

    def sample(self, num_images: int) -> Iterator[Batch]:
        """Yield some images, evenly spaced."""
        count = min(num_images, len(self._images))
        rows = torch.linspace(0, len(self._images) - 1, count).round().long()
        there = to_device(rows, self._device)
        yield self._take(there if self._is_resident else rows), self._labels[there]

    def _take(self, rows: Int64[torch.Tensor, " batch"]) -> Pixels:
        if self._is_resident:
            return self._images[rows]
        shape = (len(rows), *self._images.shape[1:])
        # Gathered into pinned memory at once: pageable memory would be copied twice, and waited for.
        pinned = torch.empty(
            shape, dtype=self._images.dtype, pin_memory=self._device.type == "cuda"
        )
        torch.index_select(self._images, 0, rows, out=pinned)
        return self._staging.copy(pinned)


def to_float(images: Pixels) -> Float[torch.Tensor, "image 3 height width"]:
    """Return pixels in [0, 1]; images that are floats already are returned themselves."""
    return images if images.is_floating_point() else images.to(torch.float32).div_(255)


def check_images(images: torch.Tensor, labels: torch.Tensor) -> None:
    """Refuse images that cannot be trained on.

    Raises:
        DataError: There are fewer than 2 images, or another number of labels, or a pixel lies outside
            [0, 1].
    """
    if len(images) != len(labels) or len(images) < 2:
        raise DataError(
            f"{len(images)} images and {len(labels)} labels to train on; "
            "give as many of one as of the other, and at least 2."
        )
    if not images.is_floating_point():
        return
    low, high = images.min().item(), images.max().item()
    # Written so that NaN fails too.
    if not (low >= 0 and high <= 1):
        raise DataError(
            f"training pixels run from {low} to {high}; they must be in [0, 1], "
            "not normalised: divide uint8 pixels by 255."
        )


def device_bytes_for_images(device: torch.device) -> float:
    """Return the memory of a device that images may take, in bytes; all that there is on a CPU."""
    if device.type != "cuda":
        return float("inf")
    return _MEMORY_PART * torch.cuda.mem_get_info(device)[0]
