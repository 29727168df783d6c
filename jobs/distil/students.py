"""The networks that learn: trained side by side on the pool of a run, and predicted on its test images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from rich.console import Console

from ensemble.artifact.about import About, Figure, Origin
from ensemble.artifact.from_table import golden_from_table
from ensemble.artifact.write import save as save_artifact
from ensemble.config import check
from ensemble.errors import PartialError
from ensemble.evaluation.calibration import calibrate
from ensemble.evaluation.outcome import Outcome, evaluate
from ensemble.images.split import Splits
from ensemble.members.identity import fingerprint
from ensemble.members.member import Member
from ensemble.outranking.fixed_point import WEIGHT_UNITS
from ensemble.outranking.weighting import Weighting
from ensemble.pretrained.licence import licence_of
from ensemble.report.build.curves import read_curves
from ensemble.report.documents.curves import Curve
from ensemble.report.documents.distil import RowKey
from ensemble.training.recipe import RecipeConfig, SoftLabelsConfig
from jobs.about import data_of, machine
from jobs.distil.settings import StudentConfig
from jobs.run.job import Job, RunOptions
from jobs.run.open import open_job
from jobs.run.predict import drop_bad_images, fill_table
from jobs.run.train import load_or_train
from jobs.settings import RunConfig
from jobs.stored_runs.columns import measured_costs
from jobs.stored_runs.layout import RunFolder, open_run_folder


@dataclass(frozen=True)
class StudentRow:
    """The networks of one way to train, one a seed.

    Attributes:
        outcomes: How each does on the test images.
        parameters: Number of parameters of one network.
        costs: What an image costs, by unit; 0 where that was not measured.
        curve: Training of the first seed; None where there is no record of it.
    """

    outcomes: tuple[Outcome, ...]
    parameters: int
    costs: Mapping[str, float]
    curve: Curve | None


@dataclass(frozen=True)
class Students:
    """All networks of a distillation.

    Attributes:
        folder: Folder of their run, which the artifact of the first distilled network lies in.
        rows: The networks, by the way they were trained.
        splits: The images that all of them predicted.
    """

    folder: RunFolder
    rows: Mapping[RowKey, StudentRow]
    splits: Splits


def student_settings(
    config: RunConfig, student: StudentConfig, recipes: Mapping[RowKey, RecipeConfig], seeds: int
) -> RunConfig:
    """Make the settings of the run that trains networks.

    Args:
        config: Settings of the run whose ensemble is learned from; images, seed and cluster are the same.
        student: The network.
        recipes: A recipe for each way to train.
        seeds: Number of networks of each.
    """
    shared = config.model_dump(
        mode="json",
        exclude_unset=True,
        include={"seed", "images", "weights", "training", "table", "storage", "cluster"},
    )
    extra: dict[str, Any] = {"views": student.views.model_dump(mode="json")}
    if student.preprocessing is not None:
        extra["preprocessing"] = student.preprocessing.model_dump(mode="json")
    settings = shared | {
        "runs": str(config.runs.absolute()),
        "recipes": {
            name: recipe.model_dump(mode="json", exclude_unset=True)
            for name, recipe in recipes.items()
        },
        "members": [
            {
                "name": f"{name}-seed{seed}",
                "source": student.source | {"recipe": name, "seed": seed},
                **extra,
            }
            for name in recipes
            for seed in range(seeds)
        ],
    }
    name = f"distil-{fingerprint([student.model_dump(mode='json'), settings['members'], _identities(recipes)])[:16]}"
    return check(RunConfig, settings | {"name": name}, f"the run {name}")


def _identities(recipes: Mapping[RowKey, RecipeConfig]) -> dict[str, Any]:
    return {name: recipe.identity() for name, recipe in recipes.items()}


def with_soft_labels(recipe: RecipeConfig, labels: SoftLabelsConfig) -> RecipeConfig:
    """Give a recipe soft labels, as one that was read from a file."""
    settings = recipe.model_dump(mode="json", exclude_unset=True)
    return check(
        RecipeConfig, settings | {"soft_labels": labels.model_dump(mode="json")}, "the recipe"
    )


def train_students(config: RunConfig, console: Console, options: RunOptions, run: str) -> Students:
    """Train and predict what is not there yet, and save the first distilled network as an artifact.

    Args:
        config: Settings of `student_settings`.
        console: Where progress goes.
        options: How this attempt behaves.
        run: Name of the run whose ensemble is learned from.

    Raises:
        ProjectError: A training or a prediction failed, or the cluster fails.
        PartialError: Predictions are missing because they killed their worker every time.
    """
    folder = open_run_folder(config, "distil")
    with open_job(config, folder, console, options) as job:
        members = {member.name: member for member in load_or_train(job)}
        fill_table(job, "predict", list(members.values()), job.splits)
        if job.pool.quarantined:
            raise PartialError(
                f"{len(job.pool.quarantined)} blocks of the networks in {folder.path} are missing, because they "
                "killed their worker every time. The same command tries them once more."
            )
        splits, _ = drop_bad_images(job, list(members.values()))
        outcomes = evaluate(job.table, list(members.values()), splits.test, {})
        names: dict[RowKey, list[str]] = {
            way: [m.name for m in config.members if m.name.rpartition("-seed")[0] == way]
            for way in get_args(RowKey)
            if way in config.recipes
        }
        rows = {way: _row(job, [members[n] for n in names[way]], outcomes) for way in names}
        _save(job, members[names["distilled"][0]], outcomes, splits, run)
    return Students(folder, rows, splits)


def _row(job: Job, networks: Sequence[Member], outcomes: Mapping[str, Outcome]) -> StudentRow:
    commits = tuple(job.table.commits())
    costs = [measured_costs(commits, network.column) for network in networks]
    curves = read_curves(networks[:1])
    return StudentRow(
        tuple(outcomes[network.name] for network in networks),
        networks[0].parameters,
        {unit: float(np.mean([cost[unit] for cost in costs])) for unit in costs[0]},
        curves[0] if curves else None,
    )


def _save(
    job: Job, network: Member, outcomes: Mapping[str, Outcome], splits: Splits, run: str
) -> None:
    """Write an artifact of one network, so that it predicts, serves and exports as an ensemble does."""
    weighting = Weighting(np.array([WEIGHT_UNITS]))
    logs = job.table.read(network.column, splits.search.image_ids)
    temperature = calibrate(logs, splits.search.labels, job.config.seed).value
    golden = golden_from_table(
        job.table, [network], weighting, None, temperature, splits.test, job.source.decode
    )
    outcome = outcomes[network.name]
    figure = Figure(
        "distilled network",
        1,
        {1: outcome.errors(1)},
        outcome.nll,
        None,
        is_answer=True,
    )
    commits = tuple(job.table.commits())
    licence = licence_of(next(m for m in job.config.members if m.name == network.name))
    about = About(
        name=job.folder.path.name,
        images=len(splits.test),
        data=data_of(job.config),
        figures=(figure,),
        origins={network.name: Origin(f"distilled from the ensemble of {run}", licence)},
        costs={network.name: measured_costs(commits, network.column)},
        machine=machine(job.pool.num_hosts),
        golden=golden,
    )
    save_artifact(
        job.folder.artifact,
        [network],
        weighting,
        splits.test.classes,
        "distilled",
        temperature=temperature,
        about=about,
    )
