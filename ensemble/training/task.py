"""One network to train: all that decides its weights, and the file that they are kept in. No torch."""

from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np

from ensemble.checkpoints.header import checkpoint_name
from ensemble.errors import ConfigError
from ensemble.images.index import ImageIndex
from ensemble.images.settings import SourceConfig
from ensemble.members.identity import fingerprint, library_versions
from ensemble.members.member import Member
from ensemble.members.settings import Preprocessing
from ensemble.members.source_settings import TakeConfig
from ensemble.training.recipe import RecipeConfig, ValidationConfig

# Code that decides weights, below the library's folder: a change here trains anew, a change
# elsewhere does not.
CODE = (
    "models/*.py",
    "training/*.py",
    "inference/resized.py",
    "inference/staging.py",
    "inference/transforms.py",
)
LIBRARY = Path(__file__).parent.parent


@dataclass(frozen=True)
class Stopping:
    """When to end a training early: the epoch that does best on other images stays.

    Attributes:
        images: Images that each epoch is judged on; none of them is trained on.
        patience: Number of epochs without fewer errors, or a lower loss, after which training ends;
            never if None.
        keep_best: Whether the weights of the best epoch stay; the last ones if not.
    """

    images: ImageIndex
    patience: int | None
    keep_best: bool = True

    @property
    def identity(self) -> list[object]:
        """Everything of it that decides the trained weights."""
        choice = [] if self.keep_best else ["last"]
        return [self.images.sha256, self.patience, *choice]


@dataclass(frozen=True)
class Reading:
    """How a training reads its photographs itself; changes no weights.

    Attributes:
        source: Where the images come from.
        disk_mb: Disk that decoded photographs may take below the task's folder, in MB.
    """

    source: SourceConfig
    disk_mb: int


@dataclass(frozen=True)
class Start:
    """Weights that the training of a member starts from.

    Attributes:
        weights: The weights, with the classes that they were trained for, and the preprocessing that the
            trained member has too.
        take: Layers that are taken; all of them if None.
        new_head: Whether the head is fresh even where that of the weights fits.
    """

    weights: Member
    take: TakeConfig | None = None
    new_head: bool = False

    @property
    def identity(self) -> dict[str, object]:
        """Everything of the start that decides the trained weights."""
        return {
            "weights_sha256": self.weights.weights_sha256,
            "preprocessing": self.weights.preprocessing.model_dump(mode="json"),
            "take": self.take.model_dump(mode="json") if self.take else None,
            "new_head": self.new_head,
        }


@dataclass(frozen=True)
class Seeds:
    """Seeds of the parts of what a training draws.

    Attributes:
        start: Seed of the fresh weights.
        order: Seed of the order of the images.
        augmentation: Seed of all else.
    """

    start: int
    order: int
    augmentation: int


@dataclass(frozen=True)
class TrainTask:
    """A member to train from fresh or other weights, or a sub-classifier from its base's.

    Attributes:
        name: Name of the task in logs; not part of its identity.
        architecture: Name of an architecture of `ensemble.models`.
        recipe: Settings of the training.
        seed: Seed of the fresh weights, the order of the images and the augmentation.
        images: Images to train on, whose labels are class indices of the data.
        classes: Class index of the data that each output stands for.
        folder: Folder of all checkpoints, each named by its key.
        base: Member whose weights the training starts from; fresh weights if None.
        stopping: When to end the training early; never if None.
        start: Weights that a member starts from, for other classes as well; fresh ones if None.
        reading: How photographs are read; they are taken from shards if None. Not part of the identity.
        checkpoint_s: Seconds after which the state is written again within an epoch. Not part of it either.
        seeds: Seeds of parts, in the place of `seed`; one stream draws order and augmentation if None.
    """

    name: str
    architecture: str
    recipe: RecipeConfig
    seed: int
    images: ImageIndex
    classes: tuple[int, ...]
    folder: Path
    base: Member | None = None
    stopping: Stopping | None = None
    start: Start | None = None
    reading: Reading | None = None
    checkpoint_s: float = 60.0
    seeds: Seeds | None = None

    @cached_property
    def key(self) -> str:
        """Identity of the weights: recipe, data, and the version of the code."""
        start = {"start": self.start.identity} if self.start else {}
        seeds = {"seeds": asdict(self.seeds)} if self.seeds else {}
        return fingerprint(
            start
            | seeds
            | {
                "architecture": self.architecture,
                "recipe": self.recipe.identity(),
                "seed": self.seed,
                "images": self.images.sha256,
                "classes": list(self.classes),
                "base": self.base.weights_sha256 if self.base else None,
                "stopping": self.stopping.identity if self.stopping else None,
                "code": code_sha256(),
                "libraries": library_versions(self.architecture),
            }
        )

    @property
    def start_seed(self) -> int:
        """Seed of the fresh weights."""
        return self.seeds.start if self.seeds else self.seed

    @property
    def order_seed(self) -> int | None:
        """Seed of the order of the images, if it has a stream of its own."""
        return self.seeds.order if self.seeds else None

    @property
    def augmentation_seed(self) -> int:
        """Seed of all that is drawn while training, with the order where that has no seed of its own."""
        return self.seeds.augmentation if self.seeds else self.seed

    @property
    def has_photographs(self) -> bool:
        """Whether images are read one by one as they are needed, and cut anew each time.

        Small images without a crop, as digits, are resized once and stay in memory.
        """
        is_cut = self.base is not None and self.base.preprocessing.resize is not None
        return self.start is not None or self.recipe.crop is not None or is_cut

    @property
    def reads_images(self) -> bool:
        """Whether the training reads its images itself, and needs no shards."""
        return self.has_photographs and self.reading is not None

    @property
    def preprocessing(self) -> Preprocessing | None:
        """Preprocessing that comes with the weights of the base or the start; None with fresh ones."""
        if self.base is not None:
            return self.base.preprocessing
        return self.start.weights.preprocessing if self.start else None

    @property
    def checkpoint(self) -> Path:
        """File of the weights, once they are trained."""
        return self.folder / checkpoint_name(self.architecture, self.key)

    @property
    def extras(self) -> dict[str, Path]:
        """Files of the snapshots and the average of the weights, by what follows the member's name."""
        path = self.checkpoint
        return {
            name: path.with_name(f"{path.stem}{name}{path.suffix}")
            for name in self.recipe.extra_names
        }

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of weights that the training gives."""
        return (self.checkpoint, *self.extras.values())

    @property
    def is_done(self) -> bool:
        """Whether all weights are there."""
        return all(path.exists() for path in self.files)

    @property
    def curve(self) -> Path:
        """File of the results of each epoch, beside the weights."""
        return curve_file(self.checkpoint)

    @property
    def progress(self) -> Path:
        """File that keeps a training under way, to go on from after an interruption."""
        return self.checkpoint.with_suffix(".progress")

    @classmethod
    def of_subclassifier(
        cls,
        base: Member,
        images: ImageIndex,
        classes: tuple[int, ...],
        recipe: RecipeConfig,
        seed: int,
        folder: Path,
        stopping: Stopping | None = None,
    ) -> "TrainTask":
        """Make the task of fine-tuning a base on the images of one label cluster.

        `stopping` is judged on other images of the same label cluster.

        Source: P2 §IV-3: base architecture, base weights, the label cluster's outputs.
        """
        return cls(
            name=f"{base.name}/{'+'.join(images.classes[label] for label in classes)}",
            architecture=base.architecture,
            recipe=recipe,
            seed=seed,
            images=images.of_classes(classes),
            classes=classes,
            folder=folder,
            base=base,
            stopping=stopping and replace(stopping, images=stopping.images.of_classes(classes)),
        )


def curve_file(checkpoint: Path) -> Path:
    """Locate the results of each epoch of a training, as JSON beside its weights."""
    return checkpoint.with_suffix(".curve.json")


def hold_out(
    images: ImageIndex, config: ValidationConfig, seed: int
) -> tuple[ImageIndex, Stopping]:
    """Divide images, class by class, into those to train on and those that each epoch is judged on.

    Args:
        images: The images of a training.
        config: Share of each class, and what follows from the judgement.
        seed: Seed of the draw.

    Raises:
        ConfigError: A class has one image, which cannot be on both sides.
    """
    rng, held = np.random.default_rng(seed), []
    for label in np.unique(images.labels):
        rows = np.flatnonzero(images.labels == label)
        if len(rows) < 2:
            raise ConfigError(
                f"the class {images.classes[label]!r} has {len(rows)} image to train on, and validation "
                "needs one and training another; add images, or leave recipes' validation out."
            )
        count = min(len(rows) - 1, max(1, round(config.share * len(rows))))
        held.append(rng.permutation(rows)[:count])
    is_held = np.isin(np.arange(len(images)), np.concatenate(held))
    stopping = Stopping(
        images.take(np.flatnonzero(is_held)), config.patience, config.weights == "best"
    )
    return images.take(np.flatnonzero(~is_held)), stopping


@cache
def code_sha256(root: Path = LIBRARY) -> str:
    """Compute the SHA-256 of all files that `CODE` names, with their paths.

    Args:
        root: The library's folder.
    """
    digest = sha256()
    for path in sorted(path for pattern in CODE for path in root.glob(pattern)):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()
