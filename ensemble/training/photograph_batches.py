"""Batches of photographs: cut, resized to the input and stacked by threads while the device computes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from jaxtyping import Int64, UInt8
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from ensemble.images.shard import BadImage
from ensemble.inference.staging import Staging, to_device
from ensemble.members.settings import Preprocessing
from ensemble.training.augmentation_settings import RandomCropConfig, RandomResizedCropConfig
from ensemble.training.crops import Boxes, centre_boxes, draw_boxes
from ensemble.training.photographs import Photographs, in_order
from ensemble.training.training_images import Batch, to_float

# Batches that are made while another one is computed.
_AHEAD = 2
_SAMPLE_BATCH = 64

Pixels = UInt8[torch.Tensor, "image 3 size size"]


class PhotographBatches:
    """Photographs and their labels, drawn batch after batch.

    Args:
        photographs: The images.
        labels: Class index of each image.
        preprocessing: Size of the input, and how images are resized to it.
        crop: How the part that is trained on is drawn; the part that is predicted if None.
        device: Device that batches are drawn for.
    """

    def __init__(
        self,
        photographs: Photographs,
        labels: Int64[torch.Tensor, " image"],
        preprocessing: Preprocessing,
        crop: RandomCropConfig | RandomResizedCropConfig | None,
        device: torch.device,
    ) -> None:
        self._photographs, self._crop = photographs, crop
        self._preprocessing, self._device = preprocessing, device
        self._labels, self._labels_there = labels, labels.to(device)
        self._staging = Staging(device)

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def bad(self) -> tuple[BadImage, ...]:
        """Images that could not be decoded."""
        return self._photographs.bad

    def with_preprocessing(self, preprocessing: Preprocessing) -> "PhotographBatches":
        """Give the same images to another preprocessing, whose short side is as large."""
        return PhotographBatches(
            self._photographs, self._labels, preprocessing, self._crop, self._device
        )

    @property
    def label_range(self) -> tuple[int, int]:
        """Smallest and largest label."""
        return int(self._labels.min()), int(self._labels.max())

    def num_steps(self, batch_size: int) -> int:
        """Return the number of batches in an epoch; a last batch of one image, without a variance, is left out."""
        return len(self._labels) // batch_size + (len(self._labels) % batch_size > 1)

    def batches(
        self,
        batch_size: int,
        generator: torch.Generator,
        first_step: int = 0,
        order_generator: torch.Generator | None = None,
    ) -> Iterator[Batch]:
        """Draw an order of all images and a box in each, and yield batch after batch on the device, as uint8.

        Args:
            batch_size: Number of images in each batch but the last.
            generator: A generator on the CPU. All that is drawn of an epoch is drawn when it begins.
            first_step: Number of batches that are left out at the beginning.
            order_generator: Generator of the order alone; `generator` draws it too if None.
        """
        order = torch.randperm(len(self._labels), generator=order_generator or generator)
        boxes = self._boxes(generator)
        rows = [
            order[step * batch_size : (step + 1) * batch_size]
            for step in range(first_step, self.num_steps(batch_size))
        ]
        yield from self._make(rows, boxes)

    def in_turn(self, batch_size: int) -> Iterator[Batch]:
        """Yield all images in order, cut as they are predicted, with pixels in [0, 1]."""
        rows = torch.split(torch.arange(len(self._labels)), batch_size)
        boxes = centre_boxes(self._photographs.sides, self._preprocessing)
        for pixels, labels in self._make(list(rows), boxes):
            yield to_float(pixels), labels

    def sample(self, num_images: int) -> Iterator[Batch]:
        """Yield some images, evenly spaced, cut as they are predicted, as uint8."""
        count = min(num_images, len(self))
        rows = torch.linspace(0, len(self) - 1, count).round().long()
        boxes = centre_boxes(self._photographs.sides, self._preprocessing)
        yield from self._make(list(torch.split(rows, _SAMPLE_BATCH)), boxes)

    def _boxes(self, generator: torch.Generator) -> Boxes:
        sides = self._photographs.sides
        if self._crop is None:
            return centre_boxes(sides, self._preprocessing)
        return draw_boxes(sides, self._preprocessing, self._crop, generator)

    def _make(self, rows: list[torch.Tensor], boxes: Boxes) -> Iterator[Batch]:
        threads = torch.get_num_threads()
        with ThreadPoolExecutor(threads) as pool:

            def stack(batch: Int64[torch.Tensor, " batch"]) -> tuple[torch.Tensor, Pixels]:
                parts = [self._cut(row, boxes[row].tolist()) for row in batch.tolist()]
                shape = (len(parts), *parts[0].shape)
                pixels = torch.empty(
                    shape,
                    dtype=torch.uint8,
                    memory_format=torch.channels_last,
                    pin_memory=self._device.type == "cuda",
                )
                return batch, torch.stack(parts, out=pixels)

            for batch, pixels in in_order(pool, stack, rows, ahead=threads + _AHEAD):
                labels = self._labels_there[to_device(batch, self._device)]
                yield self._staging.copy(pixels), labels

    def _cut(self, row: int, box: list[int]) -> UInt8[torch.Tensor, "3 size size"]:
        top, left, height, width = box
        image = self._photographs.read(row)[top : top + height, left : left + width]
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        size = self._preprocessing.size
        if (height, width) == (size, size):
            return pixels
        # A copy of the part, in which the channels of a pixel lie together: it is resized twice as fast.
        part = pixels[None].contiguous(memory_format=torch.channels_last)
        (resized,) = transforms.resize(
            part,
            [size, size],
            InterpolationMode(self._preprocessing.interpolation),
            antialias=True,
        )
        return resized
