"""Options behind the name of an architecture: read, refused, put together, and what they change."""

import pytest
import torch
from torch import nn

from ensemble.checkpoints.header import checkpoint_name
from ensemble.errors import ConfigError, UnknownNameError
from ensemble.models import registry as models
from ensemble.models.layers import make_activation
from ensemble.models.options import ACTIVATIONS, OPTIONS, join_name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pyramidnet20:alhpa=4", "no option of pyramidnet20 'alhpa'. Did you mean 'alpha'"),
        ("pyramidnet20:alpha=wide", "alpha is 'wide'; give a number"),
        ("pyramidnet20:depth=2.5", "depth is '2.5'; give a whole number"),
        ("pyramidnet20:is_bottleneck=yes", "is 'yes'; give true or false"),
        ("pyramidnet20:widening=both", "take one of additive, multiplicative"),
        ("pyramidnet20:depth", "cannot read the option 'depth'"),
        ("pyramidnet20:depth=20,depth=29", "write each once"),
        ("resnet14_small:blocks=3x3", "give whole numbers, as 3-3-3"),
        ("googlenet_small:depth=3", "this architecture has no options"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_built(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        models.check(name)


def test_an_unknown_architecture_with_options_is_named_without_them() -> None:
    with pytest.raises(UnknownNameError, match="no architecture 'piramidnet20'"):
        models.check("piramidnet20:depth=3")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("alexnet_small:groups=5", "groups=5 does not divide the channels"),
        ("alexnet_small:pool=4", "pool=4; take 3"),
        ("alexnet_small:width=0", "width=0; take a factor above 0"),
        ("alexnet_small:without=1", "one of the convolutions 3, 4 and 5"),
        ("pyramidnet20:shakedrop=0", "shakedrop is 0"),
    ],
)
def test_a_value_that_no_network_has_is_refused_when_it_is_built(name: str, message: str) -> None:
    models.check(name)
    with pytest.raises(ConfigError, match=message):
        models.build(name, 3)


def test_options_are_put_onto_a_name_in_one_order() -> None:
    name = join_name("pyramidnet20", {"depth": 29, "alpha": 4.75, "is_bottleneck": True})
    assert name == "pyramidnet20:alpha=4.75,depth=29,is_bottleneck=true"
    assert join_name("pyramidnet20:depth=29", {"alpha": 8.0}) == "pyramidnet20:alpha=8,depth=29"
    assert join_name(name, {}) == name
    assert join_name("resnet14_small", {"blocks": [1, 2, 3]}) == "resnet14_small:blocks=1-2-3"
    with pytest.raises(ConfigError, match="takes no options; leave depth out"):
        join_name("torchvision/resnet18", {"depth": 3})


def test_a_network_with_options_is_the_one_that_has_them_by_name() -> None:
    one = models.build("pyramidnet20:alpha=48,depth=110", 10).state_dict()
    other = models.build("pyramidnet110_a48", 10).state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    blocks = models.build("resnet14_small:blocks=3-3-3", 10)
    assert blocks.state_dict().keys() == models.build("resnet20_cifar", 10).state_dict().keys()


def test_the_file_of_weights_has_a_plain_name() -> None:
    assert checkpoint_name("a:b=1,c=2", "0" * 24) == f"a-b-1-c-2-{'0' * 24}.safetensors"


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_torchs(name: str) -> None:
    x = torch.linspace(-4, 4, 41)
    expected = {
        "relu": x.clamp_min(0),
        "tanh": x.tanh(),
        "leaky_relu": torch.where(x > 0, x, 0.01 * x),
        "selu": 1.0507009873554805 * torch.where(x > 0, x, 1.6732632423543772 * (x.exp() - 1)),
        "hardswish": x * (x + 3).clamp(0, 6) / 6,
    }
    torch.testing.assert_close(make_activation(name)(x), expected[name])
    for architecture in (
        "pyramidnet20",
        "alexnet_small",
        "resnet14_small",
        "resnet20_bottleneck_small",
        "wide_resnet10_2",
        "densenet_small",
    ):
        network = models.build(f"{architecture}:activation={name}", 3)
        kinds = {type(m) for m in network.modules()} & {
            nn.ReLU, nn.Tanh, nn.LeakyReLU, nn.SELU, nn.Hardswish
        }  # fmt: skip
        assert kinds == {type(make_activation(name))}


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="no activation 'swish'"):
        make_activation("swish")


def test_options_are_of_functions_that_some_architecture_has() -> None:
    assert OPTIONS.keys() <= {entry.factory for entry in models.ARCHITECTURES.values()}
