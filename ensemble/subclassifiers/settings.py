"""Settings of label clusters, fine-tuning, gates and routings; nothing here imports torch."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from ensemble.config import Config
from ensemble.training.augmentation_settings import AugmentationConfig
from ensemble.training.optimizer_settings import SgdConfig
from ensemble.training.recipe import RecipeConfig

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
"""Fine-tuning as in P2 (§IV-1, §IV-3). It gives no learning rate: 0.01, a fifth of the usual peak, is our
choice."""


class SubclassifiersConfig(Config):
    """Label clusters, the fine-tuning of one network for each, and the gate before them."""

    num_clusters: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (
        2,
        3,
        4,
    )
    """Numbers of label clusters to try; cross-validation on the search split chooses one."""
    base: str | None = None
    """Name of the member that is fine-tuned, and that answers every image that is not routed. If not set, the
    ensemble answers these images and its best member is fine-tuned."""
    similarity: Similarity = "base"
    """Similarity of labels: base is the cosine of the base's label embeddings, members the mean of this cosine
    over all members, and confusion how often the base confuses the labels on the search split."""
    clustering: Clustering = "spectral"
    """Clustering of the labels by their similarity; spectral is the paper's."""
    min_cluster_size: PositiveInt = 1
    """Least number of classes in a label cluster; a smaller one joins the label cluster most like it."""
    max_cluster_size: PositiveInt | None = None
    """Greatest number of classes in a label cluster; a larger one is cut. At least twice `min_cluster_size`."""
    recipe: str | None = None
    """Name of one of the config's `recipes` to fine-tune by. If not set, as in the paper: random crop and flip, 15
    epochs."""
    patience: PositiveInt | None = 3
    """Number of epochs without a gain on half of the search images after which fine-tuning ends; the weights of
    the best epoch are kept. Null trains to the end, and leaves all search images to the choice of the gate."""
    control: bool = False
    """Whether to train the base for as long on all classes, too, and to compare it with the sub-classifiers: this
    shows how much of their gain is due to more training alone. It takes as long as all sub-classifiers of one
    number of label clusters."""
    gates: Annotated[tuple[GateKind, ...], Field(min_length=1)] = (
        "entropy",
        "normalised_entropy",
        "margin",
        "logistic",
    )
    """Gates to try. The paper's is entropy; normalised_entropy is the entropy inside the likeliest label cluster."""
    routings: Annotated[tuple[RoutingKind, ...], Field(min_length=1)] = ("hard", "top2", "soft")
    """Routings to try: hard routes to the likeliest label cluster, as in the paper, top2 to the two likeliest, and
    soft to all."""

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
