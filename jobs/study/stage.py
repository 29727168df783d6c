"""One stage of a study: train its networks on the pool, predict, and tell which answers are wrong."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from ensemble.config import check
from ensemble.errors import ConfigError
from jobs.run.job import RunOptions
from jobs.run.open import open_job
from jobs.settings import RunConfig
from jobs.stored_runs.layout import open_run_folder
from jobs.study.averages import average_row
from jobs.study.networks import train_and_predict
from jobs.study.rows import TrainedRow, judge_row
from jobs.study.settings import StudyConfig
from jobs.study.variants import Variant


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
        while start is not None and not start.weights and (start.identity, seed) not in there:
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
    if variant.start is not None and variant.start.weights:
        source["start"] = {"kind": "checkpoint", "path": str(variant.start.weights[seed])}
        source["new_head"] = True
    elif variant.start is not None:
        base = name_by_network[variant.start.identity, seed]
        source["start"] = {"kind": "member", "name": base}
    if variant.start is not None and "take" in settings:
        source["take"] = settings["take"]
    member = {"name": name, "source": source}
    return member | ({"views": settings["views"]} if "views" in settings else {})


def run_stage(
    study: StudyConfig,
    name: str,
    variants: Sequence[Variant],
    averages: Mapping[str, Mapping[str, int]],
    console: Console,
    options: RunOptions,
) -> tuple[TrainedRow, ...]:
    """Train and predict what is not there yet, with all seeds of all variants side by side.

    Args:
        study: The study.
        name: Name of the run's folder.
        variants: What is trained, the base first; a variant of which a training fails has a reason in place of
            answers.
        averages: Rows that average networks of others, by name, with the number of networks of each row.
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
        trained = train_and_predict(job, members)
        rows = []
        for variant in variants:
            names = [name for name, (owner, _) in members.items() if owner is variant]
            rows.append(judge_row(job, trained, variant, names, study.k))
        rows += [
            average_row(job, study, trained, variants[0], name, counts)
            for name, counts in averages.items()
        ]
    return tuple(rows)


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
