import ast
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import ConfigError
from ensemble.images.index import ImageIndex
from ensemble.members.member import Member
from ensemble.training.recipe import RecipeConfig, ValidationConfig
from ensemble.training.task import CODE, LIBRARY, TrainTask, code_sha256, hold_out

MakeMember = Callable[..., Member]

IMAGES = ImageIndex(
    "made up", np.array(["a", "b", "c", "d"]), np.array([0, 1, 2, 1]), ("cat", "dog", "emu")
)


@pytest.fixture
def task(make_member: MakeMember) -> TrainTask:
    return TrainTask(
        name="mine",
        architecture="alexnet_small",
        recipe=RecipeConfig(),
        seed=3,
        images=IMAGES,
        classes=(0, 1, 2),
        folder=Path("cache"),
        base=make_member("base"),
    )


def test_key_is_the_same_each_time(task: TrainTask) -> None:
    assert replace(task).key == task.key
    assert len(task.key) == 64


@pytest.mark.parametrize("change", [{"name": "yours"}, {"folder": Path("elsewhere")}])
def test_key_does_not_depend_on_name_or_folder(task: TrainTask, change: dict[str, object]) -> None:
    assert replace(task, **change).key == task.key


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "vgg11_small"},
        {"recipe": RecipeConfig(epochs=15)},
        {"recipe": RecipeConfig(augmentation=None)},
        {"seed": 4},
        {"images": IMAGES.take(np.array([0, 1, 2]))},
        {"images": replace(IMAGES, labels=np.array([0, 1, 2, 2]))},
        {"images": replace(IMAGES, source="elsewhere")},
        {"classes": (0, 2, 1)},
        {"base": None},
    ],
)
def test_key_depends_on_all_that_decides_the_weights(
    task: TrainTask, change: dict[str, object]
) -> None:
    assert replace(task, **change).key != task.key


def test_key_depends_on_the_weights_of_the_base_and_not_on_its_name(
    task: TrainTask, make_member: MakeMember
) -> None:
    base = make_member("base")
    assert replace(task, base=make_member("other")).key != task.key
    assert replace(task, base=replace(base, name="renamed")).key == task.key


def test_checkpoint_is_kept_by_content(task: TrainTask) -> None:
    assert task.checkpoint == Path("cache") / f"alexnet_small-{task.key[:24]}.safetensors"
    assert replace(task, name="yours").checkpoint == task.checkpoint


def test_sub_classifier_starts_from_its_base_on_the_images_of_its_classes(
    make_member: MakeMember,
) -> None:
    base = make_member("base", architecture="vgg11_small")
    recipe = RecipeConfig(epochs=2)
    task = TrainTask.of_subclassifier(base, IMAGES, (0, 1), recipe, 7, Path("cache"))
    assert task.name == "base/cat+dog"
    assert task.images.image_ids.tolist() == ["a", "b", "d"]
    assert task.images.labels.tolist() == [0, 1, 1]
    assert task.images.classes == IMAGES.classes
    assert (task.architecture, task.classes, task.base) == ("vgg11_small", (0, 1), base)
    assert (task.recipe, task.seed) == (recipe, 7)


@pytest.mark.parametrize("pattern", CODE)
def test_every_path_of_the_training_code_exists(pattern: str) -> None:
    assert list(LIBRARY.glob(pattern))


def test_a_change_of_any_file_of_the_training_code_trains_anew(tmp_path: Path) -> None:
    files = [path.relative_to(LIBRARY) for pattern in CODE for path in LIBRARY.glob(pattern)]
    digests = {code_sha256()}
    for number, file in enumerate(files):
        root = tmp_path / str(number)
        for other in files:
            (root / other).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(LIBRARY / other, root / other)
        with (root / file).open("a") as changed:
            changed.write("# changed\n")
        digests.add(code_sha256(root))
    assert len(digests) == len(files) + 1


def test_the_training_code_holds_all_that_training_computes_with() -> None:
    """Other rooms that training imports hold values, or read and write files."""
    hashed = {path for pattern in CODE for path in LIBRARY.glob(pattern)}
    imported = {
        path
        for file in (LIBRARY / "training").glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
        for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        if (path := LIBRARY.parent / f"{name.replace('.', '/')}.py").is_file()
    }
    rooms = {path.relative_to(LIBRARY).parts[0] for path in imported - hashed}
    assert rooms == {"checkpoints", "config.py", "errors.py", "files.py", "images", "members"}


def test_images_held_out_are_of_every_class_and_the_others_are_trained_on() -> None:
    index = ImageIndex(
        "made up", np.array([f"{n}" for n in range(23)]), np.arange(23) % 4, ("a", "b", "c", "d")
    )
    train, stopping = hold_out(index, ValidationConfig(share=0.2), 0)
    assert set(train.image_ids) | set(stopping.images.image_ids) == set(index.image_ids)
    assert not set(train.image_ids) & set(stopping.images.image_ids)
    assert np.bincount(stopping.images.labels).tolist() == [1, 1, 1, 1]
    _, few = hold_out(index, ValidationConfig(share=0.01), 0)
    assert set(few.images.labels.tolist()) == {0, 1, 2, 3}


def test_class_of_one_image_cannot_be_held_out() -> None:
    index = ImageIndex("made up", np.array(["x", "y", "z"]), np.array([0, 0, 1]), ("a", "b"))
    with pytest.raises(ConfigError, match="the class 'b' has 1 image to train on"):
        hold_out(index, ValidationConfig(), 0)


def test_recipe_that_says_nothing_of_later_settings_keeps_its_identity() -> None:
    assert set(RecipeConfig().identity()) == {
        "input_size",
        "epochs",
        "batch_size",
        "optimizer",
        "schedule",
        "augmentation",
        "label_smoothing",
        "precision",
    }
    assert "mixup" in RecipeConfig(mixup=0.2).identity()
