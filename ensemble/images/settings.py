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
    """The folder, or s3://bucket/prefix."""
    storage: S3Config | None = None
    """How a prefix of S3 is reached, where it is not as the run's `storage` says; changes no result."""
    max_pixels: PositiveInt = 50_000_000
    """An image whose header says more is not decoded: a forged 99 KB file can ask for 12 GB."""


class ParquetConfig(Config):
    """Parquet files with an encoded image (JPEG, PNG, WebP, …) and its label in each row."""

    kind: Literal["parquet"] = "parquet"
    path: AbsolutePath | tuple[AbsolutePath, ...]
    """A file, a folder of .parquet files, or a list of them."""
    image: str = "image"
    """Column with the encoded bytes; a dot reaches into a struct, as image.bytes."""
    label: str = "label"
    """Column with the class index."""
    id: str | None = None
    """Column with a unique name; the file's name and the row if not set."""
    classes: AbsolutePath | None = None
    """Class names: a line each, or a JSON list; the indices up to the largest label if not set."""
    max_pixels: PositiveInt = 50_000_000
    """An image whose header says more is not decoded."""


class CifarConfig(Config):
    """CIFAR-10 or CIFAR-100 in the files that torchvision downloads: ids are train/000000 and test/000000."""

    kind: Literal["cifar10", "cifar100"]
    path: AbsolutePath
    """torchvision's root: the folder that has cifar-10-batches-py or cifar-100-python in it."""
    download: bool = False
    """Fetch the files from their author's site if they are not there, as torchvision does; changes no result."""


class ListedConfig(Config):
    """A list of image ids and labels without images, as `ensemble table import` writes it."""

    kind: Literal["listed"] = "listed"
    path: Place
    """The JSON file, or s3://bucket/key."""
    storage: S3Config | None = None
    """How a key of S3 is reached, where it is not as the run's `storage` says; changes no result."""


SourceConfig = Annotated[
    DigitsConfig | FolderConfig | ParquetConfig | CifarConfig | ListedConfig,
    Field(discriminator="kind"),
]


def reached_by(source: SourceConfig, storage: S3Config) -> SourceConfig:
    """A source that says how it is reached: as it says itself, or else so."""
    if isinstance(source, FolderConfig | ListedConfig) and source.storage is None:
        return source.model_copy(update={"storage": storage})
    return source


class SplitConfig(Config):
    """How many images each split gets, stratified by class; what is left over is not used."""

    train: NonNegativeInt = 300
    """Images that members and sub-classifiers are trained on; 0 where nothing is trained."""
    search: PositiveInt = 600
    """Images that weights, label clusters and thresholds are chosen on."""
    test: PositiveInt | None = None
    """Images that figures are reported on, and nothing is fitted on; all that are left if not set."""
    test_from: str | None = None
    """How the ids of a source's own test images begin, as test/: the test split is drawn from them alone, and
    train and search from the others. If not set, every split is drawn from all images."""
    every_class: bool = True
    """Refuse a split that lacks a class; set it to false where classes have too few images for that."""
