"""A member from the header of its checkpoint, and its network, if its code is trusted and its bytes are its own."""

import json
from pathlib import Path

from pydantic import ValidationError
from torch import nn

from ensemble.checkpoints import file as checkpoint
from ensemble.checkpoints.header import read_metadata
from ensemble.errors import CheckpointError
from ensemble.files import sha256_of
from ensemble.members.member import Member
from ensemble.members.settings import Preprocessing
from ensemble.views.settings import Views

# Architectures that run code which came with them; see `WeightsConfig.trust_code`.
CODE = ("factory", "pt2")


def load_member(
    name: str,
    checkpoint: Path,
    views: Views,
    data_sha256: str,
    *,
    trust_code: bool = False,
) -> Member:
    """Make a member from the header of its checkpoint; the weights are not loaded.

    Raises:
        CheckpointError: The file is missing, damaged, lacks what a member needs, or would run code
            that is not trusted.
    """
    metadata = read_metadata(checkpoint)
    check_trust(f"the checkpoint {checkpoint}", metadata.get("architecture", ""), trust_code)
    try:
        return Member(
            name=name,
            architecture=metadata["architecture"],
            classes=tuple(json.loads(metadata["classes"])),
            checkpoint=checkpoint,
            weights_sha256=sha256_of(checkpoint),
            head=metadata["head"],
            parameters=int(metadata["parameters"]),
            preprocessing=Preprocessing.model_validate_json(metadata["preprocessing"]),
            views=views,
            data_sha256=data_sha256,
            seed=int(metadata["seed"]) if "seed" in metadata else None,
        )
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise CheckpointError(
            f"the checkpoint {checkpoint} of member {name!r} does not say what it is ({error!r}). "
            "Give a file that this project's training wrote."
        ) from error


def check_trust(what: str, architecture: str, trust_code: bool) -> None:
    """Refuse an architecture that runs code of its own, unless code is trusted.

    Raises:
        CheckpointError: The architecture runs code of its own, and `trust_code` is false.
    """
    if architecture.partition("/")[0] in CODE and not trust_code:
        raise CheckpointError(
            f"{what} runs code of its own ({architecture}), which is refused unless it is trusted. If "
            "you know who wrote it, set weights.trust_code=true; else give a .safetensors or .onnx."
        )


def load_network(member: Member) -> nn.Module:
    """Load a member's network with its weights, in evaluation mode.

    Raises:
        CheckpointError: The weights cannot be loaded, or their SHA-256 is not that of the member.
    """
    try:
        digest = sha256_of(member.checkpoint)
    except OSError as error:
        raise CheckpointError(
            f"cannot read {member.checkpoint} ({error.strerror}). Every machine must see the folder "
            "that `runs` names."
        ) from error
    if digest != member.weights_sha256:
        raise CheckpointError(
            f"{member.checkpoint} of member {member.name!r} has sha256 {digest[:16]}…, expected "
            f"{member.weights_sha256[:16]}…. It was replaced or damaged since the run began: run again."
        )
    return checkpoint.load_network(member.checkpoint, member.architecture, len(member.classes))
