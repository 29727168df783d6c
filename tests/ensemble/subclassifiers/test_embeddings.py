from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ensemble.checkpoints import file as checkpoint
from ensemble.errors import ConfigError
from ensemble.members.member import Member
from ensemble.models import registry as models
from ensemble.models.heads import find_head
from ensemble.subclassifiers.embeddings import cosine_similarity, label_embeddings

MakeMember = Callable[..., Member]


@pytest.mark.parametrize("architecture", ["vgg11_small", "pyramidnet20"])
def test_embeddings_are_the_rows_of_the_head(
    make_member: MakeMember, tmp_path: Path, architecture: str
) -> None:
    network, path = models.build(architecture, 5, seed=2), tmp_path / "weights.safetensors"
    checkpoint.save(network, path, {})
    head = find_head(network)
    layer = network.get_submodule(head)
    assert isinstance(layer, nn.Linear)
    rows = label_embeddings(make_member(num_classes=5, head=head, checkpoint=path))
    assert rows.dtype == np.float64
    assert np.array_equal(rows, layer.weight.detach().numpy())


def test_head_that_is_the_whole_network_has_no_name(
    make_member: MakeMember, tmp_path: Path
) -> None:
    network, path = nn.Linear(4, 3), tmp_path / "weights.safetensors"
    checkpoint.save(network, path, {})
    rows = label_embeddings(make_member(head="", checkpoint=path))
    assert np.array_equal(rows, network.weight.detach().numpy())


def test_head_may_be_a_1x1_convolution(make_member: MakeMember, tmp_path: Path) -> None:
    network, path = nn.Conv2d(4, 3, 1), tmp_path / "weights.safetensors"
    checkpoint.save(network, path, {})
    rows = label_embeddings(make_member(head="", checkpoint=path))
    assert np.array_equal(rows, network.weight.detach().numpy()[:, :, 0, 0])


def test_checkpoint_without_the_head_is_refused(make_member: MakeMember, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    checkpoint.save(nn.Linear(4, 3), path, {})
    with pytest.raises(ConfigError, match=r"of 'a' has no tensor 'head\.weight'; expected the"):
        label_embeddings(make_member(checkpoint=path))


def test_head_with_other_rows_than_classes_is_refused(
    make_member: MakeMember, tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    checkpoint.save(nn.Linear(4, 3), path, {})
    with pytest.raises(ConfigError, match=r"weight of 'a' has shape \(3, 4\); .* 5 classes"):
        label_embeddings(make_member(num_classes=5, head="", checkpoint=path))


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_similarity_is_the_cosine_whatever_the_lengths(
    classes: int, features: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(classes, features))
    found = cosine_similarity(rows)
    lengths = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(found, rows @ rows.T / np.outer(lengths, lengths), atol=1e-12)
    assert np.array_equal(found, found.T)
    assert (np.diag(found) == 1).all()
    assert np.abs(found).max() <= 1
    np.testing.assert_allclose(cosine_similarity(rows * rng.uniform(0.1, 9)), found, atol=1e-12)


def test_embedding_of_length_zero_is_like_no_other() -> None:
    assert cosine_similarity(np.array([[0.0, 0.0], [1.0, 0.0]])).tolist() == [[1, 0], [0, 1]]
