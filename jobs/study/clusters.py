"""A stage of sub-classifiers: label clusters of each seed's base, their networks, and how they compare with it.

Source: P2. S and the threshold of the gate are chosen on the validation split, as there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool
from rich.console import Console

from ensemble.config import check
from ensemble.evaluation.outcome import evaluate
from ensemble.images.index import ImageIndex
from ensemble.members.member import Member
from ensemble.outranking.fixed_point import WEIGHT_UNITS
from ensemble.outranking.weighting import Weighting
from ensemble.report.build.curves import read_training_seconds
from ensemble.report.build.subclassifiers import build_clustered_labels
from ensemble.report.documents.study import StudyClusters
from ensemble.subclassifiers.answers import evaluate_routed
from ensemble.subclassifiers.label_clusters import label_clusters
from ensemble.subclassifiers.route import FittedRouting
from ensemble.subclassifiers.settings import SubclassifiersConfig
from jobs.run.job import Job, RunOptions
from jobs.run.open import open_job
from jobs.run.predict import fill_table
from jobs.run.routing import choose_routing
from jobs.run.subclassifiers import (
    Tuned,
    find_label_clusters,
    fine_tune,
    halve,
    measure_similarity,
)
from jobs.settings import RunConfig
from jobs.stored_runs.layout import open_run_folder
from jobs.study.label_clusters import TOP_K, Routed, group_of_classes, summarise
from jobs.study.networks import Trained, train_and_predict, wrong_answers
from jobs.study.rows import TrainedRow, judge_row, without_answers
from jobs.study.settings import ClustersConfig, StudyConfig, merge
from jobs.study.stage import run_settings
from jobs.study.variants import Variant

CONTROL = "base-trained-on"
_FINE_TUNING = "fine-tuning"


@dataclass(frozen=True)
class ClustersStage:
    """A stage of sub-classifiers that is done.

    Attributes:
        rows: The base; the base trained on, if the settings want it; and a row for each number of label clusters.
        parameters: Parameters of all networks of a row, by its name.
        clusters: Accuracies and label clusters, for each number of them; none where the base has no figures.
    """

    rows: tuple[TrainedRow, ...]
    parameters: dict[str, int]
    clusters: tuple[StudyClusters, ...]


@dataclass(frozen=True)
class _OfSeed:
    """What became of the base of one seed.

    Attributes:
        base_wrong: Whether the base errs on each validation image that the gates were chosen on.
        control: The base after as much training on all classes; None without one.
        control_wrong: Whether it errs on the validation images and on the test images.
        routed: What was routed, or why it could not be, for each number of label clusters.
    """

    base_wrong: Bool[np.ndarray, " image"]
    control: Member | None
    control_wrong: tuple[np.ndarray, np.ndarray] | None
    routed: tuple[Routed | str, ...]


def row_name(num_clusters: int) -> str:
    """Name the row of a number of label clusters."""
    return f"{num_clusters}-clusters"


def run_clusters(
    study: StudyConfig,
    config: ClustersConfig,
    name: str,
    base: Variant,
    console: Console,
    options: RunOptions,
) -> ClustersStage:
    """Train and predict what is not there yet: the base of each seed, and the sub-classifiers of each.

    Args:
        study: The study.
        config: The sub-classifiers.
        name: Name of the run's folder.
        base: The base of the stage.
        console: Where progress goes.
        options: How this attempt behaves.

    Raises:
        ProjectError: The images, the table or the cluster cannot be used, or the base cannot be fine-tuned.
    """
    members = {f"{base.name}-seed{seed}": (base, seed) for seed in range(study.seeds)}
    settings = run_settings(study, name, members)
    settings["recipes"][_FINE_TUNING] = merge(base.settings.recipe, config.recipe)
    settings["subclassifiers"] = _settings_of(config, next(iter(members)))
    run_config = check(RunConfig, settings, f"the run {name}")
    with open_job(run_config, open_run_folder(run_config, name), console, options) as job:
        trained = train_and_predict(job, members)
        base_row = judge_row(job, trained, base, list(members), study.k)
        if base_row.reason is not None:
            return ClustersStage((base_row,), {}, ())
        seeds = [_fine_tune_seed(job, config, trained, name, study.k) for name in members]
        network = trained.networks[next(iter(members))]
        parameters = {base.name: network.parameters}
        base_row = replace(base_row, wrong_validation=np.stack([s.base_wrong for s in seeds]))
        rows = [base_row]
        if config.control:
            rows.append(_control_row(base, seeds))
            parameters[CONTROL] = network.parameters
        groups = group_of_classes(study.groups, job.splits.test.classes) if study.groups else None
        clusters = []
        for number, num_clusters in enumerate(config.num_clusters):
            row = replace(base, name=row_name(num_clusters))
            routed = [seed.routed[number] for seed in seeds]
            done = [one for one in routed if isinstance(one, Routed)]
            if len(done) < len(routed):
                reason = next(one for one in routed if isinstance(one, str))
                rows.append(without_answers(row, reason, len(done)))
                parameters[row.name] = network.parameters
                continue
            rows.append(_routed_row(row, done))
            parameters[row.name] = done[0].parameters
            clusters.append(summarise(num_clusters, done, groups))
    return ClustersStage(tuple(rows), parameters, tuple(clusters))


def _settings_of(config: ClustersConfig, base_name: str) -> dict[str, object]:
    """Give the settings of sub-classifiers as a run has them: the paper's gate and routing."""
    return {
        "num_clusters": list(config.num_clusters),
        "base": base_name,
        "recipe": _FINE_TUNING,
        "patience": config.patience,
        "control": config.control,
        "gates": ["entropy"],
        "routings": ["hard"],
    }


def _fine_tune_seed(
    job: Job, config: ClustersConfig, trained: Trained, name: str, k: int
) -> _OfSeed:
    """Cluster the labels of one base, fine-tune its sub-classifiers, and judge them."""
    base, splits = trained.networks[name], trained.splits
    settings = check(SubclassifiersConfig, _settings_of(config, name), name)
    stopping, choosing = halve(settings, splits.search, job.config.seed)
    similarity = measure_similarity(settings, base, [base], job.table, stopping)
    tuned = fine_tune(
        job, settings, base, splits, stopping, find_label_clusters(settings, similarity)
    )
    fill_table(job, "predict with sub-classifiers", tuned.members, splits)
    base_outcome = evaluate(job.table, [base], splits.test, {})[base.name]
    weighting = Weighting(np.array([WEIGHT_UNITS]))
    routed = list[Routed | str]()
    for num_clusters in config.num_clusters:
        found = label_clusters(similarity.matrix, num_clusters, settings)
        one = next(c for c in tuned.clusterings if c.clusters == found)
        if one.failures:
            routed.append(f"a sub-classifier has no weights: {next(iter(one.failures.values()))}")
            continue
        clustered = choose_routing(job, settings, [base], weighting, choosing, similarity, one, k)
        fitted = FittedRouting(clustered.paper, clustered.subclassifiers, weighting)
        on_validation, _ = evaluate_routed(job.table, [base], choosing, fitted)
        on_test, is_routed = evaluate_routed(job.table, [base], splits.test, fitted)
        networks = list(clustered.subclassifiers.values())
        routed.append(
            Routed(
                build_clustered_labels(job.table, clustered, base, base_outcome, splits, TOP_K),
                on_validation.is_error(k),
                on_test.is_error(k),
                is_routed,
                base.parameters + sum(network.parameters for network in networks),
                sum(read_training_seconds(networks).values()),
            )
        )
    return _OfSeed(
        base_wrong=wrong_answers(job.table, [base], choosing, k)[0],
        control=tuned.control,
        control_wrong=_judge_control(job, tuned, choosing, splits.test, k),
        routed=tuple(routed),
    )


def _judge_control(
    job: Job, tuned: Tuned, choosing: ImageIndex, test: ImageIndex, k: int
) -> tuple[np.ndarray, np.ndarray] | None:
    if tuned.control is None:
        return None
    on_choosing, on_test = (
        wrong_answers(job.table, [tuned.control], images, k)[0] for images in (choosing, test)
    )
    return on_choosing, on_test


def _control_row(base: Variant, seeds: Sequence[_OfSeed]) -> TrainedRow:
    row = replace(base, name=CONTROL)
    networks = [seed.control for seed in seeds if seed.control is not None]
    wrong = [seed.control_wrong for seed in seeds if seed.control_wrong is not None]
    if len(wrong) < len(seeds):
        return without_answers(row, "the training failed; progress tells why.", len(wrong))
    return TrainedRow(
        row,
        None,
        np.stack([on_validation for on_validation, _ in wrong]),
        np.stack([on_test for _, on_test in wrong]),
        float(np.mean([sum(read_training_seconds([n]).values()) for n in networks])),
        len(wrong),
    )


def _routed_row(row: Variant, routed: Sequence[Routed]) -> TrainedRow:
    return TrainedRow(
        row,
        None,
        np.stack([one.wrong_validation for one in routed]),
        np.stack([one.wrong_test for one in routed]),
        float(np.mean([one.seconds for one in routed])),
        len(routed),
    )
