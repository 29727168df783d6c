"""Settings of the sub-classifiers. No torch."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from ensemble.config import Config
from ensemble.training.recipe import AugmentationConfig, RecipeConfig, SgdConfig

GateKind = Literal["entropy", "normalised_entropy", "margin", "logistic"]
RoutingKind = Literal["hard", "top2", "soft"]
Clustering = Literal["spectral", "agglomerative", "kmeans"]
Similarity = Literal["base", "members", "confusion"]

PAPER_FINE_TUNING = RecipeConfig(
    input_size=32,
    epochs=15,
    batch_size=128,
    optimizer=SgdConfig(lr=0.01),
    # Four pixels of 32 each way, by whole pixels, and mirrored: random crop and horizontal flip.
    augmentation=AugmentationConfig(
        max_shift=0.125,
        max_rotation_degrees=0.0,
        min_scale=1.0,
        max_scale=1.0,
        flip_probability=0.5,
    ),
)
"""How P2 fine-tunes (§IV-1, §IV-3). It gives no learning rate: a fifth of the usual peak is ours."""


class SubclassifiersConfig(Config):
    """Label clusters, the fine-tuning of one network for each, and the gate before them."""

    num_clusters: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (
        2,
        3,
        4,
    )
    """Numbers of label clusters (S) to try; cross-validation on the search split chooses one."""
    base: str | None = None
    """A member that answers first and is fine-tuned; if not set, the ensemble answers first and its best
    member is fine-tuned."""
    similarity: Similarity = "base"
    """What makes labels alike: cosine of the base's label embeddings, its mean over all members, or how
    often the base takes one for the other on the search split."""
    clustering: Clustering = "spectral"
    """How labels are put together; spectral is the paper's."""
    min_cluster_size: PositiveInt = 1
    """Label clusters of fewer classes join the one that is most like them."""
    max_cluster_size: PositiveInt | None = None
    """Label clusters of more classes are cut; at least twice the minimum."""
    recipe: str | None = None
    """A name of the config's `recipes`; the paper's fine-tuning if not set: random crop and flip, 15 epochs."""
    patience: PositiveInt | None = 3
    """Epochs without a gain on half of the search images after which fine-tuning ends; the best epoch stays.
    Null trains to the end, and keeps all search images for choosing the gate."""
    control: bool = False
    """Also train the base on by the same recipe on all classes, and set it beside the sub-classifiers: how much
    of their gain is due to more training alone. Takes as long as all sub-classifiers of one number of clusters."""
    gates: Annotated[tuple[GateKind, ...], Field(min_length=1)] = (
        "entropy",
        "normalised_entropy",
        "margin",
        "logistic",
    )
    """Gates to try. The paper's is entropy; normalised_entropy looks inside the likeliest label cluster."""
    routings: Annotated[tuple[RoutingKind, ...], Field(min_length=1)] = ("hard", "top2", "soft")
    """Routings to try: the likeliest label cluster (the paper's), the two likeliest, or all."""

    @model_validator(mode="after")
    def _sizes_leave_room(self) -> "SubclassifiersConfig":
        largest = self.max_cluster_size
        if largest is not None and largest < 2 * self.min_cluster_size:
            raise ValueError(
                f"max_cluster_size={largest} with min_cluster_size={self.min_cluster_size}: a label "
                f"cluster that is cut in two would be too small. Set max_cluster_size to "
                f"{2 * self.min_cluster_size} or more."
            )
        return self
