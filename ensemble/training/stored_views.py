"""Augmented views of training images, stored, so that an ensemble and a network that learns from it see the same."""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import UInt8
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from ensemble.files import write_atomic
from ensemble.images.index import ImageIndex
from ensemble.images.open import Decoder, decode_for
from ensemble.images.shard import BadImage, plan_shards
from ensemble.members.identity import fingerprint
from ensemble.members.settings import Preprocessing
from ensemble.training.augmentation import augment, change_colours
from ensemble.training.crops import centre_boxes, draw_boxes
from ensemble.training.recipe import RecipeConfig
from ensemble.training.soft_labels import BAD, CLASSES, VIEWS
from ensemble.training.training_images import to_float

# Images whose views are one file.
_FILE_IMAGES = 256


@dataclass(frozen=True)
class ViewPlan:
    """Which views are made of each image.

    Attributes:
        images: The images.
        recipe: Its `crop`, `augmentation` and `colour` are drawn anew for each view.
        preprocessing: How the network that learns will see an image; of it the size, the short side and the
            interpolation count.
        side: Side of a view, in pixels; as large as the largest input of all networks that see it.
        count: Number of views of each image.
        seed: Seed of what is drawn.
        is_drawn: Whether anything is drawn; if not, a view is what a network predicts, unchanged.
    """

    images: ImageIndex
    recipe: RecipeConfig
    preprocessing: Preprocessing
    side: int
    count: int
    seed: int
    is_drawn: bool = True

    @property
    def sha256(self) -> str:
        """Identity of the views."""
        drawn = self.recipe.model_dump(mode="json", include={"crop", "augmentation", "colour"})
        seen = self.preprocessing.model_dump(include={"size", "resize", "interpolation"})
        drawn_with = [drawn, self.seed] if self.is_drawn else None
        return fingerprint([1, self.images.sha256, drawn_with, seen, self.side, self.count])


def write_views(
    plan: ViewPlan, source: Decoder, folder: Path, class_names: Sequence[str]
) -> Iterator[int]:
    """Write the views of all images as Parquet files of lossless PNG; files that are there are left as they are.

    Args:
        plan: The views.
        source: Decodes the images.
        folder: Where they go; a folder of its own for each identity.
        class_names: Names of the classes.

    Yields:
        The number of images behind each file, once it is written.

    Raises:
        OSError: The folder cannot be written to.
    """
    write_atomic(folder / CLASSES, json.dumps(list(class_names)))
    label_by_id = dict(
        zip(plan.images.image_ids.tolist(), plan.images.labels.tolist(), strict=True)
    )
    for number, spec in enumerate(plan_shards(plan.images.image_ids.tolist(), _FILE_IMAGES)):
        path = folder / VIEWS / f"{number:06d}.parquet"
        if not path.exists():
            write_atomic(path, _make_file(plan, source, number, spec.image_ids, label_by_id))
        yield len(spec.image_ids)


def make_views(
    image: UInt8[np.ndarray, "height width 3"], plan: ViewPlan, generator: torch.Generator
) -> UInt8[torch.Tensor, "view 3 side side"]:
    """Cut every view out of an image; colours and places are changed later, a batch at a time.

    Args:
        image: A decoded image.
        plan: The views.
        generator: A generator on the CPU.
    """
    sides, crop = torch.tensor([image.shape[:2]]), plan.recipe.crop
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    views = []
    for _ in range(plan.count):
        if crop is None or not plan.is_drawn:
            box = centre_boxes(sides, plan.preprocessing)
        else:
            box = draw_boxes(sides, plan.preprocessing, crop, generator)
        top, left, height, width = box[0].tolist()
        view = pixels[:, top : top + height, left : left + width]
        if (height, width) != (plan.side, plan.side):
            how = InterpolationMode(plan.preprocessing.interpolation)
            view = transforms.resize(view, [plan.side, plan.side], how, antialias=True)
        views.append(view)
    return torch.stack(views)


def _make_file(
    plan: ViewPlan,
    source: Decoder,
    number: int,
    image_ids: Sequence[str],
    label_by_id: dict[str, int],
) -> bytes:
    """Make the views of some images; each file has a generator of its own, so that any file can be made alone."""
    generator = torch.Generator().manual_seed(int(fingerprint([plan.seed, number])[:12], 16))
    kept, cut, bad = list[str](), list[torch.Tensor](), list[BadImage]()
    for shard in decode_for(source, image_ids, plan.side):
        bad += shard.bad
        for image_id, image in zip(shard.image_ids.tolist(), shard.images(), strict=True):
            kept.append(image_id)
            cut.append(make_views(image, plan, generator))
    pixels = torch.cat(cut) if cut else torch.empty((0, 3, plan.side, plan.side), dtype=torch.uint8)
    if plan.is_drawn and len(pixels):
        pixels = _change(pixels, plan.recipe, generator)
    names = [f"{image_id}@{view}" for image_id in kept for view in range(plan.count)]
    labels = [label_by_id[image_id] for image_id in kept for _ in range(plan.count)]
    encoded = [_encode(view) for view in pixels.permute(0, 2, 3, 1).numpy()]
    reasons = [(one.image_id, one.reason) for one in bad]
    columns = {
        "id": pa.array(names, pa.string()),
        "label": pa.array(labels, pa.int32()),
        "image": pa.array(encoded, pa.binary()),
    }
    table = pa.table(columns).replace_schema_metadata({BAD: json.dumps(reasons)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="none")  # a PNG is compressed already
    return buffer.getvalue()


def _change(
    pixels: UInt8[torch.Tensor, "view 3 side side"],
    recipe: RecipeConfig,
    generator: torch.Generator,
) -> UInt8[torch.Tensor, "view 3 side side"]:
    images = to_float(pixels)
    if recipe.augmentation is not None:
        images = augment(images, recipe.augmentation, generator)
    if recipe.colour is not None:
        images = change_colours(images, recipe.colour, generator)
    return (images * 255).round_().clamp_(0, 255).to(torch.uint8)


def _encode(view: UInt8[np.ndarray, "side side 3"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(view).save(buffer, "PNG")
    return buffer.getvalue()
