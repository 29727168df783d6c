"""The ensemble in scikit-learn's manner."""

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from ensemble import predictor
from ensemble.artifact import write
from ensemble.classifier import EnsembleClassifier, MemberClassifier
from ensemble.errors import ConfigError, ShapeError
from ensemble.outranking.weighting import Weighting
from ensemble.search.settings import SearchConfig

IMAGES, LABELS = load_digits(return_X_y=True)
NAMES = np.array([f"digit {label}" for label in LABELS])
TRAIN, SEARCH, TEST = slice(0, 400), slice(400, 1000), slice(1000, None)


@pytest.fixture(scope="module")
def pool() -> dict[str, Any]:
    classifiers = {
        "linear": LogisticRegression(C=0.001, max_iter=2000),
        "bayes": GaussianNB(),
        "tree": DecisionTreeClassifier(random_state=0, max_depth=6),
    }
    return {name: each.fit(IMAGES[TRAIN], NAMES[TRAIN]) for name, each in classifiers.items()}


@pytest.mark.parametrize("kind", ["auto", "paper", "caruana"])
def test_it_is_a_classifier_whose_weights_are_searched(pool: dict[str, Any], kind: str) -> None:
    ensemble = EnsembleClassifier(pool, SearchConfig(kind=kind)).fit(IMAGES[SEARCH], NAMES[SEARCH])
    probabilities = ensemble.predict_proba(IMAGES[TEST])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert ensemble.weights_.keys() <= pool.keys()
    assert ensemble.classes_.tolist() == sorted(set(NAMES))
    worst = min(each.score(IMAGES[TEST], NAMES[TEST]) for each in pool.values())
    assert ensemble.score(IMAGES[TEST], NAMES[TEST]) > worst
    expected = ensemble.classes_[probabilities.argmax(axis=1)]
    assert ensemble.predict(IMAGES[TEST]).tolist() == expected.tolist()


def test_it_can_be_cloned_and_says_that_it_is_not_fitted(pool: dict[str, Any]) -> None:
    from sklearn.exceptions import NotFittedError

    ensemble = EnsembleClassifier(pool).fit(IMAGES[SEARCH], NAMES[SEARCH])
    assert ensemble.get_params()["pool"] is pool
    with pytest.raises(NotFittedError):
        clone(ensemble).predict(IMAGES[TEST])


def test_columns_are_joined_by_label_and_not_by_place(pool: dict[str, Any]) -> None:
    few = GaussianNB().fit(IMAGES[TRAIN][LABELS[TRAIN] > 4], NAMES[TRAIN][LABELS[TRAIN] > 4])
    ensemble = EnsembleClassifier(
        {"few": few, "bayes": pool["bayes"]}, SearchConfig(kind="uniform")
    )
    ensemble.fit(IMAGES[SEARCH], NAMES[SEARCH])
    found = ensemble.predict_proba(IMAGES[TEST])
    theirs = np.zeros_like(found)
    theirs[:, 5:] = few.predict_proba(IMAGES[TEST])
    mean = (theirs + pool["bayes"].predict_proba(IMAGES[TEST])) / 2
    np.testing.assert_allclose(found, mean, atol=1e-6)


def test_what_is_no_classifier_is_named() -> None:
    class Wrong:
        def predict_proba(self, images: np.ndarray) -> np.ndarray:
            return np.ones((len(images), 3)) / 3

    with pytest.raises(
        ShapeError, match=r"'wrong' gives \[600, 3\], expected .* each of 10 labels"
    ):
        EnsembleClassifier({"wrong": Wrong()}).fit(IMAGES[SEARCH], NAMES[SEARCH])
    with pytest.raises(ConfigError, match="the pool is empty"):
        EnsembleClassifier({}).fit(IMAGES[SEARCH], NAMES[SEARCH])


def test_members_answer_as_the_artifact_of_the_same_weights_does(
    tiny_run: Any, tmp_path: Any
) -> None:
    images = tiny_run.pixels(tiny_run.splits.search.image_ids.tolist())
    pool = {member.name: MemberClassifier(member) for member in tiny_run.members}
    labels = tiny_run.splits.search.labels
    ensemble = EnsembleClassifier(pool, SearchConfig(kind="uniform")).fit(images, labels)
    classes = tuple(map(str, ensemble.classes_))
    write.save(tmp_path / "a", tiny_run.members, Weighting(np.array([1, 1])), classes, "uniform")
    expected = predictor.load(tmp_path / "a").predict(images)
    np.testing.assert_allclose(ensemble.predict_proba(images), expected.probabilities, atol=1e-6)


def test_batches_of_ray_data_get_answers_beside_their_other_columns(
    tiny_run: Any, tmp_path: Any
) -> None:
    write.save(
        tmp_path / "a", tiny_run.members, Weighting(np.array([3, 2])), tuple("0123456789"), "paper"
    )
    images = tiny_run.pixels(tiny_run.splits.test.image_ids[:6].tolist())
    batch = {"path": np.arange(6), "image": np.stack(images)}
    found = predictor.Batches(tmp_path / "a", top_k=2)(batch)
    expected = predictor.load(tmp_path / "a").predict(images)
    assert found["path"].tolist() == list(range(6))
    assert found["answer"].tolist() == list(expected.labels)
    assert found["top_labels"].shape == found["top_probabilities"].shape == (6, 2)
    assert "image" not in found
