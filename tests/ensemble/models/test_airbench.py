"""The fast CIFAR-10 network: whitening, identity convolutions, and a few steps of its training."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from ensemble.models import registry as models
from ensemble.models.airbench import AirbenchNetwork, Whitening
from ensemble.training.loop import train
from ensemble.training.recipe import RecipeConfig

SMALL = "airbench94:widths=24-32"


def smooth_images(count: int) -> torch.Tensor:
    """Images whose neighbouring pixels are alike, as in photographs."""
    noise = torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return functional.interpolate(noise, size=16, mode="bilinear")


def test_whitened_patches_are_uncorrelated_with_variance_one_and_there_as_negatives_too() -> None:
    layer, images = Whitening(), smooth_images(300)
    assert not layer.is_measured
    layer.measure(images)
    assert layer.is_measured
    # The layer adds 5e-4 to variances, so that weak components are not blown up.
    outputs = layer(images).detach().transpose(0, 1).flatten(1)
    second_moments = outputs[:12] @ outputs[:12].T / outputs.shape[1]
    off_diagonal = second_moments - torch.diag(second_moments.diag())
    assert float(off_diagonal.abs().max()) < 0.02
    assert float(second_moments.diag()[-3:].min()) > 0.98
    assert float(second_moments.diag().max()) < 1.01
    torch.testing.assert_close(outputs[12:], -outputs[:12])


def test_convolutions_start_as_the_identity() -> None:
    network = models.build("airbench94", 10)
    first, second = [m for m in network.modules() if isinstance(m, nn.Conv2d)][:2]
    maps = torch.rand(2, 24, 8, 8)
    torch.testing.assert_close(first(maps)[:, :24], maps)
    wide = torch.rand(2, 64, 8, 8)
    torch.testing.assert_close(second(wide), wide)


def test_a_few_steps_on_a_cpu_learn_and_leave_whitening_and_scales_as_they_are() -> None:
    digits = load_digits()
    images = torch.tensor(digits.images[:256] / 16, dtype=torch.float32)[:, None]
    images = functional.interpolate(images, scale_factor=2).expand(-1, 3, -1, -1).contiguous()
    labels = torch.tensor(digits.target[:256], dtype=torch.int64)
    recipe = RecipeConfig.model_validate(
        {
            "epochs": 8,
            "batch_size": 64,
            "augmentation": None,
            "label_smoothing": 0.2,
            "optimizer": {"kind": "sgd", "lr": 0.5, "momentum": 0.85, "weight_decay": 0.00133},
        }
    )
    network = models.build(SMALL, 10, seed=0)
    assert isinstance(network, AirbenchNetwork)
    mean, std = float(images.mean()), float(images.std())
    whitening = Whitening()
    whitening.measure((images - mean) / std)
    log = train(network, images, labels, recipe, (mean,) * 3, (std,) * 3, seed=0)
    torch.testing.assert_close(network.whitening.weight, whitening.weight)
    scales = [m.weight for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(bool((scale == 1).all()) for scale in scales)
    assert log.epochs[-1].loss_nats < 0.7 * log.epochs[0].loss_nats
    assert log.epochs[-1].accuracy > 0.8


def test_weights_that_were_measured_before_stay() -> None:
    network = models.build(SMALL, 10, seed=0)
    assert isinstance(network, AirbenchNetwork)
    network.whitening.weight.fill_(0.5)
    images, labels = torch.rand(16, 3, 16, 16), torch.arange(16) % 10
    recipe = RecipeConfig.model_validate({"epochs": 1, "augmentation": None})
    train(network, images, labels, recipe, (0.5,) * 3, (0.25,) * 3, seed=0)
    assert network.whitening.weight.eq(0.5).all()


@pytest.mark.parametrize("side", [16, 32])
def test_images_of_several_sizes_have_logits(side: int) -> None:
    assert models.build("airbench94", 10).eval()(torch.rand(2, 3, side, side)).shape == (2, 10)
