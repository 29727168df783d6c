import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.errors import ConfigError
from ensemble.subclassifiers.embeddings import cosine_similarity
from ensemble.subclassifiers.label_clusters import spectral_label_clusters


def similarity(num_classes: int, seed: int) -> np.ndarray:
    return cosine_similarity(np.random.default_rng(seed).normal(size=(num_classes, 8)))


def planted(groups: list[list[int]], seed: int) -> np.ndarray:
    """Label embeddings around one direction for each group."""
    rng = np.random.default_rng(seed)
    embeddings = np.zeros((sum(map(len, groups)), 16))
    for group in groups:
        embeddings[group] = rng.normal(size=16)
    return cosine_similarity(embeddings + rng.normal(scale=0.1, size=embeddings.shape))


@settings(deadline=None, max_examples=30)
@given(num_classes=st.integers(3, 15), data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_clusters_are_a_partition_of_the_classes_the_largest_first(
    num_classes: int, data: st.DataObject, seed: int
) -> None:
    num_clusters = data.draw(st.integers(1, num_classes - 1))
    clusters = spectral_label_clusters(similarity(num_classes, seed), num_clusters)
    assert sorted(label for group in clusters for label in group) == list(range(num_classes))
    assert 1 <= len(clusters) <= num_clusters
    assert all(group == tuple(sorted(group)) for group in clusters)
    assert [len(group) for group in clusters] == sorted(map(len, clusters), reverse=True)


@pytest.mark.parametrize("seed", range(5))
def test_clusters_are_the_same_each_time(seed: int) -> None:
    rows = similarity(10, seed)
    assert spectral_label_clusters(rows, 3) == spectral_label_clusters(rows.copy(), 3)


@pytest.mark.parametrize("seed", range(10))
def test_planted_clusters_are_recovered(seed: int) -> None:
    order = np.random.default_rng(seed).permutation(10).tolist()
    groups = [order[:5], order[5:8], order[8:]]
    found = spectral_label_clusters(planted(groups, seed), 3)
    assert found == tuple(tuple(sorted(group)) for group in groups)


def test_one_cluster_holds_every_class() -> None:
    assert spectral_label_clusters(similarity(4, 0), 1) == ((0, 1, 2, 3),)


@pytest.mark.parametrize("num_clusters", [0, 4, 5])
def test_as_many_clusters_as_classes_are_refused(num_clusters: int) -> None:
    with pytest.raises(
        ConfigError,
        match=f"num_clusters has {num_clusters}, and there are 4 classes. Expected 2 to 3",
    ):
        spectral_label_clusters(similarity(4, 0), num_clusters)
