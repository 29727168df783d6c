"""One stage of a study: train its networks on the pool, predict, and tell which answers are wrong."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool
from rich.console import Console

from ensemble.checkpoints.load import load_network
from ensemble.config import check
from ensemble.errors import CheckpointError, ConfigError, MemberFailedError
from ensemble.evaluation.metrics import is_top_k_error
from ensemble.images.index import ImageIndex
from ensemble.members.member import Member
from ensemble.report.build.curves import read_curves
from ensemble.report.documents.curves import Curve
from ensemble.table.logit_table import LogitTable
from ensemble.training.task import TrainTask
from jobs.run.job import Job, RunOptions
from jobs.run.open import open_job
from jobs.run.predict import drop_bad_images, fill_table
from jobs.run.train import base_name, load_trained, plan_training, train_tasks
from jobs.settings import RunConfig
from jobs.stored_runs.layout import open_run_folder
from jobs.study.settings import StudyConfig
from jobs.study.variants import Variant


@dataclass(frozen=True)
class TrainedRow:
    """What the networks of a variant answered.

    Attributes:
        variant: The variant.
        reason: Why it has no answers; None where it has.
        wrong_validation: Whether each seed's network errs on each validation image; empty with a reason.
        wrong_test: The same for the test images.
        seconds: Mean seconds of a training; None with a reason.
        num_trained: Number of networks that were trained.
        curve: Training of the first seed; None where it was not trained.
    """

    variant: Variant
    reason: str | None
    wrong_validation: Bool[np.ndarray, "seed image"]
    wrong_test: Bool[np.ndarray, "seed image"]
    seconds: float | None = None
    num_trained: int = 0
    curve: Curve | None = None


_NOTHING = np.zeros((0, 0), bool)


def without_answers(variant: Variant, reason: str, num_trained: int = 0) -> TrainedRow:
    """Make the row of a variant that has no figures."""
    return TrainedRow(variant, reason, _NOTHING, _NOTHING, num_trained=num_trained)


def run_settings(
    study: StudyConfig, name: str, members: Mapping[str, tuple[Variant, int]]
) -> dict[str, Any]:
    """Give the settings of the run that trains networks of a study, as a YAML file can hold them.

    Args:
        study: The study.
        name: Name of the run.
        members: Variant and seed of each network, by the name of the member, which ends in -seed and a number.
    """
    shared = study.model_dump(
        mode="json", exclude_unset=True, include={"images", "views", "training", "table", "cluster"}
    )
    networks = _with_starts(members)
    name_by_network = {(v.identity, seed): member for member, (v, seed) in networks.items()}
    recipe_of = {member: member.rpartition("-seed")[0] for member in networks}
    return {
        "name": name,
        "seed": study.seed,
        "runs": str(study.runs.absolute()),
        **shared,
        "recipes": {recipe_of[m]: dict(v.settings.recipe) for m, (v, _) in networks.items()},
        "members": [
            _member(member, recipe_of[member], variant, seed, name_by_network)
            for member, (variant, seed) in networks.items()
        ],
    }


def _with_starts(members: Mapping[str, tuple[Variant, int]]) -> dict[str, tuple[Variant, int]]:
    """Add the networks that others start from and that are not among them."""
    networks, there = dict(members), {(v.identity, seed) for v, seed in members.values()}
    for variant, seed in members.values():
        start = variant.start
        while start is not None and (start.identity, seed) not in there:
            networks[f"from.{start.identity[:8]}-seed{seed}"] = (start, seed)
            there.add((start.identity, seed))
            start = start.start
    return networks


def _member(
    name: str,
    recipe: str,
    variant: Variant,
    seed: int,
    name_by_network: Mapping[tuple[str, int], str],
) -> dict[str, Any]:
    settings = variant.settings.model_dump(mode="json", exclude_none=True)
    source: dict[str, Any] = {
        "kind": "recipe",
        "architecture": variant.architecture,
        "recipe": recipe,
        "seed": seed,
    }
    if variant.start is not None:
        base = name_by_network[variant.start.identity, seed]
        source["start"] = {"kind": "member", "name": base}
        if "take" in settings:
            source["take"] = settings["take"]
    member = {"name": name, "source": source}
    return member | ({"views": settings["views"]} if "views" in settings else {})


def run_stage(
    study: StudyConfig,
    name: str,
    variants: Sequence[Variant],
    console: Console,
    options: RunOptions,
) -> tuple[TrainedRow, ...]:
    """Train and predict what is not there yet, with all seeds of all variants side by side.

    Args:
        study: The study.
        name: Name of the run's folder.
        variants: What is trained; a variant of which a training fails has a reason in place of answers.
        console: Where progress goes.
        options: How this attempt behaves.

    Raises:
        ProjectError: The images, the table or the cluster cannot be used.
    """
    members = {
        f"{variant.name}-seed{seed}": (variant, seed)
        for variant in variants
        for seed in range(study.seeds)
    }
    config = check(RunConfig, run_settings(study, name, members), f"the run {name}")
    folder = open_run_folder(config, name)
    with open_job(config, folder, console, options) as job:
        with_validation = {
            name for name, (owner, _) in members.items() if owner.settings.adds_validation
        }
        tasks, reasons = _train(job, with_validation)
        networks = {
            member.name: load_trained(job, member, member.name, tasks[member.name].checkpoint)
            for member in config.members
            if member.name in members and member.name not in reasons
        }
        networks, unpredicted = _predict(job, networks)
        reasons |= unpredicted
        splits, _ = drop_bad_images(job, list(networks.values()))
        rows = []
        for variant in variants:
            names = [name for name, (owner, _) in members.items() if owner is variant]
            there = [networks[name] for name in names if name in networks]
            missing = [reasons[name] for name in names if name not in networks]
            if missing:
                rows.append(without_answers(variant, missing[0], len(there)))
                continue
            curves = read_curves(there[:1])
            rows.append(
                TrainedRow(
                    variant,
                    None,
                    _wrong(job.table, there, splits.search),
                    _wrong(job.table, there, splits.test),
                    float(np.mean([_seconds(tasks[name]) for name in names])),
                    len(there),
                    curves[0].model_copy(update={"name": variant.name}) if curves else None,
                )
            )
    return tuple(rows)


def _train(
    job: Job, with_validation: Collection[str]
) -> tuple[dict[str, TrainTask], dict[str, str]]:
    """Train all members of a run, those that start from another one after it.

    Args:
        job: The run.
        with_validation: Names of the members that are trained on the images of the search split too.

    Returns:
        The trainings, and why others have no weights, by the name of the member.
    """
    tasks, reasons = dict[str, TrainTask](), dict[str, str]()
    waiting = {member.name: member for member in job.config.members}
    while waiting:
        ready = [m for m in waiting.values() if base_name(m) not in waiting]
        waiting = {n: m for n, m in waiting.items() if m not in ready}
        new_tasks = dict[str, TrainTask]()
        for member in ready:
            base, splits = base_name(member), job.splits
            images = (
                _join(splits.train, splits.search)
                if member.name in with_validation
                else splits.train
            )
            if base in reasons:
                reasons[member.name] = (
                    f"it starts from {base}, which has no weights: {reasons[base]}"
                )
                continue
            try:
                new_tasks[member.name] = plan_training(job.config, member, images, tasks, {}, {})
            except ConfigError as error:
                reasons[member.name] = str(error)
        stage = "train further" if tasks else "train"
        failures = train_tasks(job, stage, job.splits, list(new_tasks.values()), may_fail=True)
        # A network that rows share is one task, whose failure is that of all of them.
        failed_keys = {new_tasks[name].key: reason for name, reason in failures.items()}
        for name, task in new_tasks.items():
            if task.key in failed_keys:
                reasons[name] = failed_keys[task.key]
        tasks |= new_tasks
    return tasks, reasons


def _join(images: ImageIndex, others: ImageIndex) -> ImageIndex:
    has_parts = images.parts is not None and others.parts is not None
    return replace(
        images,
        image_ids=np.concatenate([images.image_ids, others.image_ids]),
        labels=np.concatenate([images.labels, others.labels]),
        parts=np.concatenate([images.parts, others.parts]) if has_parts else None,
    )


def _predict(job: Job, networks: dict[str, Member]) -> tuple[dict[str, Member], dict[str, str]]:
    """Predict with all networks that can; tell why the others cannot, by name."""
    failures = dict[str, str]()
    while True:
        try:
            fill_table(job, "predict", list(networks.values()), job.splits)
        except MemberFailedError as error:
            if error.name not in networks:
                raise
            job.progress.say(str(error))
            # Rows that share the network fail with it.
            column = networks[error.name].column
            reason = _explain(networks[error.name], error)
            failures |= {n: reason for n, m in networks.items() if m.column == column}
            networks = {name: m for name, m in networks.items() if name not in failures}
        else:
            return networks, failures


def _explain(network: Member, error: MemberFailedError) -> str:
    """Tell why a network cannot predict: by its weights if these cannot be read, the same in every attempt.

    The error itself also names the images, and which these are depends on the order of the work.
    """
    try:
        load_network(network)
    except CheckpointError as cause:
        return str(cause)
    return str(error)


def check_views(study: StudyConfig) -> None:
    """Refuse views that make several columns of one network.

    Raises:
        ConfigError: The views are kept apart.
    """
    from ensemble.views.settings import keeps_views

    variants = [study.base, *(v for stage in study.stages for v in stage.variants.values())]
    if any(keeps_views(views) for views in (study.views, *(v.views for v in variants if v.views))):
        raise ConfigError(
            "views.keep_views is true, and a row of a study is one prediction of each network. Leave it out."
        )


def _wrong(
    table: LogitTable, networks: Sequence[Member], images: ImageIndex
) -> Bool[np.ndarray, "seed image"]:
    return np.stack(
        [is_top_k_error(table.read(n.column, images.image_ids), images.labels, 1) for n in networks]
    )


def _seconds(task: TrainTask) -> float:
    """Add up the seconds of the epochs of a training."""
    return float(sum(epoch["seconds"] for epoch in json.loads(task.curve.read_bytes())))
