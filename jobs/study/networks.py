"""The networks of a stage: trained and predicted on the pool, and why others have no predictions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from ensemble.checkpoints.load import load_network
from ensemble.errors import CheckpointError, ConfigError, MemberFailedError
from ensemble.evaluation.metrics import is_top_k_error
from ensemble.images.index import ImageIndex
from ensemble.images.split import Splits
from ensemble.members.member import Member
from ensemble.table.logit_table import LogitTable
from ensemble.training.task import TrainTask
from jobs.run.job import Job
from jobs.run.predict import drop_bad_images, fill_table
from jobs.run.train import base_name, load_trained, plan_training, train_tasks
from jobs.study.variants import Variant


@dataclass(frozen=True)
class Trained:
    """The networks of a stage.

    Attributes:
        networks: Those that are trained and have predictions, by the name of the member.
        tasks: Trainings, by the same name.
        reasons: Why others have none.
        splits: The images that every network has a prediction of.
    """

    networks: dict[str, Member]
    tasks: dict[str, TrainTask]
    reasons: dict[str, str]
    splits: Splits


def train_and_predict(job: Job, members: Mapping[str, tuple[Variant, int]]) -> Trained:
    """Train and predict what is not there yet; a network that fails has a reason in place of predictions.

    Args:
        job: The run, whose config has the members, and the networks that they start from.
        members: Variant and seed of each network, by the name of the member.
    """
    with_validation = {
        name for name, (owner, _) in members.items() if owner.settings.adds_validation
    }
    tasks, reasons = train_networks(job, with_validation)
    networks = {
        member.name: load_trained(job, member, member.name, tasks[member.name].checkpoint)
        for member in job.config.members
        if member.name in members and member.name not in reasons
    }
    networks, unpredicted = _predict(job, networks)
    splits, _ = drop_bad_images(job, list(networks.values()))
    return Trained(networks, tasks, reasons | unpredicted, splits)


def train_networks(
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
                new_tasks[member.name] = plan_training(
                    job.config, member, images, tasks, job.imported, job.starts
                )
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


def wrong_answers(
    table: LogitTable, networks: Sequence[Member], images: ImageIndex, k: int = 1
) -> Bool[np.ndarray, "seed image"]:
    """Tell for each network and image whether the label is not among the k highest classes."""
    return np.stack(
        [is_top_k_error(table.read(n.column, images.image_ids), images.labels, k) for n in networks]
    )
