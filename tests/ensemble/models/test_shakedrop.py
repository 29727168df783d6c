"""ShakeDrop against its formulas, and in a network."""

import pytest
import torch

from ensemble.errors import ConfigError
from ensemble.models import registry as models
from ensemble.models.pyramidnet import PyramidUnit
from ensemble.models.shakedrop import ShakeDrop, keep_probabilities


def shaken_factors(keep: float, images: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    """Factor of the residual and of its gradient, for each image of one batch."""
    residual = torch.ones(images, 1, 1, 1, requires_grad=True)
    shaken = ShakeDrop(keep)(residual)
    shaken.sum().backward()
    assert residual.grad is not None
    return shaken.detach().flatten(), residual.grad.flatten()


def test_a_unit_that_is_kept_passes_residuals_and_gradients_as_they_are() -> None:
    forward, backward = shaken_factors(1.0)
    assert torch.equal(forward, torch.ones_like(forward))
    assert torch.equal(backward, torch.ones_like(backward))


def test_a_unit_that_is_dropped_draws_a_factor_for_each_image_and_another_for_its_gradient() -> (
    None
):
    torch.manual_seed(0)
    # b = 0 leaves a and c alone: from U(-1, 1) and U(0, 1).
    forward, backward = shaken_factors(1e-9)
    assert -1 <= forward.min() < -0.99
    assert 0.99 < forward.max() <= 1
    assert 0 <= backward.min() < 0.01
    assert 0.99 < backward.max() <= 1
    assert forward.var() == pytest.approx(1 / 3, abs=0.02)
    assert backward.var() == pytest.approx(1 / 12, abs=0.005)
    assert abs(torch.corrcoef(torch.stack([forward, backward]))[0, 1]) < 0.05


def test_the_mean_of_many_trainings_is_what_eval_mode_gives() -> None:
    torch.manual_seed(0)
    keep = 0.7
    means = torch.stack([shaken_factors(keep, 50)[0].mean() for _ in range(3000)])
    # E[b + a - b a] = p + (1 - p) E[a] = p.
    assert float(means.mean()) == pytest.approx(keep, abs=0.03)
    images = torch.rand(2, 3, 4, 4)
    assert torch.equal(ShakeDrop(keep).eval()(images), images * keep)


def test_one_unit_of_a_batch_is_kept_or_dropped_as_a_whole() -> None:
    torch.manual_seed(0)
    is_kept = [bool((shaken_factors(0.5, 8)[0] == 1).all()) for _ in range(400)]
    assert 150 < sum(is_kept) < 250


def test_probabilities_fall_in_a_line_to_the_last() -> None:
    assert keep_probabilities(4, 0.5) == pytest.approx([0.875, 0.75, 0.625, 0.5])
    with pytest.raises(ConfigError, match="shakedrop is 0; give a probability above 0"):
        keep_probabilities(4, 0.0)


def test_a_network_with_shakedrop_has_the_weights_of_one_without_and_draws_from_the_seed() -> None:
    plain, shaken = (models.build(f"pyramidnet20{o}", 10) for o in ("", ":shakedrop=0.5"))
    assert plain.state_dict().keys() == shaken.state_dict().keys()
    units = [m for m in shaken.modules() if isinstance(m, PyramidUnit)]
    keeps = [unit.shake.keep for unit in units if isinstance(unit.shake, ShakeDrop)]
    assert keeps == pytest.approx([1 - k / 9 * 0.5 for k in range(1, 10)])
    images = torch.rand(2, 3, 16, 16)
    outputs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outputs.append(shaken(images))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
