"""Label embeddings: the rows of a member's last linear layer or 1x1 convolution.

Source: P2 §III-1. logits = W h + b; row k of W is the embedding of label k, and labels are compared
by cosine, because it is the inner product that makes a logit.
"""

import numpy as np
import safetensors
from jaxtyping import Float

from ensemble.errors import ConfigError
from ensemble.members.member import PROGRAMS, Member


def label_embeddings(member: Member) -> Float[np.ndarray, "class feature"]:
    """Read the label embeddings of a member from its checkpoint, without building the network.

    Raises:
        ConfigError: The checkpoint has no last linear layer, or the layer has not one row a class.
    """
    name = f"{member.head}.weight" if member.head else "weight"
    with safetensors.safe_open(member.checkpoint, framework="numpy") as file:
        if name not in file.keys():  # noqa: SIM118 - not a mapping
            raise ConfigError(
                f"{member.checkpoint} of {member.name!r} has no tensor {name!r}; expected the last "
                "linear layer. Choose a subclassifiers.base that ends in one."
            )
        rows: np.ndarray = file.get_tensor(name).astype(np.float64)
    if rows.ndim == 4 and rows.shape[2:] == (1, 1):
        rows = rows[:, :, 0, 0]
    if rows.ndim != 2 or len(rows) != len(member.classes):
        raise ConfigError(
            f"{name} of {member.name!r} has shape {rows.shape}; expected one row for each of "
            f"{len(member.classes)} classes. Choose another subclassifiers.base."
        )
    return rows


def why_no_base(member: Member) -> str:
    """Say why a member cannot be fine-tuned into sub-classifiers; empty if it can."""
    if member.architecture in PROGRAMS:
        return f"{member.name!r} is a program ({member.architecture}), which is not trained."
    try:
        label_embeddings(member)
    except ConfigError as error:
        return str(error)
    return ""


def cosine_similarity(
    embeddings: Float[np.ndarray, "class feature"],
) -> Float[np.ndarray, "class class"]:
    """Compute the cosine of every pair of label embeddings; symmetric, 1 on the diagonal."""
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = embeddings / np.where(norms > 0, norms, 1)
    similarity = np.clip(unit @ unit.T, -1, 1)
    similarity = (similarity + similarity.T) / 2
    np.fill_diagonal(similarity, 1.0)
    return similarity
