"""One network to train: everything that decides its weights, and the file they are kept in. No torch."""

from dataclasses import dataclass, replace
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path

from ensemble.checkpoints.header import checkpoint_name
from ensemble.images.index import ImageIndex
from ensemble.members.identity import fingerprint, library_versions
from ensemble.members.member import Member
from ensemble.training.recipe import RecipeConfig

# Code that decides weights: a change here trains anew, a change elsewhere does not.
_CODE = ("models", "training", "inference/transforms.py")


@dataclass(frozen=True)
class Stopping:
    """When to end a training early: the epoch that does best on other images stays.

    Attributes:
        images: To judge each epoch on; none of them is trained on.
        patience: Epochs without fewer errors, or a lower loss, after which training ends.
    """

    images: ImageIndex
    patience: int


@dataclass(frozen=True)
class TrainTask:
    """A member to train from fresh weights, or a sub-classifier from its base's.

    Attributes:
        name: What logs call it; not part of its identity.
        architecture: A name of `ensemble.models`.
        recipe: How to train.
        seed: Of weights, order and augmentation.
        images: The images to train on, labels as class indices of the data.
        classes: What each output stands for, as class indices of the data.
        folder: Where checkpoints are kept by content.
        base: The member whose weights to start from; fresh weights if none.
        stopping: When to end early; never if none.
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

    @cached_property
    def key(self) -> str:
        """Identity of the weights: recipe + data + code version."""
        return fingerprint(
            {
                "architecture": self.architecture,
                "recipe": self.recipe.model_dump(mode="json"),
                "seed": self.seed,
                "images": self.images.sha256,
                "classes": list(self.classes),
                "base": self.base.weights_sha256 if self.base else None,
                "stopping": [self.stopping.images.sha256, self.stopping.patience]
                if self.stopping
                else None,
                "code": _code_sha256(),
                "libraries": library_versions(self.architecture),
            }
        )

    @property
    def checkpoint(self) -> Path:
        """Where the weights are, once trained."""
        return self.folder / checkpoint_name(self.architecture, self.key)

    @property
    def progress(self) -> Path:
        """Where a training that is under way is kept, to go on from."""
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
        """Fine-tune a base on the images of one label cluster, and stop on others of it.

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


@cache
def _code_sha256() -> str:
    root = Path(__file__).parent.parent
    files = sorted(
        path
        for name in _CODE
        for path in ([root / name] if name.endswith(".py") else (root / name).glob("*.py"))
    )
    digest = sha256()
    for path in files:
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()
