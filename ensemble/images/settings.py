"""Settings of image sources and splits. No NumPy: a wrong setting is reported at once."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveInt,
    model_serializer,
    model_validator,
)

from ensemble.config import S3_SCHEME, AbsolutePath, Config, Place
from ensemble.storage.settings import S3Config


class DigitsConfig(Config):
    """Handwritten digits that ship in scikit-learn: 1,797 images, 8x8, 10 classes."""

    kind: Literal["digits"] = "digits"
    only: Annotated[tuple[Annotated[int, Field(ge=0, le=9)], ...], Field(min_length=2)] | None = (
        None
    )
    """Digits that are taken, as [0, 1, 2, 3, 4]; all ten if not set."""

    @model_serializer(mode="wrap")
    def _leave_out_what_is_not_set(self, dump: Callable[..., dict[str, Any]]) -> dict[str, Any]:
        # Settings that came later are left out, so that earlier runs keep their identity.
        return {key: value for key, value in dump(self).items() if value is not None}


class LabelsConfig(Config):
    """A table of labels: a row for each image, separated by commas, semicolons or tabs, below a line of names."""

    path: Place
    """Path of the table, or s3://bucket/key."""
    file: str = "file"
    """Column with the path of the image below the folder; its suffix may be left out."""
    label: str = "label"
    """Column with the name of the class, or a number for it."""
    split: str | None = None
    """Column that says train, val or test; if not set, images are divided by `images.split`."""


class FolderConfig(Config):
    """A folder of image files, each in a sub-folder of its class, which may lie in train, val and test folders."""

    kind: Literal["folder"] = "folder"
    path: Place
    """Path of the folder, or s3://bucket/prefix. Links are followed; hidden files and leftovers of other systems, as
    Thumbs.db, are left aside. The orientation in EXIF is not applied, as in torchvision's ImageFolder."""
    test: Place | None = None
    """Folder with the test images, laid out by class as `path` is; `path` then holds the others."""
    labels: LabelsConfig | None = None
    """Table of labels; if not set, an image belongs to the class that its folder is named after."""
    storage: S3Config | None = None
    """How a prefix of S3 is reached; the run's `storage` if not set. Changes no result."""
    max_pixels: PositiveInt = 50_000_000
    """Largest number of pixels that is decoded; an image whose header says more counts as bad, because a forged
    file of 99 KB can ask for 12 GB of memory."""

    @model_validator(mode="after")
    def _check_places(self) -> "FolderConfig":
        if self.test is None:
            return self
        if self.labels is not None:
            raise ValueError(
                "test: a folder by class, and labels: a table of classes, do not go together. Put the test "
                "images into the table, with a column that labels.split names."
            )
        if self.test.startswith(S3_SCHEME) != self.path.startswith(S3_SCHEME):
            raise ValueError(
                f"test: {self.test!r} and path: {self.path!r} must both be folders here, or both s3://."
            )
        return self


class ParquetConfig(Config):
    """Parquet files with an encoded image (JPEG, PNG, WebP, …) and its label in each row."""

    kind: Literal["parquet"] = "parquet"
    path: AbsolutePath | tuple[AbsolutePath, ...]
    """Path of a .parquet file, of a folder of them, or a list of such paths."""
    image: str = "image"
    """Column with the encoded bytes of the image, or with a struct whose field `bytes` holds them; a dot names a
    field of a struct, as in picture.content."""
    label: str = "label"
    """Column with the class of the image: its index, counted from 0, or its name."""
    id: str | None = None
    """Column with a unique id of the image; the name of the file and the number of the row if not set."""
    classes: AbsolutePath | None = None
    """File of class names, one on each line or a JSON list; if not set, the names that the Hugging Face library
    writes into its files, or else the classes' indexes."""
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


def describe_source(source: SourceConfig) -> str:
    """Name a source of images in words: its kind, and where it lies."""
    match source:
        case DigitsConfig(only=None):
            return "handwritten digits of scikit-learn"
        case DigitsConfig(only=only):
            return f"handwritten digits {', '.join(map(str, only or ()))} of scikit-learn"
        case FolderConfig(test=str(test)):
            return f"folders {source.path} and, for the test split, {test}"
        case FolderConfig():
            return f"folder {source.path}"
        case ParquetConfig():
            paths = (source.path,) if isinstance(source.path, Path) else source.path
            return f"Parquet {', '.join(map(str, paths))}"
        case CifarConfig():
            return f"{source.kind.upper().replace('CIFAR', 'CIFAR-')} in {source.path}"
        case ListedConfig():
            return f"imported list {source.path}"
    raise TypeError(f"{source!r} is no source of images.")


def with_storage(source: SourceConfig, storage: S3Config) -> SourceConfig:
    """Return a source of images with the way to reach it; its own `storage`, where it is set, stays."""
    if isinstance(source, FolderConfig | ListedConfig) and source.storage is None:
        return source.model_copy(update={"storage": storage})
    return source


def in_first_form(images: dict[str, Any]) -> dict[str, Any]:
    """Write the settings of images as runs did that knew fewer of them, so that equal ones keep their identity.

    Args:
        images: `source` and `split`, as plain values.
    """
    source = {k: v for k, v in images["source"].items() if not (k in _LATER and v is None)}
    split = dict(images["split"])
    for name, default in (("train", DEFAULT_TRAIN), ("search", DEFAULT_SEARCH)):
        if split[name] is None:
            split[name] = default
    return images | {"source": source, "split": split}


# Settings of a source that came later.
_LATER = {"labels", "test"}

# Numbers of images in a split where the settings say none, and the source has no parts of its own.
DEFAULT_TRAIN, DEFAULT_SEARCH = 300, 600


class SplitConfig(Config):
    """How many images each split gets, stratified by class; what is left over is not used."""

    train: NonNegativeInt | None = None
    """Number of images that members and sub-classifiers are trained on; 0 where nothing is trained. If not set, 300,
    or every image of the source's own train folder."""
    search: PositiveInt | None = None
    """Number of images that weights, label clusters and thresholds are chosen on. If not set, 600, or every image of
    the source's own val folder. Half of the val or test folder, where there is only one of them; a fifth of the
    images beside `images.source.test`."""
    test: PositiveInt | None = None
    """Number of images that results are reported on and nothing is fitted on; all that are left if not set."""
    test_from: str | None = None
    """Prefix of the ids of the source's own test images, as test/. The test split is drawn from these images alone,
    and the train and search splits from the others; if not set, every split is drawn from all images, or from the
    source's own folder for it."""
    every_class: bool = True
    """Refuse a split without any image of a class; set false where classes have too few images for that."""
