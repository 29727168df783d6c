"""Verdicts on simulated outcomes: one for each kind, the budget of a night, and figures that are the library's own."""

import numpy as np
import pytest

from ensemble.errors import ConfigError
from ensemble.evaluation import metrics
from ensemble.nightly.outcomes import Outcomes
from ensemble.nightly.verdict import collect, drift, figure, judge, nightly_level


def _outcomes(wrong: np.ndarray, confidence: float = 0.8) -> Outcomes:
    n = len(wrong)
    probabilities = np.where(wrong, 1 - confidence, confidence).astype(np.float32)
    return Outcomes(
        wrong.astype(np.int32),
        wrong.astype(np.int32),
        probabilities,
        np.full(n, confidence, np.float32),
    )


def _verdict(before: np.ndarray, after: np.ndarray, min_effect: float) -> str:
    evidence = collect("top1_error", _outcomes(before), _outcomes(after))
    return judge([evidence], [min_effect], 1 / 365)[0].verdict


ROWS = np.arange(10_000)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (ROWS < 500, ROWS < 600, "regressed"),
        (ROWS < 600, ROWS < 500, "improved"),
        (ROWS < 500, ROWS < 505, "ok"),
        (ROWS < 500, ROWS < 540, "ok"),  # worse for certain, and by less than what matters
        ((ROWS < 1500), (ROWS >= 1450) & (ROWS < 2950), "inconclusive"),
    ],
)
def test_each_verdict_on_ten_thousand_images(
    before: np.ndarray, after: np.ndarray, verdict: str
) -> None:
    assert _verdict(before, after, 0.0055) == verdict


def test_an_inconclusive_comparison_says_how_many_images_would_decide_it() -> None:
    evidence = collect(
        "top1_error", _outcomes(ROWS < 1500), _outcomes((ROWS >= 1450) & (ROWS < 2950))
    )
    (judgement,) = judge([evidence], [0.0055], 1 / 365)
    assert judgement.num_images_needed is not None
    assert 50_000 < judgement.num_images_needed < 200_000


@pytest.mark.nightly
def test_twenty_gates_raise_no_more_false_alarms_than_one() -> None:
    """A tenth of the nights may alarm here, so that 400 nights tell it from a tenth of the gates."""
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(400):
        evidences = []
        for _ in range(20):
            wrong = int(rng.binomial(60, 0.5))
            right = 60 - wrong
            before = np.concatenate([np.zeros(wrong, bool), np.ones(right, bool)])
            evidences.append(collect("top1_error", _outcomes(before), _outcomes(~before)))
        alarms += any(j.verdict == "regressed" for j in judge(evidences, [1e-3] * 20, 0.1))
    assert alarms <= 55


def test_figures_are_those_of_the_library() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 7)) * 2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = rng.integers(0, 7, 500)
    outcomes = Outcomes(
        metrics.ranks(probabilities, labels).astype(np.int32),
        probabilities.argmax(axis=1).astype(np.int32),
        probabilities[np.arange(500), labels].astype(np.float32),
        probabilities.max(axis=1).astype(np.float32),
    )
    assert figure("top3_error", outcomes) == metrics.top_k_error(probabilities, labels, 3)
    assert figure("nll", outcomes) == pytest.approx(metrics.nll(probabilities, labels), rel=1e-6)
    assert figure("ece", outcomes) == pytest.approx(metrics.ece(probabilities, labels), rel=1e-5)


def test_outcomes_are_read_as_they_were_written() -> None:
    outcomes = _outcomes(ROWS < 7)
    read = Outcomes.decode(outcomes.encode(), "a file")
    assert read.sha256 == outcomes.sha256
    assert _outcomes(ROWS < 8).sha256 != outcomes.sha256


def test_drift_counts_flips_and_the_largest_difference() -> None:
    before, after = _outcomes(ROWS < 500), _outcomes(ROWS < 503)
    assert drift(before, after).flips == 3
    assert drift(before, after).largest == pytest.approx(0.6)
    assert "3 answers do" in drift(before, after).describe()


def test_openings_of_the_vault_are_charged() -> None:
    assert nightly_level(1.0, 365, 10) < nightly_level(1.0, 365) == 1 / 365


def test_unknown_metric_is_refused() -> None:
    with pytest.raises(ConfigError, match="no metric 'accuracy' of images"):
        figure("accuracy", _outcomes(ROWS < 7))
