"""Folds of one labelled set."""

import numpy as np
import pytest

from ensemble.errors import ConfigError
from ensemble.search.crossfit import stratified_folds


def test_folds_are_stratified_and_refused_when_there_are_too_few_images():
    labels = np.repeat(np.arange(4), 10)
    folds = stratified_folds(labels, 5, 0)
    counts = np.array([np.bincount(folds[labels == label], minlength=5) for label in range(4)])
    assert (counts == 2).all()
    with pytest.raises(ConfigError, match="2 folds of 1 images"):
        stratified_folds(labels[:1], 2, 0)
