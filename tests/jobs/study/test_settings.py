"""Studies as settings: scales, merged groups, rows of a stage, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from ensemble.errors import ConfigError, UnknownNameError
from ensemble.members.identity import fingerprint
from ensemble.members.source_settings import TakeConfig
from ensemble.models import registry
from jobs.study.averages import check_averages, count_averages
from jobs.study.settings import (
    _EXECUTION_ONLY,
    StageConfig,
    VariantConfig,
    load_study,
    merge,
    study_name,
)
from jobs.study.variants import count_parameters, list_variants, make_variant

STUDY = """
images: {source: {kind: digits}, split: {train: 60, search: 80, test: 60}}
base: {architecture: resnet14_small, recipe: {epochs: 4, optimizer: {kind: sgd, lr: 0.1}}}
stages:
  - name: first
    variants: {longer: {recipe: {epochs: 8}}}
scales:
  small: {seeds: 1, base: {recipe: {epochs: 2}}}
"""
BASE = make_variant("base", VariantConfig(architecture="resnet14_small", recipe={"epochs": 4}))


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


def test_a_stage_has_variants_or_subclassifiers_and_these_keep_the_base() -> None:
    clusters = {"num_clusters": [3]}
    stage = StageConfig.model_validate({"name": "s", "subclassifiers": clusters})
    assert stage.keeps_base
    assert [row.name for row in list_variants(BASE, stage)] == ["base"]
    with pytest.raises(ValueError, match="both variants and subclassifiers"):
        StageConfig.model_validate(
            {"name": "s", "subclassifiers": clusters, "variants": {"v": {"recipe": {"epochs": 1}}}}
        )


@pytest.mark.parametrize("name", ["base", "pretrained"])
def test_names_with_a_meaning_of_their_own_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"calls a variant '{name}'"):
        StageConfig.model_validate({"name": "s", "variants": {name: {"recipe": {"epochs": 1}}}})


def test_a_row_that_starts_from_other_images_needs_pretraining() -> None:
    stage = StageConfig(name="s", variants={"tuned": VariantConfig(start="pretrained")})
    with pytest.raises(ConfigError, match="the study has no pretraining"):
        list_variants(BASE, stage)
    other = replace(BASE, name="pretrained", other_images="others")
    (base, tuned) = list_variants(BASE, stage, other)
    assert (base.start, tuned.start) == (None, other)
    assert len({base.identity, tuned.identity, other.identity}) == 3
    assert tuned.why_no_start is None
    variants = {
        "wide": VariantConfig(architecture="wide_resnet10_2", start="pretrained"),
        "first": VariantConfig(
            architecture="wide_resnet10_2", start="pretrained", take=TakeConfig(first=1)
        ),
    }
    (_, wide, first) = list_variants(BASE, StageConfig(name="s", variants=variants), other)
    assert "starts from are resnet14_small; set take" in str(wide.why_no_start)
    assert first.why_no_start is None


@pytest.mark.parametrize(
    ("averages", "message"),
    [
        ({"base": {"base": 2}}, "has a row named 'base'"),
        ({"few": {}}, "is of no row"),
        ({"two": {"bas": 2}}, "base"),
        ({"six": {"base": 6}}, "seeds is 5"),
    ],
)
def test_averages_that_cannot_be_had_are_refused(
    averages: dict[str, dict[str, int]], message: str
) -> None:
    longer = VariantConfig(recipe={"epochs": 8})
    stage = StageConfig(name="s", variants={"longer": longer}, averages=averages)
    with pytest.raises(ConfigError, match=message):
        check_averages(stage, list_variants(BASE, stage), 5)


def test_averages_share_no_network() -> None:
    assert count_averages({"base": 5}, 15) == 3
    assert count_averages({"base": 5, "longer": 2}, 15) == 3
    assert count_averages({"base": 2, "longer": 5}, 14) == 2


def test_a_wrong_setting_of_a_variant_is_named() -> None:
    stage = StageConfig(name="s", variants={"v": VariantConfig(recipe={"epoch": 1})})
    with pytest.raises(ConfigError, match="the recipe of 'v'"):
        list_variants(BASE, stage)


def test_a_study_that_is_not_there_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="study"):
        load_study("piramidnet")


def test_options_of_a_network_are_put_onto_those_of_the_base_but_not_onto_another_network() -> None:
    base = make_variant(
        "base", VariantConfig(architecture="pyramidnet20", network={"activation": "selu"})
    )
    assert base.architecture == "pyramidnet20:activation=selu"
    stage = StageConfig(
        name="s",
        variants={"other": VariantConfig(architecture="vgg11_small")},
        grid={"network.depth": (20, 26), "network.alpha": (8, 4.75)},
    )
    rows = {row.name: row.architecture for row in list_variants(base, stage)}
    assert rows["other"] == "vgg11_small"
    assert rows["depth26-alpha4.75"] == "pyramidnet20:activation=selu,alpha=4.75,depth=26"
    assert len(rows) == 6


def test_a_row_starts_from_another_one_and_its_own_variants_start_there_too() -> None:
    variants = {
        "deep": VariantConfig(
            architecture="resnet20_cifar", start="base", take=TakeConfig(first=3)
        ),
        "deeper-rate": VariantConfig(recipe={"epochs": 6}, start="deep"),
        "fresh": VariantConfig(architecture="resnet20_cifar", start="fresh"),
    }
    rows = {v.name: v for v in list_variants(BASE, StageConfig(name="s", variants=variants))}
    assert rows["deep"].start == rows["base"]
    assert rows["deeper-rate"].start == rows["deep"]
    assert rows["fresh"].start is None
    assert len({row.identity for row in rows.values()}) == 4
    longer = StageConfig(name="t", variants={"longer": VariantConfig(recipe={"epochs": 9})})
    (base, row) = list_variants(rows["deep"], longer)
    assert (base.name, base.identity) == ("base", rows["deep"].identity)
    assert (row.start, row.settings.take) == (rows["base"], TakeConfig(first=3))


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({"a": {"start": "b"}}, "no row of the stage 's' 'b'"),
        ({"a": {"start": "b"}, "b": {"start": "a"}}, "start from each other"),
        ({"a": {"network": {"width": "wide"}}}, "give a whole number"),
        ({"a": {"architecture": "torchvision/resnet18", "network": {"depth": 3}}}, "no options"),
    ],
)
def test_a_row_that_cannot_be_is_refused(variants: dict[str, object], message: str) -> None:
    stage = StageConfig.model_validate({"name": "s", "variants": variants})
    with pytest.raises(ConfigError, match=message):
        list_variants(BASE, stage)


def test_take_without_start_and_a_base_without_fresh_weights_are_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="set start to the name of a row"):
        VariantConfig(take=TakeConfig(first=1))
    with pytest.raises(
        ConfigError, match=r"base\.adds_validation and base\.start are for variants"
    ):
        load_study(str(path), ["base.adds_validation=true"])


def test_a_study_that_uses_no_later_setting_keeps_its_name(path: Path) -> None:
    plain = load_study(str(path)).model_dump(mode="json", exclude=_EXECUTION_ONLY)
    for name in ("search", "groups", "k", "pretraining"):
        del plain[name]
    for name in ("subclassifiers", "averages"):
        del plain["stages"][0][name]
    for variant in (plain["base"], *plain["stages"][0]["variants"].values()):
        for name in ("network", "start", "take", "views", "adds_validation"):
            del variant[name]
    assert load_study(str(path)).identity == fingerprint(plain)
