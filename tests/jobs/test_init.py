from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from ensemble.errors import ConfigError
from ensemble.images.open import open_source
from ensemble.images.split import split
from jobs.init import write_config
from jobs.settings import load_run_config


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three classes of ten photographs."""
    rng = np.random.default_rng(0)
    for name in ("ant", "bee", "cat"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


def test_files_of_weights_become_members_with_their_architecture(
    images: Path, tmp_path: Path
) -> None:
    network = torchvision.models.resnet18(num_classes=3)
    # As a compiled network in a training script leaves it.
    state = {f"_orig_mod.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"model": state}, tmp_path / "best (1).pth")
    squeezed = torchvision.models.squeezenet1_1(num_classes=3)
    save_file(squeezed.state_dict(), tmp_path / "mine.safetensors")
    files = [str(tmp_path / "best (1).pth"), str(tmp_path / "mine.safetensors")]
    text = write_config(str(images), files, tmp_path / "out.yaml")
    assert "30 images of 3 classes, 2 members" in text
    config = load_run_config(tmp_path / "out.yaml")
    sources = {member.name: member.source for member in config.members}
    assert sources["best-1"].architecture == "torchvision/resnet18"
    assert sources["mine"].architecture == "torchvision/squeezenet1_1"
    assert config.images.split.train == 0
    assert config.images.split.search == 15
    assert config.report.fit_top_k(3) == 2


def test_weights_of_other_classes_are_left_out_with_the_reason(
    images: Path, tmp_path: Path
) -> None:
    torch.save(torchvision.models.resnet18(num_classes=7).state_dict(), tmp_path / "seven.pth")
    torch.save(torchvision.models.resnet18(num_classes=3).state_dict(), tmp_path / "three.pth")
    files = [str(tmp_path / name) for name in ("seven.pth", "three.pth", "nowhere.pth")]
    text = write_config(str(images), files, tmp_path / "out.yaml")
    assert "seven.pth: it has 7 outputs, and the images have 3 classes" in text
    assert "nowhere.pth" in text
    assert [member.name for member in load_run_config(tmp_path / "out.yaml").members] == ["three"]


def test_without_weights_small_networks_are_trained(images: Path, tmp_path: Path) -> None:
    write_config(str(images), [], tmp_path / "out.yaml")
    config = load_run_config(tmp_path / "out.yaml")
    assert len(config.members) == 4
    assert config.images.split.train == 12


@pytest.mark.parametrize("has_every_class", [True, False])
def test_train_and_val_folders_are_the_splits_as_they_are(
    images: Path, tmp_path: Path, has_every_class: bool
) -> None:
    for part, numbers in (("train", range(6)), ("val", range(6, 10))):
        for name in ("ant", "bee", "cat")[: None if has_every_class or part == "train" else 2]:
            (tmp_path / "parts" / part / name).mkdir(parents=True)
            for number in numbers:
                path = images / name / f"{number}.png"
                path.rename(tmp_path / "parts" / part / name / path.name)
    write_config(str(tmp_path / "parts"), [], tmp_path / "out.yaml")
    config = load_run_config(tmp_path / "out.yaml")
    assert config.images.split.every_class is has_every_class
    splits = split(open_source(config.images.source).index(), config.images.split, config.seed)
    held_out = 6 if has_every_class else 4
    assert [len(part) for part in (splits.train, splits.search, splits.test)] == [
        18,
        held_out,
        held_out,
    ]


def test_a_file_that_is_there_is_not_written_over(images: Path, tmp_path: Path) -> None:
    (tmp_path / "out.yaml").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        write_config(str(images), [], tmp_path / "out.yaml")


def test_where_nothing_can_be_used_every_reason_is_given(images: Path, tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 3).state_dict(), tmp_path / "strange.pth")
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    files = [str(tmp_path / "page.pth")]
    with pytest.raises(ConfigError, match=r"(?s)no file of weights can be used:.*page\.pth"):
        write_config(str(images), files, tmp_path / "out.yaml")
    assert not (tmp_path / "out.yaml").exists()


def test_the_config_says_what_was_found(images: Path, tmp_path: Path) -> None:
    write_config(str(images), ["torchvision:resnet50@IMAGENET1K_V2"], tmp_path / "out.yaml")
    text = (tmp_path / "out.yaml").read_text()
    assert "# 30 images of 3 classes, 10 to 10 in a class." in text
    assert yaml.safe_load(text)["members"][0]["source"] == "torchvision:resnet50@IMAGENET1K_V2"
