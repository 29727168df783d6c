"""Where the weights of a member come from, in one line, and under which licence."""

from pathlib import PurePosixPath

from ensemble.members.settings import MemberConfig
from ensemble.members.source_settings import (
    CheckpointSource,
    FactorySource,
    HubSource,
    OnnxSource,
    Pt2Source,
    RecipeSource,
    TimmSource,
    TorchvisionSource,
)

UNKNOWN = "not known"


def describe_source(config: MemberConfig) -> str:
    """Name the origin of a member's weights in one line; of a file the name alone, without its folders."""
    match config.source:
        case RecipeSource(architecture=architecture, recipe=recipe, seed=seed):
            return f"trained here: {architecture}, recipe {recipe}, seed {seed}"
        case TorchvisionSource(name=name, weights=weights):
            return f"torchvision:{name}@{weights}"
        case TimmSource(name=name):
            return f"timm:{name}"
        case HubSource(repository=repository, revision=revision):
            return f"hf-hub:{repository}@{revision}"
        case FactorySource(function=function):
            return f"factory:{function}"
        case CheckpointSource(path=path) | Pt2Source(path=path) | OnnxSource(path=path):
            return f"{config.source.kind}:{PurePosixPath(str(path)).name}"
        case _:
            return config.source.kind


def licence_of(config: MemberConfig) -> str:
    """Name the licence of a member's weights, as far as the library that publishes them tells.

    Nothing is downloaded: of a file, and of a repository of the hub, the licence is not known here.
    """
    match config.source:
        case RecipeSource():
            return "that of the training images and of this project (Apache-2.0)"
        case TorchvisionSource():
            return "BSD-3-Clause (torchvision), and the terms of the data set that they were trained on"
        case TimmSource(name=name):
            # Here, because it takes seconds to import.
            import timm

            published = timm.models.get_pretrained_cfg(name)
            return (published and published.license) or UNKNOWN
        case _:
            return UNKNOWN
