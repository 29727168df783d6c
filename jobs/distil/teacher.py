"""The soft labels of a distillation: views of the training images, stored, and what the ensemble answers to each.

The ensemble's members predict the views as they predict the images of a run: on the pool, into a table of their own,
so that nothing is predicted twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ensemble.artifact.document import ArtifactDocument, MemberEntry
from ensemble.artifact.read import Artifact
from ensemble.config import check
from ensemble.errors import ConfigError, PartialError
from ensemble.evaluation.calibration import at_temperature
from ensemble.evaluation.metrics import pooled
from ensemble.evaluation.reading import read_windows
from ensemble.files import make_folder, partial_file, publish
from ensemble.images.open import Source
from ensemble.members.identity import fingerprint
from ensemble.members.member import VIEW_MARK, Member
from ensemble.members.source_settings import RecipeSource
from ensemble.training.recipe import SoftLabelsConfig
from ensemble.training.soft_labels import (
    ABOUT,
    ANSWERS,
    CLASSES,
    VIEWS,
    seal_folder,
    soft_labels_sha256,
)
from ensemble.training.stored_views import ViewPlan, write_views
from jobs.progress import interrupt
from jobs.progress.live import Progress
from jobs.run.job import Job, RunOptions
from jobs.run.open import open_job
from jobs.run.predict import fill_table
from jobs.run.train import load_or_train
from jobs.settings import RunConfig
from jobs.stored_runs.layout import open_run_folder


@dataclass(frozen=True)
class Teacher:
    """The ensemble that is learned from: the weighted mean of its members, without sub-classifiers.

    Attributes:
        config: Settings of the run that it comes from.
        artifact: The ensemble.
        document: Its document.
    """

    config: RunConfig
    artifact: Artifact
    document: ArtifactDocument

    @property
    def sha256(self) -> str:
        """Identity of what it answers: members, views, weights and temperatures."""
        content = self.document.model_dump(
            mode="json", include={"members", "combine", "scale", "temperature"}
        )
        return fingerprint(content)

    @property
    def side(self) -> int:
        """Side of the largest input of its members, in pixels."""
        return max(member.preprocessing.size for member in self.artifact.members)

    def members(self) -> list[dict[str, Any]]:
        """Give its members as settings of a run, each seeing the whole of a view.

        Raises:
            ConfigError: The run does not have the member any more.
        """
        return [self._member(number, entry) for number, entry in enumerate(self.document.members)]

    def _member(self, number: int, entry: MemberEntry) -> dict[str, Any]:
        name = entry.name.partition(VIEW_MARK)[0].partition("#")[0]
        settings = next((m for m in self.config.members if m.name == name), None)
        if settings is None:
            raise ConfigError(
                f"the ensemble has the member {entry.name!r}, and its run has none called {name!r}. Give the run "
                "that made the ensemble."
            )
        source = settings.source.model_dump(mode="json")
        if isinstance(settings.source, RecipeSource):
            source = {"kind": "checkpoint", "path": str(self.artifact.folder / entry.file)}
        own = settings.preprocessing.model_dump(mode="json") if settings.preprocessing else {}
        member: dict[str, Any] = {
            "name": f"member-{number}",
            "source": source,
            "views": entry.views.model_dump(mode="json"),
            "precision": entry.precision,
            # Without this, the member would cut its centre out of what is a view already.
            "preprocessing": own | {"resize": None},
        }
        if settings.label_map is not None:
            member["label_map"] = str(settings.label_map)
        return member


def make_soft_labels(
    teacher: Teacher, plan: ViewPlan, source: Source, console: Console, options: RunOptions
) -> SoftLabelsConfig:
    """Make views of the training images and let the ensemble answer them; what is there is left as it is.

    Args:
        teacher: The ensemble.
        plan: The views.
        source: Decodes the images.
        console: Where progress goes.
        options: How this attempt behaves.

    Returns:
        The setting of a recipe that trains on them.

    Raises:
        ProjectError: A member cannot be loaded or fails, or the cluster fails.
        PartialError: Answers are missing because they killed their worker every time.
    """
    sha256 = soft_labels_sha256(plan.sha256, teacher.sha256)
    folder = (teacher.config.runs / f"soft-labels-{sha256[:16]}").absolute()
    labels = SoftLabelsConfig(path=folder, sha256=sha256)
    if (folder / ABOUT).exists():
        return labels
    with (
        Progress(console, folder.name, [], options.json_log) as progress,
        progress.stage("store views", len(plan.images), "images") as stage,
    ):
        for num_images in write_views(plan, source, folder, plan.images.classes):
            interrupt.check()
            stage.advance(num_images)
    name = f"teacher-{sha256[:16]}"
    config = check(RunConfig, _settings(teacher, folder, name), f"the run {name}")
    with open_job(config, open_run_folder(config, name), console, options) as job:
        members = load_or_train(job)
        fill_table(job, "predict", members, job.splits)
        if job.pool.quarantined:
            raise PartialError(
                f"{len(job.pool.quarantined)} blocks of the views in {folder} are missing, because they killed "
                "their worker every time. The same command tries them once more."
            )
        _write_answers(job, teacher, members, folder / ANSWERS)
    seal_folder(folder, sha256, plan.count)
    return labels


def _settings(teacher: Teacher, folder: Path, name: str) -> dict[str, Any]:
    config = teacher.config
    shared = config.model_dump(
        mode="json",
        exclude_unset=True,
        include={"seed", "weights", "training", "table", "storage", "cluster"},
    )
    source = {
        "kind": "parquet",
        "path": str(folder / VIEWS),
        "image": "image",
        "label": "label",
        "id": "id",
        "classes": str(folder / CLASSES),
    }
    return shared | {
        "name": name,
        "runs": str(config.runs.absolute()),
        # Which split a view is in does not matter: both are predicted, and nothing is fitted.
        "images": {
            "source": source,
            "split": {"train": 0, "search": 1, "every_class": False},
        },
        "members": teacher.members(),
    }


def _write_answers(job: Job, teacher: Teacher, members: Sequence[Member], path: Path) -> None:
    """Write the ensemble's probabilities of all views, in their order."""
    weighting, temperature = teacher.artifact.weighting, teacher.artifact.temperature
    columns = [
        replace(member, temperature=ours.temperature)
        for member, ours in zip(members, teacher.artifact.members, strict=True)
    ]
    views = job.source.index()
    make_folder(path.parent)
    with partial_file(path.parent) as file:
        np.lib.format.write_array_header_1_0(
            file,
            {
                "descr": "<f2",
                "fortran_order": False,
                "shape": (len(views), len(teacher.artifact.classes)),
            },
        )
        for rows, _ in read_windows(job.table, columns, views):
            probabilities = at_temperature(pooled(rows, weighting), temperature)
            file.write(probabilities.astype("<f2").tobytes())
        publish(file, path)
