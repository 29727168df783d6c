import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.subclassifiers.gates import (
    Gate,
    entropy_inside,
    features,
    fit_logistic,
    margin,
    score,
)
from ensemble.subclassifiers.label_clusters import LabelClusters
from ensemble.subclassifiers.settings import GateKind

CLUSTERS: LabelClusters = ((0, 1, 2), (3, 4), (5,))
KINDS: tuple[GateKind, ...] = ("entropy", "normalised_entropy", "margin", "logistic")


def rows(seed: int, images: int = 30) -> np.ndarray:
    scores = np.exp(np.random.default_rng(seed).normal(scale=2, size=(images, 6)))
    return scores / scores.sum(axis=1, keepdims=True)


def test_margin_is_one_less_the_lead_of_the_first_class() -> None:
    np.testing.assert_allclose(margin(np.array([[0.7, 0.2, 0.1], [0.5, 0.5, 0.0]])), [0.5, 1.0])


def test_entropy_inside_sees_the_likeliest_cluster_alone() -> None:
    found = entropy_inside(
        np.array(
            [
                [0.2, 0.2, 0.2, 0.2, 0.1, 0.1],  # even inside the first
                [0.0, 0.0, 0.0, 0.6, 0.0, 0.4],  # sure inside the second
                [0.1, 0.1, 0.1, 0.1, 0.1, 0.5],  # a single class leaves no doubt
            ]
        ),
        CLUSTERS,
    )
    np.testing.assert_allclose(found, [1, 0, 0], atol=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(KINDS))
def test_score_of_an_image_depends_on_no_other_image(seed: int, kind: GateKind) -> None:
    gate = Gate(kind, (0.3, -0.2, 0.5, 0.1, 0.4, 1.0) if kind == "logistic" else ())
    everything = rows(seed)
    together = score(gate, everything, CLUSTERS)
    alone = [score(gate, everything[[i]], CLUSTERS)[0] for i in range(len(everything))]
    assert together.tolist() == alone


@pytest.mark.parametrize("kind", KINDS)
def test_no_image_has_no_score_and_a_broken_one_is_no_number(kind: GateKind) -> None:
    gate = Gate(kind, (0.3, -0.2, 0.5, 0.1, 0.4, 1.0) if kind == "logistic" else ())
    assert len(score(gate, np.empty((0, 6)), CLUSTERS)) == 0
    assert np.isnan(score(gate, np.full((2, 6), np.nan), CLUSTERS)).all()


def test_logistic_gate_learns_where_routing_helps() -> None:
    probabilities = rows(0, 400)
    is_unsure = margin(probabilities) > 0.6
    # Routing puts unsure images right and the others wrong.
    gate = fit_logistic(probabilities, CLUSTERS, base_wrong=is_unsure, routed_wrong=~is_unsure)
    opens = score(gate, probabilities, CLUSTERS) >= 0
    assert (opens == is_unsure).mean() > 0.95


def test_logistic_gate_with_nothing_to_learn_scores_all_images_alike() -> None:
    probabilities, never = rows(0), np.zeros(30, bool)
    for wrong, routed in ((never, never), (never, ~never), (~never, never)):
        gate = fit_logistic(probabilities, CLUSTERS, wrong, routed)
        assert (score(gate, probabilities, CLUSTERS) == 0).all()
    assert len(gate.coefficients) == features(probabilities, CLUSTERS).shape[1] + 1
