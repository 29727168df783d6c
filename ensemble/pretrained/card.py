"""The card of a member: its size, cost, input, views and published error, without its weights."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from ensemble.checkpoints import programs
from ensemble.errors import ConfigError
from ensemble.members.settings import MemberConfig, Preprocessing, Reference
from ensemble.members.source_settings import WeightsConfig
from ensemble.models import registry as models
from ensemble.models.libraries import at_size, call_factory
from ensemble.pretrained.describe_member import describe, known_preprocessing
from ensemble.pretrained.description import Description
from ensemble.pretrained.published_file import PublishedFile
from ensemble.views.policies import REFERENCE_SIZE, list_views
from ensemble.views.settings import CenterView


@dataclass(frozen=True)
class Card:
    """The card of one member of a pool.

    Attributes:
        name: Name of the member in the pool.
        architecture: Architecture, as `Member.architecture`.
        parameters: Number of parameters; none if only the file tells, and it is not here.
        gflops: 10^9 floating-point operations of one pass at the input's size; a multiply-add is
            two. None where they cannot be counted: in programs, and where the input is unknown.
        preprocessing: Preprocessing from pixels to input; none if it is not known.
        views: Kind of the test-time views.
        passes: Number of forward passes for an image.
        reference: Published error, from the pool or else from the library.
        file: File of the weights: a path, or the name to give it in a mirror; none if no file is
            needed.
        is_present: Whether the file is on this machine.
        sha256: SHA-256 that the file must have, or its first digits, from the pool or the file's name;
            none if any file is accepted.
    """

    name: str
    architecture: str
    parameters: int | None
    gflops: float | None
    preprocessing: Preprocessing | None
    views: str
    passes: int
    reference: Reference | None
    file: str | None
    is_present: bool
    sha256: str | None


def card(config: MemberConfig, weights: WeightsConfig, num_classes: int = 1000) -> Card:
    """Describe a member; networks are built without memory for their weights.

    Args:
        config: The member.
        weights: Where the file is looked for; nothing but a hub's config.json is downloaded.
        num_classes: Number of outputs to assume where only the data or the file would tell.

    Raises:
        UnknownNameError: The library of the source does not know its name.
        CheckpointError: The factory cannot be called, or is not trusted.
        ConfigError: The input is too small for the network.
    """
    description = describe(config, weights)
    preprocessing = known_preprocessing(config, description)
    if preprocessing is not None:
        architecture = at_size(description.architecture, preprocessing.size)
        description = replace(description, architecture=architecture)
    views = config.views or CenterView()
    try:
        parameters, gflops = _measure(description, preprocessing, num_classes)
    except RuntimeError as error:  # torch's, of a convolution that is larger than its input
        raise ConfigError(
            f"the network of {config.name!r} takes no image of {preprocessing and preprocessing.size} "
            f"pixels: {str(error).splitlines()[0]}. Set preprocessing.size to the size it was trained at."
        ) from error
    return Card(
        name=config.name,
        architecture=description.architecture,
        parameters=parameters,
        gflops=gflops,
        preprocessing=preprocessing,
        views=views.kind,
        passes=len(list_views(views, preprocessing.size if preprocessing else REFERENCE_SIZE)),
        reference=config.reference or description.reference,
        file=_name(description),
        is_present=description.is_present(weights),
        sha256=description.pinned,
    )


def _name(description: Description) -> str | None:
    file = description.file
    return file.name if isinstance(file, PublishedFile) else str(file) if file else None


def _measure(
    description: Description, preprocessing: Preprocessing | None, num_classes: int
) -> tuple[int | None, float | None]:
    library, _, name = description.architecture.partition("/")
    if library in programs.KINDS:
        return _count_program(description), None
    if library == "factory":
        network = call_factory(name).to("meta")
    else:
        with torch.device("meta"):
            network = models.build(description.architecture, description.num_outputs or num_classes)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if preprocessing is None:
        return parameters, None
    size = preprocessing.size
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network.eval()(torch.empty(1, 3, size, size, device="meta"))
    return parameters, counter.get_total_flops() / 1e9


def _count_program(description: Description) -> int | None:
    if not isinstance(description.file, Path) or not description.file.is_file():
        return None
    return programs.open_program(
        description.architecture, description.file.read_bytes()
    ).num_parameters
