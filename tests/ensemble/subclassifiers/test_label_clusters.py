import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.errors import ConfigError
from ensemble.subclassifiers.embeddings import cosine_similarity
from ensemble.subclassifiers.label_clusters import (
    NUM_STABILITY_SEEDS,
    LabelClusters,
    agreement,
    label_clusters,
    labels_of,
    stability,
)
from ensemble.subclassifiers.settings import Clustering, SubclassifiersConfig
from ensemble.subclassifiers.similarity import of_confusion, of_embeddings

CLUSTERINGS: tuple[Clustering, ...] = ("spectral", "agglomerative", "kmeans")


def found(similarity: np.ndarray, num_clusters: int, **settings: object) -> LabelClusters:
    return label_clusters(similarity, num_clusters, SubclassifiersConfig(**settings))


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
@given(
    num_classes=st.integers(3, 15),
    data=st.data(),
    seed=st.integers(0, 2**32 - 1),
    clustering=st.sampled_from(CLUSTERINGS),
)
def test_clusters_are_a_partition_of_the_classes_the_largest_first(
    num_classes: int, data: st.DataObject, seed: int, clustering: Clustering
) -> None:
    num_clusters = data.draw(st.integers(1, num_classes - 1))
    clusters = found(similarity(num_classes, seed), num_clusters, clustering=clustering)
    assert sorted(label for group in clusters for label in group) == list(range(num_classes))
    assert 1 <= len(clusters) <= num_clusters
    assert all(group == tuple(sorted(group)) for group in clusters)
    assert [len(group) for group in clusters] == sorted(map(len, clusters), reverse=True)


@pytest.mark.parametrize("seed", range(5))
def test_clusters_are_the_same_each_time(seed: int) -> None:
    rows = similarity(10, seed)
    for clustering in CLUSTERINGS:
        first = found(rows, 3, clustering=clustering)
        assert found(rows.copy(), 3, clustering=clustering) == first


@pytest.mark.parametrize("clustering", CLUSTERINGS)
@pytest.mark.parametrize("seed", range(5))
def test_planted_clusters_are_recovered_and_permuted_labels_permute_them(
    seed: int, clustering: Clustering
) -> None:
    order = np.random.default_rng(seed).permutation(10).tolist()
    groups = [order[:5], order[5:8], order[8:]]
    clusters = found(planted(groups, seed), 3, clustering=clustering)
    assert clusters == tuple(tuple(sorted(group)) for group in groups)


@settings(deadline=None, max_examples=30)
@given(
    num_classes=st.integers(5, 20),
    smallest=st.integers(1, 4),
    room=st.integers(0, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_sizes_are_within_their_bounds(
    num_classes: int, smallest: int, room: int, seed: int
) -> None:
    largest = 2 * smallest + room
    clusters = found(
        similarity(num_classes, seed), 4, min_cluster_size=smallest, max_cluster_size=largest
    )
    assert sorted(label for group in clusters for label in group) == list(range(num_classes))
    assert all(smallest <= len(group) <= largest for group in clusters)


def test_a_small_cluster_joins_the_one_most_like_it() -> None:
    alike = np.eye(6) + 0.0
    alike[:3, :3] = alike[3:5, 3:5] = 0.9
    alike[5, 3:5] = alike[3:5, 5] = 0.4
    np.fill_diagonal(alike, 1)
    assert found(alike, 3) == ((0, 1, 2), (3, 4), (5,))
    assert found(alike, 3, min_cluster_size=2) == ((0, 1, 2), (3, 4, 5))


def test_a_maximum_that_leaves_no_room_for_the_minimum_is_refused() -> None:
    with pytest.raises(ValueError, match="Set max_cluster_size to 6 or more"):
        SubclassifiersConfig(min_cluster_size=3, max_cluster_size=5)


def test_clusters_that_resampling_cannot_move_are_stable_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    config = SubclassifiersConfig()
    clear = np.repeat(rng.normal(size=(3, 32)), 4, axis=0) + 0.05 * rng.normal(size=(12, 32))
    for rows, low, high in ((clear, 1.0, 1.0), (rng.normal(size=(12, 32)), -0.5, 0.9)):
        measured = of_embeddings([rows])
        clusters = label_clusters(measured.matrix, 3, config)
        indices = stability(clusters, measured.resampled, 3, config)
        assert len(indices) == NUM_STABILITY_SEEDS
        assert low <= np.mean(indices) <= high


def test_labels_that_are_taken_for_one_another_are_alike() -> None:
    labels = np.repeat(np.arange(6), 20)
    rows = np.full((120, 6), 0.01)
    rows[np.arange(120), labels] = 0.55
    rows[np.arange(120), (labels + 3) % 6] = 0.41
    measured = of_confusion(rows, labels)
    assert found(measured.matrix, 3) == ((0, 3), (1, 4), (2, 5))
    assert np.array_equal(measured.matrix, measured.matrix.T)
    assert measured.resampled(0).shape == (6, 6)


def test_similarity_over_several_members_is_the_mean_of_theirs() -> None:
    rng = np.random.default_rng(1)
    rows = [rng.normal(size=(4, 5)), rng.normal(size=(4, 9))]
    expected = (cosine_similarity(rows[0]) + cosine_similarity(rows[1])) / 2
    np.testing.assert_allclose(of_embeddings(rows).matrix, expected)


def test_agreement_counts_pairs_that_chance_does_not_put_together() -> None:
    rng = np.random.default_rng(5)
    groups, numbers = rng.integers(0, 4, 30), rng.integers(0, 3, 30)
    clusters = tuple(tuple(np.flatnonzero(numbers == n).tolist()) for n in range(3))
    rows, columns = np.triu_indices(30, 1)
    together = groups[rows] == groups[columns], numbers[rows] == numbers[columns]
    both, ours, theirs = (together[0] & together[1]).sum(), together[1].sum(), together[0].sum()
    by_chance = ours * theirs / len(rows)
    rand, _ = agreement(clusters, groups)
    assert rand == pytest.approx((both - by_chance) / ((ours + theirs) / 2 - by_chance))
    counts = np.array(
        [[((groups == g) & (numbers == n)).sum() for n in range(3)] for g in range(4)]
    )
    shares = counts / 30

    def entropy(p: np.ndarray) -> float:
        return float(-(p[p > 0] * np.log(p[p > 0])).sum())

    parts = entropy(shares.sum(axis=0)), entropy(shares.sum(axis=1))
    _, information = agreement(clusters, groups)
    expected = (sum(parts) - entropy(shares.ravel())) / np.mean(parts)
    assert information == pytest.approx(expected)
    assert agreement(clusters, numbers) == pytest.approx((1, 1))


def test_label_of_a_class_is_its_cluster() -> None:
    assert labels_of(((1, 3), (0, 2))).tolist() == [1, 0, 1, 0]


def test_one_cluster_holds_every_class() -> None:
    assert found(similarity(4, 0), 1) == ((0, 1, 2, 3),)


@pytest.mark.parametrize("num_clusters", [0, 4, 5])
def test_as_many_clusters_as_classes_are_refused(num_clusters: int) -> None:
    with pytest.raises(
        ConfigError,
        match=f"num_clusters has {num_clusters}, and there are 4 classes. Expected 2 to 3",
    ):
        found(similarity(4, 0), num_clusters)
