"""The e-detector: how seldom it alarms for nothing, how soon it finds a loss, and that nights can be cut anywhere."""

import numpy as np

from ensemble.nightly.stream import EDetector


def _signs(rng: np.random.Generator, size: int, share_worse: float) -> list[int]:
    return np.where(rng.random(size) < share_worse, 1, -1).tolist()


def test_false_alarms_come_later_than_the_stated_run_length() -> None:
    rng = np.random.default_rng(0)
    lengths = []
    for _ in range(40):
        detector = EDetector(200.0).update(_signs(rng, 3000, 0.5))
        lengths.append(detector.alarmed_at or 3000)
    assert np.mean(lengths) > 200


def test_a_loss_is_found_soon() -> None:
    rng = np.random.default_rng(1)
    found = [EDetector(10_000.0).update(_signs(rng, 1000, 0.65)).alarmed_at for _ in range(30)]
    assert all(found)
    assert np.median([at for at in found if at]) < 400


def test_a_gain_raises_no_alarm() -> None:
    signs = _signs(np.random.default_rng(2), 20_000, 0.4)
    assert EDetector(1000.0).update(signs).alarmed_at is None


def test_nights_may_be_cut_anywhere() -> None:
    signs = _signs(np.random.default_rng(3), 500, 0.55)
    at_once = EDetector(50.0).update(signs)
    by_nights = EDetector(50.0)
    for start in range(0, 500, 37):
        by_nights = by_nights.update(signs[start : start + 37])
    assert by_nights == at_once
