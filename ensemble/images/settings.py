"""Settings of image sources and splits. No NumPy: a wrong setting is reported at once."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from ensemble.config import AbsolutePath, Config, Place
from ensemble.storage.settings import S3Config


class DigitsConfig(Config):
    """Handwritten digits that ship in scikit-learn: 1,797 images, 8x8, 10 classes."""

    kind: Literal["digits"] = "digits"


class FolderConfig(Config):
    """A folder with one sub-folder of image files per class (the layout of torchvision's ImageFolder)."""

    kind: Literal["folder"] = "folder"
    path: Place
    """Path of the folder, or s3://bucket/prefix."""
    storage: S3Config | None = None
    """How a prefix of S3 is reached; the run's `storage` if not set. Changes no result."""
    max_pixels: PositiveInt = 50_000_000
    """Largest number of pixels that is decoded; an image whose header says more counts as bad, because a forged
    file of 99 KB can ask for 12 GB of memory."""


class ParquetConfig(Config):
    """Parquet files with an encoded image (JPEG, PNG, WebP, …) and its label in each row."""

    kind: Literal["parquet"] = "parquet"
    path: AbsolutePath | tuple[AbsolutePath, ...]
    """Path of a .parquet file, of a folder of them, or a list of such paths."""
    image: str = "image"
    """Column with the encoded bytes of the image; a dot names a field of a struct, as in image.bytes."""
    label: str = "label"
    """Column with the class index of the image, counted from 0."""
    id: str | None = None
    """Column with a unique id of the image; the name of the file and the number of the row if not set."""
    classes: AbsolutePath | None = None
    """File of class names, one on each line or a JSON list; classes are named by their index if not set."""
    max_pixels: PositiveInt = 50_000_000
    """Largest number of pixels that is decoded; an image whose header says more counts as bad."""


class CifarConfig(Config):
    """CIFAR-10 or CIFAR-100 in the files that torchvision downloads; ids are train/000000 and test/000000 onwards."""

    kind: Literal["cifar10", "cifar100"]
    path: AbsolutePath
    """Folder that holds cifar-10-batches-py or cifar-100-python, which torchvision calls root."""
    download: bool = False
    """Download the files from their author's site where they are missing, as torchvision does. Changes no result."""


class ListedConfig(Config):
    """A list of image ids and labels without the images, as `ensemble table import` writes it."""

    kind: Literal["listed"] = "listed"
    path: Place
    """Path of the JSON file, or s3://bucket/key."""
    storage: S3Config | None = None
    """How a key of S3 is reached; the run's `storage` if not set. Changes no result."""


SourceConfig = Annotated[
    DigitsConfig | FolderConfig | ParquetConfig | CifarConfig | ListedConfig,
    Field(discriminator="kind"),
]


def with_storage(source: SourceConfig, storage: S3Config) -> SourceConfig:
    """Return a source of images with the way to reach it; its own `storage`, where it is set, stays."""
    if isinstance(source, FolderConfig | ListedConfig) and source.storage is None:
        return source.model_copy(update={"storage": storage})
    return source


class SplitConfig(Config):
    """How many images each split gets, stratified by class; what is left over is not used."""

    train: NonNegativeInt = 300
    """Number of images that members and sub-classifiers are trained on; 0 where nothing is trained."""
    search: PositiveInt = 600
    """Number of images that weights, label clusters and thresholds are chosen on."""
    test: PositiveInt | None = None
    """Number of images that results are reported on and nothing is fitted on; all that are left if not set."""
    test_from: str | None = None
    """Prefix of the ids of the source's own test images, as test/. The test split is drawn from these images alone,
    and the train and search splits from the others; if not set, every split is drawn from all images."""
    every_class: bool = True
    """Refuse a split without any image of a class; set false where classes have too few images for that."""
