"""The job of a study: one stage after the other, the winner of each the base of the next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console

from ensemble.errors import ConfigError
from ensemble.files import write_atomic
from ensemble.images.open import open_source
from ensemble.images.settings import describe_source
from ensemble.images.split import Splits, split
from ensemble.report.documents.study import (
    SeedMean,
    StudyClusters,
    StudyReport,
    StudyRow,
    StudyStage,
)
from ensemble.report.pages.study import render
from ensemble.statistics import mean_sd
from jobs.run.job import RunOptions
from jobs.study.clusters import run_clusters
from jobs.study.compare import against_base, choose
from jobs.study.label_clusters import check_clusters
from jobs.study.settings import StageConfig, StudyConfig, VariantConfig
from jobs.study.stage import TrainedRow, check_views, run_settings, run_stage, without_answers
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
    num_classes = len(splits.train.classes)
    _check_settings(config, splits.train.classes)
    folder = config.runs / name
    base, stages = make_variant(BASE, config.base), list[StudyStage]()
    networks = dict[str, tuple[Variant, int]]()
    seen = set[str]()
    for stage in config.stages:
        variants = list_variants(base, stage)
        counts = {v.name: count_parameters(v.architecture, num_classes) for v in variants}
        run_name, clusters = f"{name}.{stage.name}", tuple[StudyClusters, ...]()
        if stage.subclassifiers is not None:
            done = run_clusters(
                config, stage.subclassifiers, run_name, variants[0], console, options
            )
            rows, clusters, counts = done.rows, done.clusters, counts | done.parameters
        else:
            rows = _train_within_budget(config, run_name, variants, counts, console, options)
        if rows[0].reason is not None:
            raise ConfigError(
                f"the base of the stage {stage.name!r} has no figures: {rows[0].reason} Nothing can be compared "
                "with it; change base, or the stage that chose it."
            )
        stages.append(_judge(config, stage, rows, counts))
        if stage.subclassifiers is not None:
            stages[-1] = stages[-1].model_copy(
                update={
                    "clusters": clusters,
                    "groups": tuple(config.groups),
                    "classes": splits.train.classes,
                }
            )
        for row in rows:
            # What was trained on the validation split cannot be searched on it.
            is_fair = not row.variant.settings.adds_validation
            if row.reason is None and is_fair and row.variant.identity not in seen:
                seen.add(row.variant.identity)
                for seed in range(config.seeds):
                    networks[f"{stage.name}.{row.variant.name}-seed{seed}"] = (row.variant, seed)
        if not stage.keeps_base:
            winner = stages[-1].winner.name
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
    for stage in config.stages:
        for variant in list_variants(make_variant(BASE, config.base), stage):
            count_parameters(variant.architecture, len(classes))
        if stage.subclassifiers is not None:
            check_clusters(config, stage.subclassifiers, classes)


def _train_within_budget(
    config: StudyConfig,
    run_name: str,
    variants: Sequence[Variant],
    counts: Mapping[str, int],
    console: Console,
    options: RunOptions,
) -> tuple[TrainedRow, ...]:
    """Train the variants that are within the parameter budget; the others are rows with a reason."""
    budget = config.max_parameters
    too_large = {v.name for v in variants if budget is not None and counts[v.name] > budget}
    if variants[0].name in too_large:
        raise ConfigError(
            f"the base has {counts[variants[0].name]:,} parameters, and max_parameters is {budget:,}. Take a "
            "smaller base.architecture, or raise max_parameters."
        )
    trained = run_stage(
        config, run_name, [v for v in variants if v.name not in too_large], console, options
    )
    by_name = {row.variant.name: row for row in trained}
    return tuple(
        without_answers(
            v, f"not trained: {counts[v.name]:,} parameters, and the budget is {budget:,}."
        )
        if v.name in too_large
        else by_name[v.name]
        for v in variants
    )


def _judge(
    config: StudyConfig,
    stage: StageConfig,
    rows: Sequence[TrainedRow],
    counts: Mapping[str, int],
) -> StudyStage:
    base = rows[0]
    judged = [row for row in rows if row.reason is None]
    fair = [row for row in judged if not row.variant.settings.adds_validation]
    choice = choose(np.stack([row.wrong_validation for row in fair]), config.resamples, config.seed)
    differences = dict(
        zip(
            (row.variant.name for row in judged[1:]),
            against_base(
                [row.wrong_test for row in judged[1:]],
                base.wrong_test,
                config.resamples,
                config.seed,
            ),
            strict=True,
        )
    )
    shares = {row.variant.name: float(s) for row, s in zip(fair, choice.shares, strict=True)}
    lines = []
    for row in rows:
        name, adds_validation = row.variant.name, row.variant.settings.adds_validation
        has_validation = row.reason is None and not adds_validation
        lines.append(
            StudyRow(
                name=name,
                architecture=row.variant.architecture,
                settings=_differing(base.variant.settings, row.variant.settings),
                parameters=counts[name],
                n=row.num_trained,
                reason=row.reason,
                adds_validation=adds_validation,
                validation=_seed_mean(row.wrong_validation) if has_validation else None,
                test=_seed_mean(row.wrong_test) if row.reason is None else None,
                seconds=row.seconds,
                against_base=differences.get(name),
                chosen_share=shares.get(name),
                is_winner=row is fair[choice.winner],
            )
        )
    curves = tuple(row.curve for row in rows if row.curve is not None)
    return StudyStage(
        name=stage.name, keeps_base=stage.keeps_base, rows=tuple(lines), curves=curves
    )


def _seed_mean(wrong: np.ndarray) -> SeedMean:
    mean = mean_sd(wrong.mean(axis=1).tolist())
    return SeedMean(mean=mean.mean, sd=mean.sd)


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


def _differing(base: VariantConfig, settings: VariantConfig) -> dict[str, str]:
    """List the settings that differ from the base's, by their full name."""
    before, after = (_flat(_set_values(s)) for s in (base, settings))
    return {
        key: str(value) for key, value in after.items() if key not in before or before[key] != value
    }


def _set_values(settings: VariantConfig) -> dict[str, Any]:
    document = settings.model_dump(mode="json", exclude_unset=True)
    return {key: value for key, value in document.items() if value not in (None, {}, False)}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = dict[str, Any]()
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
