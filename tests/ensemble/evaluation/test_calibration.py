import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from ensemble.errors import EmptySplitError
from ensemble.evaluation.calibration import apply_temperature, calibrate, fit_temperature, nll_at


def _predictions(seed, sharpness, images=400, classes=5):
    """Log-probabilities whose labels are drawn from themselves, then made surer by `sharpness`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(images, classes))
    gumbel = rng.gumbel(size=logits.shape)
    labels = (logits + gumbel).argmax(axis=1)
    logits *= sharpness
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), labels


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_one_of_lowest_nll(sharpness):
    logs, labels = _predictions(0, sharpness)
    found = minimize_scalar(lambda t: nll_at(logs, labels, t), bounds=(0.05, 20), method="bounded")
    assert fit_temperature(logs, labels) == pytest.approx(found.x, abs=1e-3)


def test_overconfident_predictions_are_made_less_sure_and_the_order_stays():
    logs, labels = _predictions(1, 3.0)
    found = calibrate(logs, labels)
    assert found.is_kept
    assert found.value == pytest.approx(3, rel=0.2)
    assert found.nll_after < found.nll_before
    cooler = apply_temperature(logs, found.value)
    np.testing.assert_allclose(np.exp(cooler).sum(axis=1), 1)
    floored = np.maximum(logs, -30 * np.log(2))  # below, all count as that
    np.testing.assert_array_equal(
        cooler.argsort(axis=1, kind="stable"), floored.argsort(axis=1, kind="stable")
    )


def test_a_temperature_that_does_not_help_on_held_out_images_is_not_kept():
    kept = [calibrate(*_predictions(seed, 1.0, images=60)).is_kept for seed in range(20)]
    values = [calibrate(*_predictions(seed, 1.0, images=60)).value for seed in range(20)]
    assert not all(kept)
    assert all(value == 1.0 for value, is_kept in zip(values, kept, strict=True) if not is_kept)


def test_broken_rows_are_left_out_and_zeros_count_as_the_floor():
    logs, labels = _predictions(2, 2.0)
    clean = calibrate(logs[5:], labels[5:])
    logs[:5, 0] = np.nan
    assert calibrate(logs, labels).n == clean.n == 395
    with np.errstate(divide="ignore"):
        zeros = np.log(np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert nll_at(zeros, np.array([1, 1]), 1.0) == pytest.approx(30 * np.log(2))
    assert np.isfinite(apply_temperature(zeros, 2.0)).all()


def test_no_usable_image_is_refused():
    with pytest.raises(EmptySplitError, match="1 usable images"):
        calibrate(np.zeros((1, 2)), np.array([0]))
