"""What is known of a member without its weights: architecture, preprocessing, and the file to fetch."""

import json
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from ensemble.checkpoints.header import read_metadata
from ensemble.checkpoints.load import check_trust
from ensemble.config import S3_SCHEME
from ensemble.errors import CheckpointError, ConfigError
from ensemble.members.settings import MemberConfig, Preprocessing, PreprocessingConfig
from ensemble.members.source_settings import (
    AnyStart,
    CheckpointSource,
    FactorySource,
    HubSource,
    ImportedSource,
    MemberSource,
    OnnxSource,
    Pt2Source,
    RecipeSource,
    TimmSource,
    TorchvisionSource,
    WeightsConfig,
)
from ensemble.pretrained.description import Description


def describe(config: MemberConfig, weights: WeightsConfig) -> Description:
    """Tell what is known of a member without its weights; only a hub's config.json is downloaded.

    Args:
        config: The member.
        weights: Where published files are looked for, and what is trusted.

    Raises:
        UnknownNameError: The library of the source does not know its name.
        CheckpointError: The source cannot be described, or is not trusted.
    """
    match config.source:
        case CheckpointSource(path=path) as source if path.startswith(S3_SCHEME):
            if source.architecture is None:
                raise CheckpointError(
                    f"the checkpoint {path} of member {config.name!r} is not on this machine, and only its "
                    "header says what it is. Set the source's `architecture`, or copy the file here."
                )
            check_trust(f"the source of {config.name!r}", source.architecture, weights.trust_code)
            return Description(source.architecture, file=path, sha256=source.sha256)
        case RecipeSource(start=None, architecture=str(architecture)):
            return Description(architecture)
        case RecipeSource() as source:
            return _describe_trained(config, source, weights)
        case TorchvisionSource() as source:
            from ensemble.pretrained import torchvision_weights

            return torchvision_weights.describe(source)
        case TimmSource() as source:
            from ensemble.pretrained import timm_weights

            return timm_weights.describe(source)
        case HubSource() as source:
            from ensemble.pretrained import timm_weights

            return timm_weights.describe_hub(source, weights)
        case CheckpointSource(architecture=None) as source:
            return _describe_own(config.name, source, weights)
        case FactorySource(function=function):
            architecture = f"factory/{function}"
            check_trust(f"the source of {config.name!r}", architecture, weights.trust_code)
            return Description(architecture)
        case CheckpointSource() | Pt2Source() | OnnxSource() as source:
            architecture = getattr(source, "architecture", None) or source.kind
            check_trust(f"the source of {config.name!r}", architecture, weights.trust_code)
            return Description(architecture, file=Path(source.path), sha256=source.sha256)
        case ImportedSource():
            raise CheckpointError(
                f"the predictions of {config.name!r} were imported: there is no network."
            )


def describe_start(
    name: str, source: AnyStart, preprocessing: PreprocessingConfig | None, weights: WeightsConfig
) -> Description:
    """Tell what is known of weights that a training starts from, with the preprocessing of the trained member.

    Args:
        name: Name of the member that is trained, for messages.
        source: Where the weights come from; not another member of the pool.
        preprocessing: What differs from the preprocessing that comes with the weights.
        weights: Where published files are looked for, and what is trusted.

    Raises:
        UnknownNameError: The library of the source does not know its name.
        CheckpointError: The source cannot be described, or is not trusted.
        ConfigError: A figure of the preprocessing is missing.
    """
    member = MemberConfig.model_construct(name=name, source=source, preprocessing=preprocessing)
    description = describe(member, weights)
    return replace(description, preprocessing=merge_preprocessing(member, description))


def _describe_trained(
    config: MemberConfig, source: RecipeSource, weights: WeightsConfig
) -> Description:
    """Describe a member that is trained from other weights: what comes with these, but their head."""
    if source.start is None or isinstance(source.start, MemberSource):
        if source.architecture is None:
            raise CheckpointError(
                f"the member {config.name!r} starts from another one of its pool, which says what it is; "
                "set architecture to describe it alone."
            )
        return Description(source.architecture)
    start = describe_start(config.name, source.start, config.preprocessing, weights)
    return replace(
        start,
        architecture=source.architecture or start.architecture,
        num_outputs=None,
        reference=None,
    )


def known_preprocessing(config: MemberConfig, description: Description) -> Preprocessing | None:
    """Merge the preprocessing as `merge_preprocessing`; none where a figure is missing."""
    try:
        return merge_preprocessing(config, description)
    except ConfigError:
        return None


def merge_preprocessing(config: MemberConfig, description: Description) -> Preprocessing:
    """Take the preprocessing that comes with the weights, with the member's own settings on top.

    Raises:
        ConfigError: A figure comes neither with the weights nor with the settings.
    """
    settings = config.preprocessing or PreprocessingConfig()
    published = description.preprocessing.model_dump() if description.preprocessing else {}
    # Null is a setting of resize: it means to stretch. So what is set counts, and not what is not null.
    merged = published | {name: getattr(settings, name) for name in settings.model_fields_set}
    try:
        return Preprocessing.model_validate(merged)
    except ValidationError as error:
        missing = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
        raise ConfigError(
            f"the preprocessing of {config.name!r} lacks {missing}: no such figure comes with its weights. "
            "Set preprocessing: {size: 224, resize: 256, mean: [...], std: [...], interpolation: bilinear}."
        ) from error


def _describe_own(name: str, source: CheckpointSource, weights: WeightsConfig) -> Description:
    try:
        metadata = read_metadata(Path(source.path))
        preprocessing = Preprocessing.model_validate_json(metadata["preprocessing"])
        num_outputs = len(json.loads(metadata["classes"]))
        architecture = metadata["architecture"]
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise CheckpointError(
            f"the checkpoint {source.path} of member {name!r} does not say what it is ({error!r}). "
            "Give a file that this project wrote."
        ) from error
    except CheckpointError as error:
        raise CheckpointError(
            f"{error} Weights from elsewhere need `architecture`, as timm/resnet50."
        ) from error
    check_trust(f"the checkpoint {source.path}", architecture, weights.trust_code)
    return Description(architecture, num_outputs, preprocessing, Path(source.path), source.sha256)
