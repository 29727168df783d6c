"""The job of a study: one stage after the other, the winner of each the base of the next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from rich.console import Console

from ensemble.errors import ConfigError
from ensemble.files import write_atomic
from ensemble.images.open import open_source
from ensemble.images.settings import describe_source
from ensemble.images.split import Splits, split
from ensemble.report.documents.study import (
    StudyClusters,
    StudyReport,
    StudyStage,
)
from ensemble.report.pages.study import render
from jobs.run.job import RunOptions
from jobs.study.averages import check_averages
from jobs.study.clusters import run_clusters
from jobs.study.judge import judge_stage
from jobs.study.label_clusters import check_clusters
from jobs.study.pretraining import make_pretrained, pretrain
from jobs.study.rows import TrainedRow, without_answers
from jobs.study.settings import PRETRAINED, StageConfig, StudyConfig
from jobs.study.stage import check_views, run_settings, run_stage
from jobs.study.variants import BASE, Variant, count_parameters, list_variants, make_variant

STUDY, PAGE, FINAL, NETWORKS = "study.json", "study.html", "final.yaml", "networks.yaml"


@dataclass(frozen=True)
class Study:
    """A study that is done.

    Attributes:
        report: What it found.
        folder: Folder with study.json, study.html, final.yaml and networks.yaml.
    """

    report: StudyReport
    folder: Path

    @property
    def page(self) -> Path:
        """The page made from the report."""
        return self.folder / PAGE


def run_study(config: StudyConfig, name: str, console: Console, options: RunOptions) -> Study:
    """Do a whole study, computing only what is not there yet.

    Each stage is a run of its own beside the study's folder, so that a study goes on as a run does and a
    network that several stages share is trained once.

    Args:
        config: The settings.
        name: Name of the study's folder.
        console: Where progress goes.
        options: How this attempt behaves.

    Raises:
        ProjectError: A setting does not fit, the base of a stage cannot be trained, or the cluster fails.
    """
    check_views(config)
    source = open_source(config.images.source)
    splits = split(source.index(), config.images.split, config.seed)
    _check_settings(config, splits.train.classes)
    folder = config.runs / name
    base, stages = make_variant(BASE, config.base), list[StudyStage]()
    pretrained = None
    if config.pretraining is not None:
        run_name = f"{name}.{PRETRAINED}"
        pretrained = pretrain(config, config.pretraining, run_name, console, options)
    networks = dict[str, tuple[Variant, int]]()
    seen = set[str]()
    for stage in config.stages:
        variants = list_variants(base, stage, pretrained)
        rows, table = _do_stage(
            config, f"{name}.{stage.name}", stage, variants, splits.train.classes, console, options
        )
        stages.append(table)
        for row in rows:
            # What was trained on the validation split cannot be searched on it, and averages are no networks.
            is_left_out = row.variant.settings.adds_validation or row.average_of
            if row.reason is None and not is_left_out and row.variant.identity not in seen:
                seen.add(row.variant.identity)
                for seed in range(config.seeds):
                    networks[f"{stage.name}.{row.variant.name}-seed{seed}"] = (row.variant, seed)
        if not stage.keeps_base:
            winner = table.winner.name
            base = next(v for v in variants if v.name == winner)
        report = _report(config, name, splits, stages)
        write_atomic(folder / STUDY, report.model_dump_json(indent=2) + "\n")
        write_atomic(folder / PAGE, render(report))
    _write_configs(config, name, folder, base, networks)
    return Study(report, folder)


def _check_settings(config: StudyConfig, classes: Sequence[str]) -> None:
    """Refuse wrong settings of any stage before anything is trained.

    Later stages may have another base, so each is checked on the first one.
    """
    pretrained = make_pretrained(config, config.pretraining) if config.pretraining else None
    for stage in config.stages:
        variants = list_variants(make_variant(BASE, config.base), stage, pretrained)
        for variant in variants:
            count_parameters(variant.architecture, len(classes))
        check_averages(stage, variants, config.seeds)
        if stage.subclassifiers is not None:
            check_clusters(config, stage.subclassifiers, classes)


def _do_stage(
    config: StudyConfig,
    run_name: str,
    stage: StageConfig,
    variants: Sequence[Variant],
    classes: tuple[str, ...],
    console: Console,
    options: RunOptions,
) -> tuple[tuple[TrainedRow, ...], StudyStage]:
    """Train and judge the rows of a stage.

    Raises:
        ConfigError: The base has no figures.
    """
    counts = {v.name: count_parameters(v.architecture, len(classes)) for v in variants}
    clusters = tuple[StudyClusters, ...]()
    if stage.subclassifiers is not None:
        done = run_clusters(config, stage.subclassifiers, run_name, variants[0], console, options)
        rows, clusters, counts = done.rows, done.clusters, counts | done.parameters
    else:
        rows = _train_what_can_be(
            config, run_name, variants, stage.averages, counts, console, options
        )
        counts |= {
            average: sum(number * counts[row] for row, number in parts.items())
            for average, parts in stage.averages.items()
        }
    if rows[0].reason is not None:
        raise ConfigError(
            f"the base of the stage {stage.name!r} has no figures: {rows[0].reason} Nothing can be compared "
            "with it; change base, or the stage that chose it."
        )
    table = judge_stage(config, stage, rows, counts)
    if stage.subclassifiers is not None:
        more = {"clusters": clusters, "groups": tuple(config.groups), "classes": classes}
        table = table.model_copy(update=more)
    return rows, table


def _train_what_can_be(
    config: StudyConfig,
    run_name: str,
    variants: Sequence[Variant],
    averages: Mapping[str, Mapping[str, int]],
    counts: Mapping[str, int],
    console: Console,
    options: RunOptions,
) -> tuple[TrainedRow, ...]:
    """Train the variants that are within the parameter budget and can start; the others are rows with a reason."""
    budget = config.max_parameters
    if budget is not None and counts[variants[0].name] > budget:
        raise ConfigError(
            f"the base has {counts[variants[0].name]:,} parameters, and max_parameters is {budget:,}. Take a "
            "smaller base.architecture, or raise max_parameters."
        )
    reasons = dict[str, str]()
    for variant in variants:
        if budget is not None and counts[variant.name] > budget:
            reasons[variant.name] = (
                f"not trained: {counts[variant.name]:,} parameters, and the budget is {budget:,}."
            )
        elif why := variant.why_no_start:
            reasons[variant.name] = f"not trained: {why}"
    ready = [variant for variant in variants if variant.name not in reasons]
    trained = run_stage(config, run_name, ready, averages, console, options)
    by_name = {row.variant.name: row for row in trained}
    rows = tuple(
        without_answers(v, reasons[v.name]) if v.name in reasons else by_name[v.name]
        for v in variants
    )
    return (*rows, *(by_name[name] for name in averages))


def _report(
    config: StudyConfig, name: str, splits: Splits, stages: Sequence[StudyStage]
) -> StudyReport:
    return StudyReport(
        name=name,
        scale=config.scale,
        images=describe_source(config.images.source),
        validation_images=len(splits.search),
        test_images=len(splits.test),
        seeds=config.seeds,
        max_parameters=config.max_parameters,
        k=config.k,
        resamples=config.resamples,
        stages=tuple(stages),
    )


def _write_configs(
    config: StudyConfig,
    name: str,
    folder: Path,
    base: Variant,
    networks: Mapping[str, tuple[Variant, int]],
) -> None:
    """Write the recipe of the final model, and the pool of all networks, as configs of runs."""
    final = replace(base, name="final")
    members = {f"final-seed{seed}": (final, seed) for seed in range(config.seeds)}
    for file, title, pool in (
        (FINAL, "The model that the study ends with, once for each seed", members),
        (NETWORKS, "Every network of the study", dict(networks)),
    ):
        settings = run_settings(config, f"{name}.{Path(file).stem}", pool)
        if file == NETWORKS and config.search is not None:
            settings["search"] = config.search.model_dump(mode="json", exclude_unset=True)
        head = f"# {title}: `ensemble run` of it trains and predicts nothing again.\n"
        write_atomic(folder / file, head + yaml.safe_dump(settings, sort_keys=False))
