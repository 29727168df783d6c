"""A suite's world without networks: members are random-feature models of digits, and nights take milliseconds."""

from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from ensemble.artifact.document import ArtifactDocument, MemberEntry
from ensemble.errors import ClusterError
from ensemble.images.index import ImageIndex
from ensemble.members.member import Member
from ensemble.members.settings import Preprocessing
from ensemble.nightly.deployment import Deployment
from ensemble.report.documents.nightly import Night
from ensemble.table.block import LogitBlock
from ensemble.table.logit_table import LogitTable
from ensemble.views.settings import CenterView
from jobs.nightly.candidate import CanaryRun, Candidate, Say
from jobs.nightly.job import do_night
from jobs.nightly.suite import RowConfig, SuiteConfig

FIRST = date(2026, 11, 1)
TRAIN = 400


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels in [0, 1] `[image, 64]` and labels, shuffled; the first `TRAIN` are trained on."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    return data.data[order] / 16, data.target[order]


@cache
def trained(seed: int, hidden: int = 100) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A random-feature model by ridge regression: weights, offsets, and outputs."""
    pixels, labels = digits()
    rng = np.random.default_rng(seed)
    weights, offsets = rng.normal(size=(64, hidden)) * 0.7, rng.normal(size=hidden)
    features = np.tanh(pixels[:TRAIN] @ weights + offsets)
    targets = 2 * np.eye(10)[labels[:TRAIN]] - 1
    out = np.linalg.solve(features.T @ features + np.eye(hidden), features.T @ targets)
    return weights, offsets, out


def predict(seed: int, pixels: np.ndarray, hidden: int = 100) -> np.ndarray:
    """Log-probabilities of a model, `[image, class]` in float32."""
    weights, offsets, out = trained(seed, hidden)
    scores = 3 * np.tanh(pixels @ weights + offsets) @ out
    scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return np.minimum(scores, 0).astype(np.float32)


@dataclass(frozen=True)
class LibraryMember(Member):
    """A member that was run with a version of a library that is not installed here."""

    library: str = "2.0"

    @property
    def identity(self) -> dict[str, object]:
        """The identity, with that version; looking up those of this machine takes most of a night's time."""
        return {
            "weights_sha256": self.weights_sha256,
            "preprocessing": self.preprocessing.model_dump(mode="json"),
            "data_sha256": self.data_sha256,
            "libraries": {"torch": self.library},
        }


@dataclass(frozen=True)
class Model:
    """A member of the world.

    Attributes:
        seed: Seed of its weights.
        shift: Pixels are moved by this before they are predicted: broken preprocessing.
        library: Version of the library that it runs with.
        noise: What another library's rounding adds.
    """

    seed: int
    shift: float = 0.0
    library: str = "2.0"
    noise: float = 0.0

    def logs(self, rows: np.ndarray) -> np.ndarray:
        """Log-probabilities of some images."""
        logs = predict(self.seed, digits()[0][rows] + self.shift)
        if not self.noise:
            return logs
        rng = np.random.default_rng(7)
        moved = logs + self.noise * rng.normal(size=(len(digits()[1]), 10))[rows]
        return np.minimum(moved - np.log(np.exp(moved).sum(axis=1, keepdims=True)), 0).astype(
            np.float32
        )


@dataclass
class World:
    """What is deployed tonight; tests change it between nights. It does as `Workers` does.

    Attributes:
        models: The members by name.
        weights: Weight of each member.
        labels: Labels of all images.
        classes: Names of the classes.
        dies_after: Number of blocks after which a night is killed; None where none is.
        passes: Forward passes that were needed so far, without the canary's.
        first: First image that is judged on.
        is_wild: Whether the canary's network gives the answers of the labels moved on already.
    """

    models: dict[str, Model] = field(
        default_factory=lambda: {"a": Model(0), "b": Model(1), "c": Model(2)}
    )
    weights: dict[str, int] = field(default_factory=dict)
    labels: np.ndarray = field(default_factory=lambda: digits()[1])
    classes: tuple[str, ...] = tuple("0123456789")
    dies_after: int | None = None
    passes: int = 0
    first: int = TRAIN
    last: int | None = None
    is_wild: bool = False
    reference_models: dict[str, Model] | None = None

    def change(self, name: str, **changes: object) -> None:
        """Change a member."""
        self.models = {**self.models, name: replace(self.models[name], **changes)}  # type: ignore[arg-type]

    def images(self) -> ImageIndex:
        """The images that are judged on."""
        ids = np.array([f"digits/{i:04d}" for i in range(len(self.labels))])
        index = ImageIndex("digits", ids, self.labels, self.classes)
        return index.take(np.arange(self.first, self.last or len(self.labels)))

    def candidate(self, row: RowConfig, say: Say) -> Candidate:
        return self._candidate(self.models)

    def reference(self, row: RowConfig, say: Say) -> Candidate:
        return self._candidate(self.reference_models or self.models)

    def _candidate(self, models: dict[str, Model]) -> Candidate:
        members = {name: _member(name, model) for name, model in models.items()}
        document = ArtifactDocument(
            classes=self.classes,
            data_sha256="d" * 64,
            search="uniform",
            members=tuple(
                MemberEntry(
                    name=name,
                    file=f"{name}.safetensors",
                    sha256=members[name].weights_sha256,
                    weight_units=self.weights.get(name, 1),
                    views=CenterView(),
                )
                for name in models
            ),
        )
        columns = {name: member.column for name, member in members.items()}
        return Candidate(Deployment(document, columns), members, self.images(), _decode)

    def fill(self, table: LogitTable, row: RowConfig, candidate: Candidate, ids: list[str]) -> int:
        passes, blocks = 0, 0
        for name, member in candidate.members.items():
            missing = table.missing(member.column, ids)
            if not missing:
                continue
            if self.dies_after is not None and blocks >= self.dies_after:
                self.dies_after = None
                raise KeyboardInterrupt
            model = {**(self.reference_models or {}), **self.models}[name]
            if candidate.members[name].column != _member(name, model).column:
                model = (self.reference_models or self.models)[name]
            table.commit(member, _block(member, model, list(missing)))
            passes, blocks = passes + len(missing), blocks + 1
        self.passes += passes
        return passes

    def canary(self, candidate: Candidate, member: str, images: ImageIndex) -> CanaryRun:
        logs = self.models[member].logs(_rows(images.image_ids.tolist()))
        if self.is_wild:
            logs = np.roll(logs, -1, axis=1)
        return CanaryRun(member, images, logs, "cpu", 0.001 * len(images), len(images))


@dataclass
class FailingWorld(World):
    """A world whose machines are gone."""

    def fill(self, table: LogitTable, row: RowConfig, candidate: Candidate, ids: list[str]) -> int:
        raise ClusterError("the cluster is gone. Expected it to be there; start it.")


@dataclass
class Nights:
    """A suite of one row and its nights, one after another."""

    folder: Path
    world: World = field(default_factory=World)
    settings: dict[str, object] = field(default_factory=dict)
    row: dict[str, object] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    day: date = FIRST

    @property
    def suite(self) -> SuiteConfig:
        """The settings, checked."""
        row = {"name": "digits", "artifact": "deployed", "images": {"kind": "digits"}} | self.row
        return SuiteConfig.model_validate(
            {"name": "suite", "folder": str(self.folder), "rows": [row]} | self.settings
        )

    def run(self, *, is_smoke: bool = False) -> tuple[Night, int]:
        """Do the next night, and give its record and exit code."""
        on, self.day = self.day, self.day + timedelta(days=1)
        return do_night(self.suite, on, self.world, self.lines.append, is_smoke=is_smoke)

    def verdict(self, metric: str = "top1_error", baseline: str = "accepted") -> str:
        """Do the next night, and give the verdict on a metric."""
        record, _ = self.run()
        return next(
            c.verdict
            for c in record.rows[0].comparisons
            if (c.metric, c.baseline) == (metric, baseline)
        )


def _member(name: str, model: Model) -> Member:
    return LibraryMember(
        name=name,
        architecture="random_features",
        classes=tuple(range(10)),
        checkpoint=Path("/nowhere"),
        weights_sha256=f"{model.seed:064x}",
        head="",
        parameters=1,
        preprocessing=Preprocessing(size=8, mean=(model.shift,) * 3, std=(1.0,) * 3),
        views=CenterView(),
        data_sha256="d" * 64,
        library=model.library,
    )


def _block(member: Member, model: Model, ids: list[str]) -> LogitBlock:
    logs = model.logs(_rows(ids))
    return LogitBlock(
        member.column, np.array(ids), logs, (), 0.001 * len(ids), len(ids), device_kind="cpu"
    )


def _rows(ids: list[str]) -> np.ndarray:
    return np.array([int(image_id.rpartition("/")[2]) for image_id in ids])


def _decode(image_id: str) -> np.ndarray:
    square = digits()[0][_rows([image_id])[0]].reshape(8, 8)
    return np.repeat((255 * square).astype(np.uint8)[:, :, None], 3, axis=2)
