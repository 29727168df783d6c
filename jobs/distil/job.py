"""The job of a distillation: soft labels of stored views, networks that learn them, and a report of both."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from ensemble.artifact.read import read, read_document
from ensemble.errors import ConfigError
from ensemble.files import write_atomic
from ensemble.images.open import open_source
from ensemble.images.split import split
from ensemble.report.documents.distil import DistilReport, RowKey
from ensemble.report.pages.distil import render
from ensemble.training.data import preprocessing_of
from ensemble.training.recipe import RecipeConfig
from ensemble.training.stored_views import ViewPlan
from ensemble.training.task import TrainTask
from jobs.artifacts import bring_artifact
from jobs.distil.report import build_report
from jobs.distil.settings import StudentConfig, load_student
from jobs.distil.students import student_settings, train_students, with_soft_labels
from jobs.distil.teacher import Teacher, make_soft_labels
from jobs.progress.live import Progress
from jobs.run.job import RunOptions, seed_of
from jobs.run.train import import_starts, plan_training
from jobs.settings import RunConfig
from jobs.stored_runs.finished import open_finished_run
from jobs.stored_runs.open import split_words

DOCUMENT, PAGE = "distil.json", "distil.html"


@dataclass(frozen=True)
class Distillation:
    """A distillation that is done.

    Attributes:
        report: What came of it.
        folder: Folder with distil.json, distil.html, and the artifact of the first network.
    """

    report: DistilReport
    folder: Path


def distil(
    place: str,
    into: str,
    words: Sequence[str],
    console: Console,
    options: RunOptions,
    *,
    views: int = 8,
    seeds: int = 1,
    compares: bool = False,
) -> Distillation:
    """Train a network on what the ensemble of a finished run answers, computing only what is not there yet.

    Args:
        place: The folder of the run, here or at s3://.
        into: Name of a member of the run that a recipe trains, or the path of a YAML file: the network.
        words: Settings of the network to change, of the form recipe.epochs=30; those of storage say how S3 is reached.
        console: Where progress goes.
        options: How this attempt behaves.
        views: Number of views that are stored of each training image.
        seeds: Number of networks, with the seeds 0, 1 and so on.
        compares: Train the same recipe on labels alone, and on soft labels of unchanged images, as well.

    Raises:
        ConfigError: The place is not that of a finished run with an ensemble, or a setting is wrong.
        ProjectError: The work failed.
    """
    storage, words = split_words(words)
    run = open_finished_run(place, storage)
    artifact = bring_artifact(place, storage)
    trust_code = run.config.weights.trust_code
    teacher = Teacher(
        run.config, read(artifact.path, trust_code=trust_code), read_document(artifact.path)
    )
    student = load_student(run.config, into, words)
    if student.recipe.epochs == 0:
        raise ConfigError("recipe.epochs is 0, and nothing would be learned. Set recipe.epochs=30.")
    task = _plan(run.config, student, console, options)
    side = max(teacher.side, preprocessing_of(task).size)
    plan = ViewPlan(
        task.images,
        student.recipe,
        preprocessing_of(task),
        side,
        views,
        seed_of(run.config, "distil"),
    )
    source = open_source(run.config.image_source)
    recipes: dict[RowKey, RecipeConfig] = {
        "distilled": with_soft_labels(
            student.recipe, make_soft_labels(teacher, plan, source, console, options)
        )
    }
    if compares:
        fixed = replace(plan, count=1, is_drawn=False)
        labels = make_soft_labels(teacher, fixed, source, console, options)
        recipes |= {"fixed": with_soft_labels(student.recipe, labels), "labels": student.recipe}
    config = student_settings(run.config, student, recipes, seeds)
    students = train_students(config, console, options, run.name)
    report = build_report(run, teacher, students, into, task, plan)
    folder = students.folder.path
    write_atomic(folder / DOCUMENT, report.model_dump_json(indent=2) + "\n")
    write_atomic(folder / PAGE, render(report))
    return Distillation(report, folder)


def _plan(
    config: RunConfig, student: StudentConfig, console: Console, options: RunOptions
) -> TrainTask:
    """Plan the training on labels: it tells which images are trained on, and how the network sees them."""
    settings = student_settings(config, student, {"labels": student.recipe}, 1)
    (member,) = settings.members
    index = open_source(settings.image_source).index()
    splits = split(index, settings.images.split, settings.seed)
    with Progress(console, "distil", [member.name], options.json_log) as progress:
        starts = import_starts(settings, len(index.classes), progress)
        return plan_training(settings, member, splits.train, {}, {}, starts)
