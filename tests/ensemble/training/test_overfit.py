"""Every part of a recipe, alone, learns 256 handwritten digits by heart on a CPU."""

from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits

from ensemble.models import registry as models
from ensemble.training.loop import train
from ensemble.training.recipe import RecipeConfig

NUM_IMAGES = 256
PLAIN: dict[str, Any] = {
    "epochs": 12,
    "batch_size": 16,
    "augmentation": None,
    "optimizer": {"kind": "sgd", "lr": 0.02},
}
PAPERS_SGD = {"kind": "sgd", "lr": 0.02, "nesterov": False, "rule": "paper"}
PLATEAU = {"kind": "plateau", "warmup_epochs": 2, "patience": 2}

NETWORKS = (
    "alexnet_small",
    *(f"alexnet_small:{o}" for o in ("activation=tanh", "dropout_of=outputs", "groups=1")),
    *(f"alexnet_small:{o}" for o in ("has_lrn=false", "pool=2", "without=3", "width=2")),
    "vgg11_small",
    *(f"vgg_small:configuration={c}" for c in ("A", "A-LRN", "B", "C", "D")),
    "resnet14_small",
    "resnet20_bottleneck_small",
    "wide_resnet10_2",
    "densenet_small",
    "pyramidnet20:depth=29,is_bottleneck=true",
    "pyramidnet20:alpha=4,widening=multiplicative",
    *(f"resnet14_small:activation={a}" for a in ("leaky_relu", "selu", "hardswish", "tanh")),
    *(f"wide_resnet10_2:activation={a}" for a in ("leaky_relu", "selu", "hardswish", "tanh")),
    *(f"densenet_small:activation={a}" for a in ("leaky_relu", "selu", "hardswish", "tanh")),
    *(f"pyramidnet20:activation={a}" for a in ("leaky_relu", "selu", "hardswish", "tanh")),
    "pyramidnet20:shakedrop=0.5",
)
TECHNIQUES: dict[str, dict[str, Any]] = {
    "paper-momentum": {"optimizer": PAPERS_SGD},
    "adamw": {"optimizer": {"kind": "adamw"}},
    "adadelta": {"optimizer": {"kind": "timm", "name": "adadelta", "lr": 1.0}},
    "sam": {"sam_rho": 0.05},
    "multi-step": {"schedule": {"kind": "multi_step", "milestones": [6, 9]}},
    "exponential": {"schedule": {"kind": "exponential", "factor": 0.8, "floor": 0.1}},
    "warm-restarts": {"schedule": {"kind": "warm_restarts", "first_epochs": 4, "growth": 2}},
    "plateau": {"schedule": PLATEAU},
    "label-smoothing": {"label_smoothing": 0.1},
    "noise": {"noise_sd": 0.3},
    "weight-noise": {"noise": {"weights": 0.1}},
    "gradient-noise": {"noise": {"gradients": 0.5}},
    "activation-noise": {"noise": {"activations": 0.2}},
    "copies": {"copies": {}},
    "colour-noise": {"colour": {"pca_sd": 0.5}},
    "augmentation": {"augmentation": {"max_shift": 0.0625}},
    "mixup": {"mixup": 0.2},
    "bfloat16": {"precision": "bfloat16"},
}


def learned_share(architecture: str, settings: dict[str, Any]) -> float:
    """Train on real digits, and return the share of them that the network then knows, in eval mode."""
    digits = load_digits()
    images = torch.tensor(digits.images[:NUM_IMAGES] / 16, dtype=torch.float32)
    images = torch.nn.functional.interpolate(images[:, None], scale_factor=2)
    images = images.expand(-1, 3, -1, -1).contiguous()
    labels = torch.tensor(digits.target[:NUM_IMAGES], dtype=torch.int64)
    mean, std = float(images.mean()), float(images.std())
    network = models.build(architecture, 10, seed=0)
    recipe = RecipeConfig.model_validate(PLAIN | settings)
    train(network, images, labels, recipe, (mean,) * 3, (std,) * 3, seed=0)
    with torch.inference_mode():
        answers = network((images - mean) / std).argmax(dim=1)
    return float((answers == labels).float().mean())


def test_a_small_network_learns_256_images_by_heart() -> None:
    assert learned_share("resnet14_small", {"epochs": 5} | TECHNIQUES["paper-momentum"]) > 0.99


@pytest.mark.nightly
@pytest.mark.parametrize("architecture", NETWORKS)
def test_every_network_learns_256_images_by_heart(architecture: str) -> None:
    # Without batch normalisation, a rate that suits the others can leave a deep network where it starts.
    is_plain = architecture.partition(":")[0] in ("alexnet_small", "vgg11_small", "vgg_small")
    settings = {"epochs": 40, "optimizer": {"kind": "adamw", "lr": 0.001}} if is_plain else {}
    assert learned_share(architecture, settings) > 0.98


@pytest.mark.nightly
@pytest.mark.parametrize("name", TECHNIQUES)
def test_every_technique_learns_256_images_by_heart(name: str) -> None:
    assert learned_share("resnet14_small", TECHNIQUES[name]) > 0.98
