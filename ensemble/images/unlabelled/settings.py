"""Settings of unlabelled images. No NumPy: a wrong setting is reported at once."""

from typing import Literal

from pydantic import PositiveInt

from ensemble.config import Config, Place
from ensemble.images.settings import FolderConfig
from ensemble.storage.settings import S3Config

Form = Literal["folder", "list", "parquet", "webdataset"]

_MAX_PIXELS: int = FolderConfig.model_fields["max_pixels"].default


class UnlabelledConfig(Config):
    """Images without labels."""

    kind: Literal["unlabelled"] = "unlabelled"
    path: Place
    """Path of a folder, a list, a .parquet or a .tar file, or of a folder of these; or s3://bucket/prefix."""
    form: Form | None = None
    """Form of the images; told by the path if not set: `folder` of image files, anywhere below it; `list`, a text
    file with the path or s3://bucket/key of an image on each line; `parquet`, encoded images in a column;
    `webdataset`, image files in .tar files."""
    image: str = "image"
    """Column of Parquet files with the encoded image, or with a struct whose field `bytes` holds it."""
    id: str | None = None
    """Column of Parquet files with an id of the image; the name of the file and the number of the row if not set."""
    storage: S3Config = S3Config()
    """How S3 is reached."""
    max_pixels: PositiveInt = _MAX_PIXELS
    """Largest number of pixels that is decoded; an image whose header says more is answered with an error."""
