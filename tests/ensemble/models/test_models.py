import importlib
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from ensemble.errors import ConfigError, UnknownNameError
from ensemble.models import registry as models
from ensemble.models.pyramidnet import PyramidUnit, pyramidnet
from ensemble.models.wide_resnet import wide_resnet

NAMES = sorted(models.SMALL)


@pytest.mark.parametrize("name", NAMES)
def test_parameter_count_is_the_one_in_the_table_and_in_the_docstring(name: str) -> None:
    entry = models.ARCHITECTURES[name]
    counted = sum(parameter.numel() for parameter in models.build(name, 10).parameters())
    document = importlib.import_module(f"ensemble.models.{entry.module}").__doc__ or ""
    stated = re.search(rf"`{name}`\s+([\d,]+\d)", document)
    assert stated is not None
    assert counted == entry.parameters == int(stated[1].replace(",", ""))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("size", "num_classes"), [(16, 10), (17, 3), (32, 7)])
def test_network_gives_a_finite_logit_for_each_image_and_class(
    name: str, size: int, num_classes: int
) -> None:
    network = models.build(name, num_classes).eval()
    logits = network(torch.rand(3, 3, size, size))
    assert logits.shape == (3, num_classes)
    assert bool(logits.isfinite().all())


@pytest.mark.parametrize("name", NAMES)
def test_last_layer_is_linear(name: str) -> None:
    assert isinstance(list(models.build(name, 4).modules())[-1], nn.Linear)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_gradient_after_a_step(name: str) -> None:
    network = models.build(name, 3)
    network(torch.rand(4, 3, 16, 16)).square().sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


def test_build_gives_the_same_weights_for_a_seed_and_leaves_the_global_generator() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = models.build("resnet14_small", 10, seed=1).state_dict()
    assert torch.equal(torch.rand(1), expected)
    second = models.build("resnet14_small", 10, seed=1).state_dict()
    other = models.build("resnet14_small", 10, seed=2).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_unknown_architecture_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match=r"no architecture 'vgg11_smal'.*'vgg11_small'"):
        models.build("vgg11_smal", 10)


def test_network_without_classes_is_refused() -> None:
    with pytest.raises(ConfigError, match="resnet14_small with 0 classes: give at least 1"):
        models.build("resnet14_small", 0)


def test_names_are_known_without_torch() -> None:
    code = "import sys; from ensemble.models import registry; registry.check('vgg11_small'); print(*sys.modules)"
    listed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "ensemble.models" in listed
    assert "torch" not in listed


def test_pyramidnet_widens_by_alpha_over_all_units() -> None:
    network = pyramidnet(10, depth=110, alpha=48.0, is_bottleneck=False)
    units = [module for module in network.modules() if isinstance(module, PyramidUnit)]
    last_norm = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)][-1]
    assert len(units) == 54
    assert last_norm.num_features == 16 + 48


@pytest.mark.parametrize(("depth", "is_bottleneck"), [(20, False), (56, False), (29, True)])
@pytest.mark.parametrize("alpha", [4.75, 48.0])
def test_each_unit_of_a_pyramidnet_has_the_width_of_the_formula(
    depth: int, is_bottleneck: bool, alpha: float
) -> None:
    with torch.device("meta"):
        network = pyramidnet(10, depth=depth, alpha=alpha, is_bottleneck=is_bottleneck)
    units = [module for module in network.modules() if isinstance(module, PyramidUnit)]
    count = 3 * ((depth - 2) // (9 if is_bottleneck else 6))
    outputs = [list(unit.residual.children())[-1].num_features for unit in units]
    # Han et al. 2016, equation 3: D_k = D_(k-1) + alpha / N from D_1 = 16; four times as wide in bottlenecks.
    expected = [round(16 + alpha * k / count) for k in range(1, count + 1)]
    assert outputs == [4 * width if is_bottleneck else width for width in expected]


def test_a_multiplicative_pyramidnet_widens_by_the_same_ratio_at_every_unit() -> None:
    network = pyramidnet(10, depth=20, alpha=8.0, is_bottleneck=False, widening="multiplicative")
    norms = [m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    # Nine units of three normalisations, between that of the stem and the last one.
    widths = norms[3:-1:3]
    assert widths == [round(16 * 8 ** (k / 9)) for k in range(1, 10)]
    assert norms[-1] == 16 * 8


def test_pyramidnet_with_bottlenecks_gives_logits() -> None:
    network = pyramidnet(10, depth=29, alpha=12.0, is_bottleneck=True).eval()
    assert network(torch.rand(2, 3, 16, 16)).shape == (2, 10)


def test_pyramidnet_has_the_parameters_of_the_published_one() -> None:
    network = pyramidnet(10, depth=110, alpha=48.0, is_bottleneck=False)
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    # Han et al. 2016, Table 4: 1.7 M.
    assert millions == pytest.approx(1.7, abs=0.1)


def test_wide_resnet_has_the_parameters_of_the_published_one() -> None:
    network = wide_resnet(10, depth=28, widen=10, dropout=0.0)
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    # Zagoruyko, Komodakis 2016, Table 4: 36.5 M.
    assert millions == pytest.approx(36.5, abs=0.05)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # Huang et al. 2016, Table 2: 0.8 M and 15.3 M, of 100 and 250 layers.
        ("densenet_small:blocks=16-16-16,growth=12", 769_162),
        ("densenet_small:blocks=41-41-41,growth=24", 15_324_406),
    ],
)
def test_a_densenet_bc_has_the_parameters_of_the_published_one(name: str, parameters: int) -> None:
    with torch.device("meta"):
        network = models.build(name, 10)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_impossible_depths_are_refused() -> None:
    with pytest.raises(ConfigError, match="depth 11"):
        wide_resnet(10, depth=11, widen=1, dropout=0.0)
    with pytest.raises(ConfigError, match="depth 5 has no unit"):
        pyramidnet(10, depth=5, alpha=4.0, is_bottleneck=False)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("resnet18", "torchvision/resnet18"),
        ("vit_b_16", "torchvision/vit_b_16"),
        ("vit_tiny_patch16_224", "timm/vit_tiny_patch16_224"),
        ("resnet21", "resnet212"),
    ],
)
def test_a_name_of_a_library_is_suggested_with_the_library(name: str, suggestion: str) -> None:
    with pytest.raises(
        UnknownNameError, match=rf"no architecture '{name}'\. Did you mean '{suggestion}'"
    ):
        models.check(name)
