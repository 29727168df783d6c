import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.subclassifiers.dry_run import LEAST_FIXABLE, best_plan, plan_label_clusters
from ensemble.subclassifiers.label_clusters import LabelClusters

CLUSTERS: LabelClusters = ((0, 3, 4), (2, 5), (1,))
TRAIN = np.repeat(np.arange(6), [5, 1, 2, 3, 4, 6])


def rows(seed: int, images: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = np.exp(rng.normal(size=(images, 6)))
    return scores / scores.sum(axis=1, keepdims=True), rng.integers(0, 6, size=images)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_counts_are_those_of_a_loop_over_images(seed: int) -> None:
    base, labels = rows(seed)
    plan = plan_label_clusters(3, CLUSTERS, base, labels, TRAIN, 15, 0.01)
    counts = np.zeros((3, 4), int)
    hard, two, fixable_two = 0, 0, 0
    for row, label in zip(base, labels.tolist(), strict=True):
        masses = [row[list(group)].sum() for group in CLUSTERS]
        likeliest = sorted(range(3), key=lambda number, masses=masses: -masses[number])
        truth = next(number for number in range(3) if label in CLUSTERS[number])
        is_wrong = row.argmax() != label
        counts[likeliest[0]] += [
            1,
            likeliest[0] != truth,
            is_wrong,
            is_wrong and likeliest[0] == truth,
        ]
        hard += likeliest[0] != truth
        two += truth not in likeliest[:2]
        fixable_two += is_wrong and truth in likeliest[:2]
    found = [(c.sent, c.misrouted, c.errors, c.fixable) for c in plan.clusters]
    assert found == [tuple(row) for row in counts.tolist()]
    assert (plan.misrouted_hard, plan.misrouted_top2) == (hard, two)
    assert (plan.fixable_hard, plan.fixable_top2) == (counts[:, 3].sum(), fixable_two)
    assert plan.errors == counts[:, 2].sum()
    assert [c.train_images for c in plan.clusters] == [12, 8, 1]
    assert [c.seconds for c in plan.clusters] == [pytest.approx(n * 15 * 0.03) for n in (12, 8, 1)]


def test_one_cluster_of_all_classes_promises_nothing() -> None:
    base, labels = rows(0)
    plan = plan_label_clusters(1, (tuple(range(6)),), base, labels, TRAIN, 15, None)
    assert plan.fixable_hard == plan.errors
    assert plan.promise == 0
    assert plan.clusters[0].seconds is None
    assert best_plan((plan,)) is None


def test_label_clusters_with_too_few_errors_are_not_worth_it() -> None:
    labels = np.zeros(50, int)
    base = np.tile([0.7, 0.0, 0.0, 0.2, 0.1, 0.0], (50, 1))
    for errors in (LEAST_FIXABLE - 1, LEAST_FIXABLE):
        base[:errors, [0, 3]] = [0.2, 0.7]
        plan = plan_label_clusters(3, CLUSTERS, base, labels, TRAIN, 15, None)
        is_enough = errors == LEAST_FIXABLE
        assert [c.is_worth_it for c in plan.clusters] == [is_enough, False, False]
        assert (best_plan((plan,)) is None) is not is_enough


def test_the_plan_that_promises_most_is_the_best() -> None:
    base, labels = rows(3, 400)
    clusters: list[LabelClusters] = [((0, 1, 2, 3, 4), (5,)), CLUSTERS]
    plans = tuple(plan_label_clusters(len(c), c, base, labels, TRAIN, 15, None) for c in clusters)
    best = best_plan(plans)
    assert best is not None
    assert best.promise == max(plan.promise for plan in plans)
