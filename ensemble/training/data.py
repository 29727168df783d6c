"""The images of a training task: pixels in memory where they are small, photographs read as they are needed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import nn
from torch.nn import functional

from ensemble.errors import ConfigError, EmptySplitError
from ensemble.images.index import ImageIndex
from ensemble.images.open import decode_for, open_source
from ensemble.images.shard import BadImage, ImageShard
from ensemble.inference.resized import without_strips
from ensemble.inference.transforms import normalise_, to_input
from ensemble.members.settings import Preprocessing
from ensemble.training.augmentation_settings import CopiesConfig, RandomCropConfig
from ensemble.training.copies import add_copies
from ensemble.training.photograph_batches import PhotographBatches
from ensemble.training.photographs import KeptForm, Photographs
from ensemble.training.recipe import SoftLabelsConfig
from ensemble.training.soft_labels import open_images as open_views
from ensemble.training.soft_labels import open_soft_labels
from ensemble.training.task import TrainTask
from ensemble.training.training_images import (
    Batch,
    Batches,
    Pixels,
    TrainingImages,
    device_bytes_for_images,
    to_float,
)

_SMALLEST_STD = 1e-3
_JUDGE_BATCH_IMAGES = 256
_MEASURED_IMAGES = 1024
# Mean and standard deviation that photographs have until those of their channels are measured.
_UNMEASURED = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))

# Judges a network: number of errors, and mean loss in nats.
Judge = Callable[[nn.Module], tuple[int, float]]


@dataclass(frozen=True)
class TrainingData:
    """What a task trains on.

    Attributes:
        batches: Draws the batches of an epoch.
        label_range: Smallest and largest output that a label stands for.
        preprocessing: How the trained member will see an image.
        bad: Images that could not be decoded.
        judge: Judges a network on the stopping images; None where there are none.
        num_judged: Number of stopping images.
    """

    batches: Batches
    label_range: tuple[int, int]
    preprocessing: Preprocessing
    bad: tuple[BadImage, ...]
    judge: Judge | None
    num_judged: int


@dataclass(frozen=True)
class OpenImages:
    """The images of one index.

    Attributes:
        batches: Draws the batches of an epoch.
        in_turn: Yields all images once, in order, as they are predicted.
        label_range: Smallest and largest output that a label stands for.
        bad: Images that could not be decoded.
        num_images: Number of images.
        preprocessing: How they were resized, with mean and standard deviation measured if none were known.
    """

    batches: Batches
    in_turn: Callable[[], Iterator[Batch]]
    label_range: tuple[int, int]
    bad: tuple[BadImage, ...]
    num_images: int
    preprocessing: Preprocessing


def open_data(task: TrainTask, shards: Sequence[ImageShard], device: torch.device) -> TrainingData:
    """Open the images of a task and those that it is stopped by.

    Args:
        task: The task.
        shards: Decoded images, among them all of the task's; not needed where the task reads its images
            itself.
        device: Device to train on.

    Raises:
        EmptySplitError: None of the task's images could be decoded.
    """
    if task.recipe.soft_labels is not None:
        images = _open_soft(task, task.recipe.soft_labels, device)
    else:
        copies = task.recipe.copies
        images = open_images(task, task.images, task.preprocessing, shards, device, copies)
    preprocessing, judge, num_judged = images.preprocessing, None, 0
    if task.stopping is not None:
        try:
            others = open_images(task, task.stopping.images, preprocessing, shards, device)
        except EmptySplitError:
            pass  # all of them are bad images: nothing is judged, as without a stopping split
        else:
            judge = _judge_on(others.in_turn, preprocessing, device)
            num_judged = others.num_images
    return TrainingData(
        images.batches, images.label_range, preprocessing, images.bad, judge, num_judged
    )


def preprocessing_of(task: TrainTask) -> Preprocessing:
    """Tell how the member of a task will see an image; mean and standard deviation may not be measured yet."""
    if task.preprocessing is not None:
        return task.preprocessing
    if task.has_photographs:
        return _of_fresh(task)
    mean, std = _UNMEASURED
    return Preprocessing(size=task.recipe.input_size, mean=mean, std=std)


def _open_soft(task: TrainTask, config: SoftLabelsConfig, device: torch.device) -> OpenImages:
    """Open the views that an ensemble answered, in place of the images."""
    labels, preprocessing = open_soft_labels(config, len(task.classes)), preprocessing_of(task)
    views = open_views(labels, preprocessing, task.folder / "soft-labels", device)
    if not len(views):
        raise EmptySplitError(f"{task.name} has no image to train on that could be decoded.")
    if task.preprocessing is None:
        ((pixels, _),) = views.sample(_MEASURED_IMAGES)
        measured = _measure(to_float(pixels))
        channels = {"mean": measured.mean, "std": measured.std}
        preprocessing = preprocessing.model_copy(update=channels)
    return OpenImages(
        views,
        lambda: iter(()),  # nothing is judged on views
        (0, len(task.classes) - 1),
        tuple(BadImage(image_id, reason) for image_id, reason in labels.bad),
        len(views),
        preprocessing,
    )


def open_images(
    task: TrainTask,
    index: ImageIndex,
    preprocessing: Preprocessing | None,
    shards: Sequence[ImageShard],
    device: torch.device,
    copies: CopiesConfig | None = None,
) -> OpenImages:
    """Open some images for a task.

    Args:
        task: The task.
        index: The images.
        preprocessing: How the member sees an image; measured on these images if None.
        shards: Decoded images, as for `open_data`.
        device: Device to train on.
        copies: Copies of the images that are trained on too; none if None.

    Raises:
        EmptySplitError: None of the images could be decoded.
        ConfigError: The images are photographs, of which there are no copies.
    """
    if task.has_photographs and copies is not None:
        raise ConfigError(
            f"{task.name} is trained on photographs, which are read as they are needed, and recipe.copies adds copies "
            "of images in memory; leave copies out, or start."
        )
    if task.has_photographs:
        batches = _batches(task, index, preprocessing or _of_fresh(task), shards, device)
        if preprocessing is None:
            preprocessing = _measure_batches(batches, _of_fresh(task))
            batches = batches.with_preprocessing(preprocessing)
        return OpenImages(
            batches,
            lambda: batches.in_turn(_JUDGE_BATCH_IMAGES),
            batches.label_range,
            batches.bad,
            len(batches),
            preprocessing,
        )
    if task.preprocessing is not None:
        shards = [without_strips(shard, task.preprocessing) for shard in shards]
    images, labels = _select(task, index, shards)
    if not len(images):
        raise EmptySplitError(f"{task.name} has no image to train on that could be decoded.")
    image_ids = set(index.image_ids.tolist())
    return OpenImages(
        TrainingImages(
            *add_copies(images, labels, copies, task.augmentation_seed),
            device,
            device_bytes_for_images(device),
        ),
        lambda: _in_turn(images, labels, device),
        (int(labels.min()), int(labels.max())),
        tuple(bad for shard in shards for bad in shard.bad if bad.image_id in image_ids),
        len(images),
        preprocessing or _measure(to_float(images)),
    )


def kept_form(task: TrainTask, preprocessing: Preprocessing | None) -> KeptForm:
    """Choose how the photographs of a task are kept.

    Args:
        task: The task.
        preprocessing: How the member sees an image; that of fresh weights if None.
    """
    preprocessing, crop = preprocessing or _of_fresh(task), task.recipe.crop
    largest = crop.short_sides[1] if isinstance(crop, RandomCropConfig) else 0
    return KeptForm(
        max(preprocessing.resize or preprocessing.size, largest),
        is_stretched=preprocessing.resize is None and crop is None,
        interpolation=preprocessing.interpolation,
    )


def _batches(
    task: TrainTask,
    index: ImageIndex,
    preprocessing: Preprocessing,
    shards: Sequence[ImageShard],
    device: torch.device,
) -> PhotographBatches:
    reading, form = task.reading, kept_form(task, preprocessing)
    if reading is None:
        decode, folder = _decoder_of_shards(index, shards), None
    else:
        source = open_source(reading.source)

        def decode(image_ids: tuple[str, ...]) -> Iterator[ImageShard]:
            return decode_for(source, image_ids, form.short_side)

        folder = task.folder / "photographs"
    photographs = Photographs(
        index,
        form,
        preprocessing,
        decode,
        folder,
        reading.disk_mb if reading else 0,
        torch.get_num_threads(),
    )
    label_by_id = dict(zip(index.image_ids.tolist(), index.labels.tolist(), strict=True))
    output_by_label = {label: output for output, label in enumerate(task.classes)}
    labels = [output_by_label[label_by_id[image_id]] for image_id in photographs.image_ids]
    return PhotographBatches(
        photographs,
        torch.tensor(labels, dtype=torch.int64),
        preprocessing,
        task.recipe.crop,
        device,
    )


def _decoder_of_shards(
    index: ImageIndex, shards: Sequence[ImageShard]
) -> Callable[[tuple[str, ...]], Iterator[ImageShard]]:
    """Take images out of shards in place of decoding them."""
    needed = set(index.image_ids.tolist())
    images = {
        str(image_id): image
        for shard in shards
        for image_id, image in zip(shard.image_ids, shard.images(), strict=True)
        if image_id in needed
    }
    bad = {one.image_id: one for shard in shards for one in shard.bad}

    def decode(image_ids: tuple[str, ...]) -> Iterator[ImageShard]:
        for image_id in image_ids:
            if image_id in images:
                yield ImageShard.pack([image_id], [images[image_id]])
            elif image_id in bad:
                yield ImageShard.pack([], [], [bad[image_id]])

    return decode


def _of_fresh(task: TrainTask) -> Preprocessing:
    """Choose how a network without weights to start from will see photographs: cut as it is trained."""
    crop, size = task.recipe.crop, task.recipe.input_size
    # Source: Krizhevsky et al. 2012, §2: 224 pixels out of a short side of 256.
    resize = crop.short_sides[0] if isinstance(crop, RandomCropConfig) else round(size * 256 / 224)
    mean, std = _UNMEASURED
    return Preprocessing(size=size, resize=resize, mean=mean, std=std)


def _measure_batches(batches: PhotographBatches, preprocessing: Preprocessing) -> Preprocessing:
    """Measure mean and standard deviation image by image: a thousand images at once may take a gigabyte."""
    count, total, squares = 0, torch.zeros(3), torch.zeros(3)
    for pixels, _ in batches.sample(_MEASURED_IMAGES):
        count += pixels[:, 0].numel()
        for image in pixels:
            values = image.flatten(1).double()
            # Sums of whole numbers, which are exact.
            total = total + values.sum(dim=1)
            squares = squares + (values @ values.T).diagonal()
    mean = total / count
    variance = (squares - count * mean**2) / max(1, count - 1)
    std = variance.clamp_min(0).sqrt().div(255).clamp_min(_SMALLEST_STD)
    return preprocessing.model_copy(update={"mean": _rounded(mean / 255), "std": _rounded(std)})


def _select(
    task: TrainTask, index: ImageIndex, shards: Sequence[ImageShard]
) -> tuple[Pixels, Int64[torch.Tensor, " image"]]:
    label_by_id = dict(zip(index.image_ids.tolist(), index.labels.tolist(), strict=True))
    output_by_label = {label: output for output, label in enumerate(task.classes)}
    pixels_by_id = {
        str(image_id): pixels
        for shard in shards
        for image_id, pixels in zip(shard.image_ids, shard.images(), strict=True)
        if image_id in label_by_id
    }
    # In the order of ids, so that neither the size nor the order of shards changes the weights.
    image_ids = sorted(pixels_by_id)
    images = _resize(task, [pixels_by_id[image_id] for image_id in image_ids])
    labels = [output_by_label[label_by_id[image_id]] for image_id in image_ids]
    return images, torch.tensor(labels, dtype=torch.int64)


def _resize(task: TrainTask, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Pixels:
    """Resize images to the input of the task's network; they stay uint8 where all have its size already."""
    to = task.preprocessing
    size, resize = (to.size, to.resize) if to else (task.recipe.input_size, None)
    has_size = all(image.shape[:2] == (size, size) for image in images)
    if images and has_size and resize in (None, size):
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    shard = ImageShard.pack([str(row) for row in range(len(images))], images)
    return to_input([shard], size, resize, to.interpolation if to else "bilinear")


def _in_turn(
    images: Pixels, labels: Int64[torch.Tensor, " image"], device: torch.device
) -> Iterator[Batch]:
    for batch, targets in zip(
        torch.split(images, _JUDGE_BATCH_IMAGES),
        torch.split(labels, _JUDGE_BATCH_IMAGES),
        strict=True,
    ):
        yield to_float(batch.to(device, copy=True)), targets.to(device)


def _judge_on(
    in_turn: Callable[[], Iterator[Batch]], preprocessing: Preprocessing, device: torch.device
) -> Judge:
    def judge(network: nn.Module) -> tuple[int, float]:
        network.eval()
        # Added up on the device, so that a GPU is waited for once and not at every batch.
        errors = torch.zeros((), dtype=torch.int64, device=device)
        loss = torch.zeros((), dtype=torch.float64, device=device)
        num_images = 0
        with torch.inference_mode():
            for images, targets in in_turn():
                logits = network(normalise_(images, preprocessing))
                errors += (logits.argmax(dim=1) != targets).sum()
                loss += functional.cross_entropy(logits, targets, reduction="sum")
                num_images += len(images)
        return int(errors), float(loss) / num_images

    return judge


def _measure(images: Float[torch.Tensor, "image 3 size size"]) -> Preprocessing:
    mean, std = images.mean(dim=(0, 2, 3)), images.std(dim=(0, 2, 3)).clamp_min(_SMALLEST_STD)
    return Preprocessing(size=images.shape[-1], mean=_rounded(mean), std=_rounded(std))


def _rounded(channels: Float[torch.Tensor, "3"]) -> tuple[float, float, float]:
    red, green, blue = (round(value, 4) for value in channels.tolist())
    return red, green, blue
