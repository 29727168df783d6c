"""Sub-classifiers: label clusters, and fine-tuning one network for each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ensemble.checkpoints.load import load_member
from ensemble.images.index import ImageIndex
from ensemble.images.split import Splits
from ensemble.members.member import Member
from ensemble.search.crossfit import stratified_folds
from ensemble.subclassifiers.embeddings import label_embeddings, why_no_base
from ensemble.subclassifiers.label_clusters import LabelClusters, label_clusters
from ensemble.subclassifiers.settings import PAPER_FINE_TUNING, SubclassifiersConfig
from ensemble.subclassifiers.similarity import LabelSimilarity, of_confusion, of_embeddings
from ensemble.table.logit_table import LogitTable
from ensemble.training.task import Stopping, TrainTask, hold_out
from jobs.run.job import Job
from jobs.run.predict import Predictions
from jobs.run.train import train_tasks


@dataclass(frozen=True)
class FineTuned:
    """Sub-classifiers of one number of label clusters, before anything was chosen.

    Attributes:
        num_clusters: S as the settings have it.
        clusters: Label clusters.
        subclassifiers: By the label cluster's index; none where fine-tuning failed.
        failures: Why it did, by the same index.
    """

    num_clusters: int
    clusters: LabelClusters
    subclassifiers: dict[int, Member]
    failures: dict[int, str]


@dataclass(frozen=True)
class Tuned:
    """Everything that was fine-tuned.

    Attributes:
        clusterings: One for each number of label clusters.
        control: The base after as much training on all classes; None if the settings want none.
    """

    clusterings: tuple[FineTuned, ...]
    control: Member | None

    @property
    def members(self) -> tuple[Member, ...]:
        """Every network once: equal label clusters share theirs."""
        networks = [
            network
            for clustering in self.clusterings
            for network in clustering.subclassifiers.values()
        ]
        if self.control is not None:
            networks.append(self.control)
        return tuple({network.column: network for network in networks}.values())


@dataclass(frozen=True)
class FineTuning:
    """The fine-tuning of one member, and what is left to choose with.

    Attributes:
        base: The member.
        stopping: Search images that it stopped on.
        choosing: Search images that everything else is chosen on.
        similarity: Similarity of the labels.
        tuned: The sub-classifiers.
    """

    base: Member
    stopping: ImageIndex
    choosing: ImageIndex
    similarity: LabelSimilarity
    tuned: Tuned


def halve(
    config: SubclassifiersConfig, search: ImageIndex, seed: int
) -> tuple[ImageIndex, ImageIndex]:
    """The search images that fine-tuning stops on, and those that everything else is chosen on.

    Two halves by class: an epoch picked for its answers to an image looks better on it than it is, so
    that image cannot say whether routing to the sub-classifier helps. Cross-fitting would fine-tune
    every sub-classifier once for each fold. Where nothing is stopped, all images serve both.
    """
    if config.patience is None:
        return search, search
    folds = stratified_folds(search.labels, 2, seed)
    return search.take(np.flatnonzero(folds == 0)), search.take(np.flatnonzero(folds == 1))


def measure_similarity(
    config: SubclassifiersConfig,
    base: Member,
    members: Sequence[Member],
    table: LogitTable,
    images: ImageIndex,
) -> LabelSimilarity:
    """Similarity of the labels as the settings say.

    Raises:
        ConfigError: It is to come from label embeddings, and a member has none.
    """
    if config.similarity == "confusion":
        rows = table.read(base.column, images.image_ids)
        return of_confusion(np.exp(rows.astype(np.float64)), images.labels)
    # Members that end in no linear layer have no label embeddings to compare.
    with_embeddings = [member for member in members if not why_no_base(member)]
    chosen = with_embeddings if config.similarity == "members" else (base,)
    return of_embeddings([label_embeddings(member) for member in chosen])


def find_label_clusters(
    config: SubclassifiersConfig, similarity: LabelSimilarity
) -> dict[LabelClusters, int]:
    """Find distinct label clusters, each with the first number of them in the settings."""
    clusterings: dict[LabelClusters, int] = {}
    for num_clusters in config.num_clusters:
        clusters = label_clusters(similarity.matrix, num_clusters, config)
        clusterings.setdefault(clusters, num_clusters)
    return clusterings


def fine_tune(
    job: Job,
    config: SubclassifiersConfig,
    base: Member,
    splits: Splits,
    stopping: ImageIndex,
    clusterings: dict[LabelClusters, int],
    predicted: Sequence[Member] = (),
) -> Tuned:
    """Fine-tune a sub-classifier for each distinct label cluster, and the control if wanted.

    Equal label clusters share theirs. The largest come first. One that fails does not stop the
    others. Workers that have none left to train predict what the table lacks of some members.
    """
    recipe = job.config.recipes[config.recipe] if config.recipe else PAPER_FINE_TUNING

    def task(classes: tuple[int, ...]) -> TrainTask:
        made = TrainTask.of_subclassifier(
            base,
            splits.train,
            classes,
            recipe,
            job.seed_of("sub-classifier", *classes),
            job.cache,
            Stopping(stopping, config.patience) if config.patience else None,
        )
        if made.stopping is None and recipe.validation is not None:
            seed = job.seed_of("validation", *classes)
            images, own = hold_out(made.images, recipe.validation, seed)
            made = replace(made, images=images, stopping=own)
        return replace(made, reading=job.reading, checkpoint_s=job.config.training.checkpoint_s)

    tasks = {classes: task(classes) for clusters in clusterings for classes in clusters}
    all_classes = tuple(range(len(base.classes)))
    if config.control:
        tasks[all_classes] = replace(task(all_classes), name=f"{base.name}/all")
    ordered = sorted(tasks.values(), key=lambda t: (-len(t.images), t.key))
    failures = train_tasks(job, "fine-tune", splits, ordered, may_fail=True, predicted=predicted)

    def load(t: TrainTask) -> Member:
        member = load_member(
            t.name, t.checkpoint, base.views, job.data_sha256, trust_code=job.trust_code
        )
        return replace(member, precision=base.precision)

    networks = {classes: load(t) for classes, t in tasks.items() if t.name not in failures}
    return Tuned(
        tuple(
            FineTuned(
                num_clusters,
                clusters,
                {n: networks[classes] for n, classes in enumerate(clusters) if classes in networks},
                {
                    n: failures[tasks[classes].name]
                    for n, classes in enumerate(clusters)
                    if classes not in networks
                },
            )
            for clusters, num_clusters in clusterings.items()
        ),
        networks.get(all_classes) if config.control else None,
    )


def fine_tune_base(
    job: Job, config: SubclassifiersConfig, base: Member, predictions: Predictions
) -> FineTuning:
    """Find label clusters on one half of the search images, and fine-tune a base for each of them."""
    splits = predictions.splits
    stopping, choosing = halve(config, splits.search, job.config.seed)
    with job.progress.stage("label clusters"):
        similarity = measure_similarity(config, base, predictions.members, job.table, stopping)
        clusterings = find_label_clusters(config, similarity)
    tuned = fine_tune(job, config, base, splits, stopping, clusterings, predictions.predicted)
    return FineTuning(base, stopping, choosing, similarity, tuned)
