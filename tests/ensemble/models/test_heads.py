import pytest
import torch
from torch import nn

from ensemble.errors import CheckpointError
from ensemble.models import registry as models
from ensemble.models.heads import find_head, restrict_head


@pytest.mark.parametrize("name", sorted(models.SMALL))
def test_head_of_every_architecture_is_found(name: str) -> None:
    assert find_head(models.build(name, 7), 7) == "head"


def test_head_is_the_last_linear_layer_with_the_number_of_classes() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(3, 5))
    assert find_head(network) == "2"
    assert find_head(network, 3) == "1"


def test_network_without_a_head_is_refused_with_what_was_found() -> None:
    with pytest.raises(CheckpointError, match=r"no nn.Linear or 1x1 .*; linear layers found: none"):
        find_head(nn.Conv2d(1, 1, 3))
    with pytest.raises(CheckpointError, match=r"with 9 outputs; linear layers found: 0 \(3\)"):
        find_head(nn.Sequential(nn.Linear(4, 3)), 9)


def test_restricted_head_gives_the_selected_logits_in_their_order() -> None:
    network = models.build("resnet14_small", 10).eval()
    images = torch.rand(5, 3, 16, 16)
    restricted = restrict_head(network, [7, 0, 3])
    torch.testing.assert_close(restricted(images), network(images)[:, [7, 0, 3]])
    assert find_head(restricted, 3) == "head"


def test_1x1_convolution_is_a_head_where_no_linear_layer_is() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 1), nn.AdaptiveAvgPool2d(1))
    assert find_head(network) == "1"
    assert find_head(nn.Sequential(nn.Linear(4, 3), nn.Conv2d(4, 6, 1))) == "0"
    images = torch.rand(2, 3, 8, 8)
    restricted = restrict_head(network, [5, 1])
    torch.testing.assert_close(restricted(images), network(images)[:, [5, 1]])


def test_restricting_leaves_the_network_as_it_was() -> None:
    network = models.build("alexnet_small", 10)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    restricted = restrict_head(network, [1, 2])
    with torch.no_grad():
        for parameter in restricted.parameters():
            parameter.zero_()
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_restricted_head_without_bias_can_be_trained() -> None:
    restricted = restrict_head(nn.Sequential(nn.Linear(4, 3, bias=False)), [2])
    restricted(torch.rand(2, 4)).sum().backward()
    assert restricted[0].weight.grad.shape == (1, 4)


@pytest.mark.parametrize("classes", [[], [1, 1], [-1], [10]])
def test_impossible_classes_are_refused(classes: list[int]) -> None:
    network = models.build("resnet14_small", 10)
    with pytest.raises(CheckpointError, match=r"head of 10 classes to \[.*from 0 to 9"):
        restrict_head(network, classes)
