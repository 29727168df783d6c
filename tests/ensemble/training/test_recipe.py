from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ensemble.training.optimizer_settings import AdamWConfig
from ensemble.training.recipe import RecipeConfig
from ensemble.training.schedule_settings import ConstantConfig, CosineConfig, MultiStepConfig
from ensemble.training.schedules import rate_factor


def test_recipe_reads_tagged_variants() -> None:
    recipe = RecipeConfig.model_validate(
        {
            "epochs": 9,
            "optimizer": {"kind": "adamw", "lr": 0.001},
            "schedule": {"kind": "multi_step", "milestones": [3, 6]},
            "augmentation": None,
        }
    )
    assert recipe.optimizer == AdamWConfig(lr=0.001)
    assert recipe.schedule == MultiStepConfig(milestones=(3, 6))
    assert recipe.augmentation is None


def test_recipe_survives_json() -> None:
    recipe = RecipeConfig(optimizer=AdamWConfig(), schedule=ConstantConfig())
    assert RecipeConfig.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": -1}, "greater than or equal to 0"),
        ({"batch_size": 1}, "greater than or equal to 2"),
        ({"input_size": 3}, "greater than or equal to 4"),
        ({"label_smoothing": 1.0}, "less than 1"),
        ({"optimizer": {"kind": "sgd", "lr": 0}}, "greater than 0"),
        ({"optimizer": {"kind": "sgd", "lr": float("nan")}}, "less than or equal to 10"),
        ({"optimizer": {"kind": "sgd", "lr": float("inf")}}, "less than or equal to 10"),
        ({"optimizer": {"kind": "sgd", "momentum": 0}}, "nesterov=true needs momentum"),
        ({"optimizer": {"kind": "lion"}}, "'sgd', 'adamw'"),
        ({"schedule": {"kind": "cosine", "warmup_fraction": 1.0}}, "less than 1"),
        ({"schedule": {"kind": "multi_step", "milestones": []}}, "at least 1"),
        ({"schedule": {"kind": "multi_step", "milestones": [6, 3]}}, "must ascend"),
        ({"schedule": {"kind": "multi_step", "milestones": [30]}}, "never reaches"),
        ({"augmentation": {"max_shift": 0.6}}, "less than or equal to 0.5"),
        ({"augmentation": {"min_scale": 0}}, "greater than 0"),
        ({"dropout": 0.5}, "Extra inputs"),
    ],
)
def test_bad_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RecipeConfig.model_validate(values)


@given(epochs=st.integers(1, 50), share=st.floats(0, 1), warmup=st.floats(0, 0.99))
def test_cosine_stays_between_zero_and_one(epochs: int, share: float, warmup: float) -> None:
    schedule = CosineConfig(warmup_fraction=warmup)
    assert 0 <= rate_factor(schedule, share * epochs, epochs) <= 1


def test_cosine_rises_to_the_peak_and_falls_to_zero() -> None:
    schedule = CosineConfig(warmup_fraction=0.2)
    factors = [rate_factor(schedule, epoch, 10) for epoch in (0.0, 1.0, 2.0, 6.0, 10.0)]
    assert factors == pytest.approx([0.0, 0.5, 1.0, 0.5, 0.0])


def test_multi_step_drops_at_its_milestones() -> None:
    schedule = MultiStepConfig(milestones=(3, 6), factor=0.1)
    factors = [rate_factor(schedule, epoch, 9) for epoch in (2.9, 3.0, 6.5)]
    assert factors == pytest.approx([1.0, 0.1, 0.01])


def test_constant_stays() -> None:
    assert rate_factor(ConstantConfig(), 7.0, 9) == 1.0


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"schedule": {"kind": "exponential"}, "colour": {"brightness": 0.1}},
        {"schedule": {"kind": "plateau"}, "optimizer": {"kind": "adamw"}},
    ],
)
def test_settings_that_came_later_leave_the_identity_of_a_recipe_without_them(
    values: dict[str, Any],
) -> None:
    identity = RecipeConfig.model_validate(values).identity()
    later = {"rule", "stage_epochs", "is_continuous", "floor", "warmup_epochs", "pca_sd"}
    groups = [value for value in identity.values() if isinstance(value, dict)]
    assert not any(later & group.keys() for group in groups)
    assert not {"noise_sd", "noise", "copies"} & identity.keys()


@pytest.mark.parametrize(
    ("values", "group", "name"),
    [
        ({"schedule": {"kind": "exponential", "floor": 0.1}}, "schedule", "floor"),
        ({"schedule": {"kind": "plateau", "warmup_epochs": 2}}, "schedule", "warmup_epochs"),
        ({"optimizer": {"kind": "sgd", "nesterov": False, "rule": "paper"}}, "optimizer", "rule"),
        ({"colour": {"pca_sd": 0.1}}, "colour", "pca_sd"),
    ],
)
def test_settings_that_came_later_count_where_they_are_used(
    values: dict[str, Any], group: str, name: str
) -> None:
    assert name in RecipeConfig.model_validate(values).identity()[group]
