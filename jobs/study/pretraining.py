"""Trainings on other images, which rows of a study can start from."""

from dataclasses import replace

from rich.console import Console

from ensemble.config import check
from ensemble.errors import ConfigError
from ensemble.members.identity import fingerprint
from jobs.run.job import RunOptions
from jobs.run.open import open_job
from jobs.settings import RunConfig
from jobs.stored_runs.layout import open_run_folder
from jobs.study.networks import train_networks
from jobs.study.settings import PRETRAINED, PretrainingConfig, StudyConfig, VariantConfig
from jobs.study.stage import run_settings
from jobs.study.variants import BASE, Variant, make_variant


def make_pretrained(study: StudyConfig, pretraining: PretrainingConfig) -> Variant:
    """Make what is trained on the other images: the base of the study, with the changes of the recipe.

    Raises:
        ConfigError: The recipe that results is not valid.
    """
    base = make_variant(BASE, study.base)
    variant = make_variant(PRETRAINED, base.settings, VariantConfig(recipe=pretraining.recipe))
    return replace(variant, other_images=fingerprint(pretraining.images.model_dump(mode="json")))


def pretrain(
    study: StudyConfig,
    pretraining: PretrainingConfig,
    name: str,
    console: Console,
    options: RunOptions,
) -> Variant:
    """Train networks on other images than those of the study, which rows of it can start from.

    Args:
        study: The study.
        pretraining: The other images.
        name: Name of the run's folder.
        console: Where progress goes.
        options: How this attempt behaves.

    Returns:
        The variant with the checkpoint of each seed.

    Raises:
        ProjectError: The images or the cluster cannot be used, or a training fails.
    """
    variant = make_pretrained(study, pretraining)
    members = {f"{variant.name}-seed{seed}": (variant, seed) for seed in range(study.seeds)}
    elsewhere = study.model_copy(update={"images": pretraining.images})
    config = check(RunConfig, run_settings(elsewhere, name, members), f"the run {name}")
    with open_job(config, open_run_folder(config, name), console, options) as job:
        tasks, reasons = train_networks(job, ())
    if reasons:
        raise ConfigError(f"pretraining has no weights: {next(iter(reasons.values()))}")
    return replace(variant, weights=tuple(tasks[member].checkpoint for member in members))
