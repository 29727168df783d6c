"""Soft labels: stored views of the training images with the probabilities that an ensemble gave each of them.

Source: Beyer et al. 2022 (A good teacher is patient and consistent): a network that learns from another must see the
same crop. Shen and Xing 2021 (arXiv 2112.01528): several views are answered once and stored.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from jaxtyping import Float16, Int64, UInt8
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from ensemble.errors import ConfigError, DataError
from ensemble.files import make_folder, partial_file, publish, seal, unseal, write_atomic
from ensemble.inference.staging import to_device
from ensemble.members.identity import fingerprint
from ensemble.members.settings import Preprocessing
from ensemble.training.recipe import SoftLabelsConfig
from ensemble.training.training_images import Batch

ABOUT, CLASSES, VIEWS, ANSWERS = "views.json", "classes.json", "views", "answers.npy"
"""What is in a folder of soft labels: its identity, names of classes, Parquet files, and probabilities."""

BAD = "bad"
"""Key, in the schema of a file of views, of the images that could not be decoded."""


@dataclass(frozen=True)
class SoftLabels:
    """The content of a folder of soft labels.

    Attributes:
        folder: The folder.
        sha256: Identity of the soft labels.
        count: Number of views of each image.
        bad: Images that could not be decoded, with the reason.
        answers: Probabilities of each view; views of one image follow each other.
    """

    folder: Path
    sha256: str
    count: int
    bad: tuple[tuple[str, str], ...]
    answers: Float16[np.ndarray, "view class"]


def soft_labels_sha256(views_sha256: str, teacher: str) -> str:
    """Identity of soft labels: of the views, and of who answered them.

    Args:
        views_sha256: Identity of the views.
        teacher: Identity of the ensemble.
    """
    return fingerprint([views_sha256, teacher])


def seal_folder(folder: Path, sha256: str, count: int) -> None:
    """Record that a folder has all views and answers.

    Args:
        folder: The folder.
        sha256: Identity of the soft labels.
        count: Number of views of each image.
    """
    bad = [
        one
        for path in sorted((folder / VIEWS).glob("*.parquet"))
        for one in json.loads(pq.read_schema(path).metadata[BAD.encode()])
    ]
    about = {"schema_version": 1, "sha256_of_soft_labels": sha256, "count": count, "bad": bad}
    write_atomic(folder / ABOUT, json.dumps(seal(about), indent=2) + "\n")


def open_soft_labels(config: SoftLabelsConfig, num_classes: int) -> SoftLabels:
    """Open a folder of soft labels; probabilities stay on disk until they are read.

    Args:
        config: The folder, and what it should hold.
        num_classes: Number of outputs of the network that is trained.

    Raises:
        ConfigError: The folder is not there, holds something else, or other classes.
    """
    try:
        about = unseal(json.loads((config.path / ABOUT).read_text()))
        answers = np.load(config.path / ANSWERS, mmap_mode="r")
        count, bad = int(str(about["count"])), about["bad"]
        is_ours = about.get("sha256_of_soft_labels") == config.sha256
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"soft_labels.path={str(config.path)!r} is no folder of soft labels ({error}). Expected one that "
            "`ensemble distil` made; the same command makes it again."
        ) from error
    if not is_ours or answers.ndim != 2:
        raise ConfigError(
            f"soft_labels.path={str(config.path)!r} holds other soft labels than soft_labels.sha256="
            f"{config.sha256[:16]}… names. `ensemble distil` prints the path that belongs to it."
        )
    if answers.shape[1] != num_classes:
        raise ConfigError(
            f"the soft labels in {str(config.path)!r} are of {answers.shape[1]} classes, and the network has "
            f"{num_classes}. Use this recipe for members over all classes."
        )
    assert isinstance(bad, list)
    return SoftLabels(
        config.path, config.sha256, count, tuple((str(i), str(r)) for i, r in bad), answers
    )


class SoftLabelledImages:
    """Views with their soft labels, drawn batch after batch: of each image one view an epoch.

    Args:
        pixels: Pixels of all views from 0 to 255, which may lie in a file; views of one image follow each other.
        answers: Probabilities of each view, which may lie in a file.
        count: Number of views of each image.
        device: Device that batches are drawn for.
    """

    def __init__(
        self,
        pixels: UInt8[np.ndarray, "view 3 size size"],
        answers: Float16[np.ndarray, "view class"],
        count: int,
        device: torch.device,
    ) -> None:
        self._pixels, self._answers = pixels, answers
        self._count, self._device = count, device

    def __len__(self) -> int:
        return len(self._pixels) // self._count

    def num_steps(self, batch_size: int) -> int:
        """Return the number of batches in an epoch; a last batch of one image, without a variance, is left out."""
        return len(self) // batch_size + (len(self) % batch_size > 1)

    def batches(
        self,
        batch_size: int,
        generator: torch.Generator,
        first_step: int = 0,
        order_generator: torch.Generator | None = None,
    ) -> Iterator[Batch]:
        """Draw an order of all images and a view of each, and yield batch after batch on the device.

        Args:
            batch_size: Number of images in each batch but the last.
            generator: A generator on the CPU.
            first_step: Number of batches that are left out at the beginning.
            order_generator: Generator of the order alone; `generator` draws it too if None.
        """
        order = torch.randperm(len(self), generator=order_generator or generator)
        views = torch.randint(self._count, (len(self),), generator=generator)
        rows = order * self._count + views
        for step in range(first_step, self.num_steps(batch_size)):
            yield self._take(rows[step * batch_size : (step + 1) * batch_size])

    def sample(self, num_images: int) -> Iterator[Batch]:
        """Yield the first view of some images, evenly spaced."""
        count = min(num_images, len(self))
        rows = torch.linspace(0, len(self) - 1, count).round().long() * self._count
        yield self._take(rows)

    def _take(self, rows: Int64[torch.Tensor, " batch"]) -> Batch:
        pixels = torch.from_numpy(np.asarray(self._pixels[rows.numpy()]))
        answers = torch.from_numpy(np.asarray(self._answers[rows.numpy()])).float()
        answers /= answers.sum(dim=1, keepdim=True)  # 16 bits add up to 1 within a thousandth
        return to_device(pixels, self._device), to_device(answers, self._device)


def open_images(
    labels: SoftLabels, preprocessing: Preprocessing, cache: Path, device: torch.device
) -> SoftLabelledImages:
    """Open the views for a network; pixels at the size of its input are kept in a file, which is read as it is needed.

    Args:
        labels: The folder.
        preprocessing: Size and interpolation of the input.
        cache: Folder of the file.
        device: Device that batches are drawn for.

    Raises:
        DataError: The views are damaged, or not as many as there are answers.
    """
    name = f"{labels.sha256[:16]}-{preprocessing.size}-{preprocessing.interpolation}.npy"
    path = cache / name
    shape = (len(labels.answers), 3, preprocessing.size, preprocessing.size)
    if not path.exists():
        make_folder(cache)
        with partial_file(cache) as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": shape}
            )
            for view in _views(labels.folder, preprocessing, shape[0]):
                file.write(view.tobytes())
            publish(file, path, is_synced=False)
    return SoftLabelledImages(np.load(path, mmap_mode="r"), labels.answers, labels.count, device)


def _views(
    folder: Path, preprocessing: Preprocessing, count: int
) -> Iterator[UInt8[np.ndarray, "3 size size"]]:
    """Decode all views, in the order of their answers."""
    size, how = preprocessing.size, InterpolationMode(preprocessing.interpolation)
    rows = 0
    for path in sorted((folder / VIEWS).glob("*.parquet")):
        try:
            encoded = pq.read_table(path, columns=["image"])["image"].to_pylist()
            decoded = [np.array(Image.open(io.BytesIO(one)).convert("RGB")) for one in encoded]
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path} is damaged ({error}). Remove it; the same `ensemble distil` makes it again."
            ) from error
        for image in decoded:
            pixels = torch.from_numpy(image).permute(2, 0, 1)
            if pixels.shape[1:] != (size, size):
                pixels = transforms.resize(pixels, [size, size], how, antialias=True)
            rows += 1
            yield pixels.numpy()
    if rows != count:
        raise DataError(
            f"there are {rows} views in {folder / VIEWS}, and {count} answers. Remove {folder}; the same "
            "`ensemble distil` makes it again."
        )
