"""Studies as settings: scales, merged groups, rows of a stage, and what is refused."""

from pathlib import Path

import pytest

from ensemble.errors import ConfigError, UnknownNameError
from ensemble.models import registry
from jobs.study.settings import StageConfig, VariantConfig, load_study, merge, study_name
from jobs.study.variants import count_parameters, list_variants

STUDY = """
images: {source: {kind: digits}, split: {train: 60, search: 80, test: 60}}
base: {architecture: resnet14_small, recipe: {epochs: 4, optimizer: {kind: sgd, lr: 0.1}}}
stages:
  - name: first
    variants: {longer: {recipe: {epochs: 8}}}
scales:
  small: {seeds: 1, base: {recipe: {epochs: 2}}}
"""
BASE = VariantConfig(architecture="resnet14_small", recipe={"epochs": 4})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "my study.yaml").write_text(STUDY)
    return tmp_path / "my study.yaml"


def test_a_group_keeps_settings_unless_its_kind_is_another() -> None:
    base = {"optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.5}, "epochs": 3}
    assert merge(base, {"optimizer": {"lr": 0.2}})["optimizer"] == {
        "kind": "sgd",
        "lr": 0.2,
        "momentum": 0.5,
    }
    other = {"kind": "adamw", "lr": 0.01}
    assert merge(base, {"optimizer": other}) == {"optimizer": other, "epochs": 3}


def test_words_hold_over_the_scale_and_the_scale_over_the_file(path: Path) -> None:
    config = load_study(str(path), ["scale=small", "seeds=2"])
    assert (config.seeds, config.base.recipe["epochs"], config.scale) == (2, 2, "small")
    assert config.base.recipe["optimizer"] == {"kind": "sgd", "lr": 0.1}
    assert load_study(str(path)).base.recipe["epochs"] == 4


def test_what_changes_no_result_does_not_change_the_name(path: Path) -> None:
    name = study_name(load_study(str(path)), path.stem)
    assert name.startswith("my-study-")
    assert study_name(load_study(str(path), ["cluster.hosts=1", "runs=x"]), path.stem) == name
    assert study_name(load_study(str(path), ["seeds=5"]), path.stem) != name


def test_a_grid_has_every_combination_but_the_base_itself() -> None:
    grid = {"recipe.epochs": (4, 5), "recipe.label_smoothing": (0.0, 0.1)}
    rows = list_variants(BASE, StageConfig(name="s", grid=grid))
    settings = [(row.recipe.epochs, row.recipe.label_smoothing) for row in rows]
    assert settings == [(4, 0.0), (4, 0.1), (5, 0.0), (5, 0.1)]
    assert rows[0].name == "base"
    assert len({row.identity for row in rows}) == 4


@pytest.mark.parametrize("architecture", ["mobilenet_v2_small", "pyramidnet110_a48"])
def test_parameters_are_those_of_the_registry(architecture: str) -> None:
    assert count_parameters(architecture, 10) == registry.ARCHITECTURES[architecture].parameters


def test_a_stage_without_variants_is_refused() -> None:
    with pytest.raises(ValueError, match="has no variant"):
        StageConfig(name="s")


def test_a_wrong_setting_of_a_variant_is_named() -> None:
    stage = StageConfig(name="s", variants={"v": VariantConfig(recipe={"epoch": 1})})
    with pytest.raises(ConfigError, match="the recipe of 'v'"):
        list_variants(BASE, stage)


def test_a_study_that_is_not_there_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="study"):
        load_study("piramidnet")
