"""The run that a stage is: its settings are a config that a YAML file can hold, and train the variants' recipes."""

from pathlib import Path

import pytest
import yaml

from ensemble.config import check
from ensemble.errors import ConfigError
from ensemble.members.source_settings import RecipeSource
from jobs.settings import RunConfig
from jobs.study.settings import StageConfig, StudyConfig, load_study
from jobs.study.stage import check_views, run_settings
from jobs.study.variants import BASE, list_variants, make_variant


@pytest.fixture
def study(tmp_path: Path) -> StudyConfig:
    return load_study("pyramidnet", ["scale=small", f"runs={tmp_path}", "cluster.hosts=1"])


def test_settings_of_a_run_survive_yaml_and_train_every_variant_with_its_seed(
    study: StudyConfig,
) -> None:
    variants = list_variants(make_variant(BASE, study.base), study.stages[0])
    members = {f"{v.name}-seed{seed}": (v, seed) for v in variants for seed in range(2)}
    settings = run_settings(study, "run", members)
    config = check(RunConfig, yaml.safe_load(yaml.safe_dump(settings)), "the test")
    assert (config.images, config.cluster.hosts, config.seed) == (study.images, 1, study.seed)
    for member in config.members:
        variant, seed = members[member.name]
        assert isinstance(member.source, RecipeSource)
        assert config.recipes[member.source.recipe] == variant.recipe
        assert (member.source.architecture, member.source.seed) == (variant.architecture, seed)


def test_views_that_are_kept_apart_are_refused(study: StudyConfig) -> None:
    views = {"kind": "shifts_and_scales", "keep_views": True}
    changed = check(StudyConfig, study.model_dump() | {"views": views}, "the test")
    with pytest.raises(ConfigError, match="one prediction of each network"):
        check_views(changed)


def test_networks_that_others_start_from_are_in_the_run_even_where_they_are_no_row(
    study: StudyConfig,
) -> None:
    base = make_variant(BASE, study.base)
    take = {"start": "base", "take": {"first": 1}, "views": {"kind": "flip"}}
    variants = {"deep": {"architecture": "resnet20_cifar", **take}}
    stage = StageConfig.model_validate({"name": "s", "variants": variants})
    (_, deep) = list_variants(base, stage)
    for members in ({"deep-seed1": (deep, 1)}, {"base-seed1": (base, 1), "deep-seed1": (deep, 1)}):
        config = check(RunConfig, run_settings(study, "run", members), "the test")
        by_name = {member.name: member for member in config.members}
        assert len(by_name) == 2
        source = by_name["deep-seed1"].source
        assert isinstance(source, RecipeSource)
        assert source.start is not None
        started_from = by_name[source.start.name].source  # type: ignore[union-attr]
        assert isinstance(started_from, RecipeSource)
        assert (started_from.architecture, started_from.seed) == (base.architecture, 1)
        assert by_name["deep-seed1"].views is not None
