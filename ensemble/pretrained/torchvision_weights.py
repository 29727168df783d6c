"""Weights that torchvision publishes, with their preprocessing and their published error."""

import re
from typing import Any

from torchvision import models

from ensemble.errors import UnknownNameError
from ensemble.members.settings import Preprocessing, Reference
from ensemble.members.source_settings import TorchvisionSource
from ensemble.models.libraries import WITH_AUXILIARY_HEADS
from ensemble.pretrained.description import Description
from ensemble.pretrained.published_file import PublishedFile

# torchvision puts the first digits of a file's SHA-256 into its name.
_DIGEST = re.compile(r"-([0-9a-f]{8,})\.")
# What `transform_input` does to an input that was normalised as the others are: these, in its place.
_HALF = (0.5, 0.5, 0.5)


def describe(source: TorchvisionSource) -> Description:
    """Describe weights that torchvision publishes.

    Raises:
        UnknownNameError: torchvision has no such architecture or weights.
    """
    names = models.list_models(module=models)
    if source.name not in names:
        raise UnknownNameError.of("torchvision architecture", source.name, names)
    known = models.get_model_weights(source.name)
    if source.weights not in known.__members__:
        raise UnknownNameError.of(f"weights of {source.name}", source.weights, known.__members__)
    weights = known[source.weights]
    name = weights.url.rsplit("/", 1)[-1]
    digest = _DIGEST.search(name)
    return Description(
        architecture=f"torchvision/{source.name}",
        num_outputs=len(weights.meta["categories"]),
        preprocessing=_preprocessing(source.name, weights.transforms()),
        file=PublishedFile(
            name, weights.url, sha256=source.sha256 or (digest[1] if digest else None)
        ),
        reference=_reference(weights.meta),
    )


def _preprocessing(name: str, preset: Any) -> Preprocessing:
    # GoogLeNet's and Inception's weights want inputs in [-1, 1]. torchvision normalises them like
    # all others and undoes that inside the network. Here networks do not undo it, so that these two
    # are normalised by their own mean and std.
    has_own = name in WITH_AUXILIARY_HEADS
    return Preprocessing(
        size=preset.crop_size[0],
        resize=preset.resize_size[0],
        mean=_HALF if has_own else tuple(preset.mean),
        std=_HALF if has_own else tuple(preset.std),
        interpolation=preset.interpolation.value,
    )


def _reference(meta: dict[str, Any]) -> Reference | None:
    accuracy = meta.get("_metrics", {}).get("ImageNet-1K")
    if not accuracy:
        return None
    return Reference(
        top1_error=round(100 - accuracy["acc@1"], 3), top5_error=round(100 - accuracy["acc@5"], 3)
    )
