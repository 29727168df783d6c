"""The run that a stage is: its settings are a config that a YAML file can hold, and train the variants' recipes."""

from pathlib import Path

import pytest
import yaml

from ensemble.config import check
from ensemble.errors import ConfigError
from ensemble.members.source_settings import RecipeSource
from jobs.settings import RunConfig
from jobs.study.settings import StudyConfig, load_study
from jobs.study.stage import check_views, run_settings
from jobs.study.variants import list_variants


@pytest.fixture
def study(tmp_path: Path) -> StudyConfig:
    return load_study("pyramidnet", ["scale=small", f"runs={tmp_path}", "cluster.hosts=1"])


def test_settings_of_a_run_survive_yaml_and_train_every_variant_with_its_seed(
    study: StudyConfig,
) -> None:
    variants = list_variants(study.base, study.stages[0])
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
