"""Answering step by step: against the brute force image by image, and the predictor against the table to the bit."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble import predictor
from ensemble.artifact import write
from ensemble.artifact.about import About
from ensemble.artifact.from_table import cascade_answers, golden_from_table
from ensemble.artifact.golden import read_golden
from ensemble.artifact.read import read, read_document
from ensemble.cascade.steps import SIGNALS, Signal, Steps, follow
from ensemble.errors import CheckpointError, ConfigError
from ensemble.evaluation import metrics
from ensemble.evaluation.conformal import ConformalSets
from ensemble.files import seal, unseal
from ensemble.nightly.deployment import Deployment, evaluate
from ensemble.outranking.combine import Combine
from ensemble.outranking.weighting import Weighting
from ensemble.search.fallbacks import Fallback

CLASSES = tuple("0123456789")
WEIGHTS = Weighting(np.array([60, 40]))
load = partial(predictor.load, equal_bits=True)


def _logs(num_members: int, num_images: int, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, 2, (num_members, num_images, 5))
    return (logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from(SIGNALS),
    st.sampled_from(("probabilities", "logs")),
    st.permutations(range(3)),
    st.booleans(),
)
def test_every_image_is_answered_by_the_members_up_to_the_step_that_is_sure(
    seed: int, signal: Signal, combine: Combine, order: list[int], leads: bool
) -> None:
    rng = np.random.default_rng(seed)
    weighting = Weighting(rng.integers(1, 9, 3) * 1000, combine, 1.2)
    order = [3, *order] if leads else order
    thresholds = np.append(rng.uniform(0.2, 1.5, len(order) - 1), -np.inf)
    logs, asked = _logs(4, 12, seed), []

    def predict(member: int, rows: np.ndarray) -> np.ndarray:
        asked.append((member, rows.tolist()))
        return logs[member][rows]

    found = follow(Steps(tuple(order), signal, thresholds), weighting, (12, 5), predict)
    for image in range(12):
        so_far: list[int] = []
        for step, member in enumerate(order):
            so_far.append(member)
            voters = [index for index in so_far if index < 3] or so_far
            units = np.array([weighting.units[i] if i in voters else 0 for i in range(3)])
            columns, units = (
                (logs[3:], np.array([1])) if voters == [3] else (logs[:3], units.astype(np.int64))
            )
            mean = Weighting(units, combine, 1.2)
            probabilities = metrics.pooled([column[[image]] for column in columns], mean)[0]
            top = np.sort(probabilities)[::-1]
            agreeing = sum(logs[i][image].argmax() == probabilities.argmax() for i in so_far)
            value = {
                "confidence": top[0],
                "margin": top[0] - top[1],
                "agreement": agreeing * (len(so_far) > 1) + top[0],
            }[signal]
            if value >= thresholds[step]:
                break
        assert found.exits[image] == step
        np.testing.assert_allclose(found.probabilities[image], probabilities, atol=1e-6)
        assert found.scores[image].argmax() == probabilities.argmax()
    assert [member for member, _ in asked] == order[: len(asked)]
    for step, (_, rows) in enumerate(asked):
        assert rows == np.flatnonzero(found.exits >= step).tolist()


@pytest.fixture(scope="module")
def steps(tiny_run: Any) -> Steps:
    rows = tiny_run.table.read(tiny_run.members[1].column, tiny_run.splits.test.image_ids)
    half = float(np.median(np.exp(rows.max(axis=1))))
    return Steps((1, 0), "confidence", np.array([half, -np.inf]))


@pytest.fixture(scope="module")
def saved(tiny_run: Any, steps: Steps, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "ensemble"
    golden = golden_from_table(
        tiny_run.table,
        tiny_run.members,
        WEIGHTS,
        None,
        1.5,
        tiny_run.splits.test,
        tiny_run.decode,
        steps,
    )
    fallbacks = [
        Fallback(lost.name, {other.name: 1.0}, 0, 0)
        for lost, other in (tiny_run.members, tiny_run.members[::-1])
    ]
    write.save(
        folder,
        tiny_run.members,
        WEIGHTS,
        CLASSES,
        "paper",
        fallbacks=fallbacks,
        temperature=1.5,
        about=About(golden=golden),
        cascade=steps,
        conformal=ConformalSets(0.9, 0.7, 90),
    )
    return folder


@pytest.fixture(scope="module")
def led(tiny_run: Any, steps: Steps, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first member alone, behind the second, which has no weight."""
    folder = tmp_path_factory.mktemp("led") / "ensemble"
    write.save(
        folder,
        tiny_run.members[:1],
        Weighting(np.array([100])),
        CLASSES,
        "best",
        cascade=steps,
        lead=tiny_run.members[1],
    )
    return folder


def test_the_predictors_answers_are_those_of_the_table_to_the_bit(
    tiny_run: Any, saved: Path, led: Path, steps: Steps
) -> None:
    images = tiny_run.splits.test
    pixels = tiny_run.pixels(images.image_ids.tolist())
    expected = cascade_answers(tiny_run.table, tiny_run.members, WEIGHTS, steps, None, images)
    assert 20 < (expected.exits == 0).sum() < 80
    found = load(saved).predict(pixels)
    assert found.exits is not None
    assert found.exits.tolist() == (expected.exits + 1).tolist()
    assert found.answers.tolist() == expected.scores.argmax(axis=1).tolist()
    powers = expected.probabilities ** (1 / 1.5)
    np.testing.assert_allclose(
        found.probabilities, powers / powers.sum(axis=1, keepdims=True), atol=1e-6
    )
    lead, member = tiny_run.members[1], tiny_run.members[:1]
    weights = Weighting(np.array([100]))
    behind = cascade_answers(tiny_run.table, member, weights, steps, lead, images)
    assert load(led).predict(pixels).probabilities.tobytes() == behind.probabilities.tobytes()


def test_every_answer_has_the_set_that_the_artifact_states(tiny_run: Any, saved: Path) -> None:
    pixels = tiny_run.pixels(tiny_run.splits.test.image_ids.tolist())
    loaded = load(saved)
    found = loaded.predict(pixels)
    assert found.sets is not None
    assert np.array_equal(found.sets, ConformalSets(0.9, 0.7, 90).of(found.probabilities))
    assert len(set(found.sets.sum(axis=1).tolist())) > 2
    for image in range(len(pixels)):
        names = found.set_of(image)
        assert names is not None
        assert names == tuple(label for label, _ in found.top(len(names))[image])
    # Thresholds of an ensemble say nothing of another one.
    assert loaded.without_cascade().predict(pixels[:2]).set_of(0) is None
    assert loaded.without("alexnet_small").predict(pixels[:2]).sets is None


def test_a_member_says_nothing_of_an_image_that_stopped_before_it(
    tiny_run: Any, saved: Path
) -> None:
    pixels = tiny_run.pixels(tiny_run.splits.test.image_ids.tolist())
    found = load(saved).predict(pixels)
    assert found.exits is not None
    first, second = (member.name for member in tiny_run.members[::-1])
    for image, step in enumerate(found.exits.tolist()):
        explanation = found.explain(image)
        assert explanation.exit_step == step
        assert list(explanation.votes) == [first, second][:step]
    assert np.isnan(found.by_member[second][found.exits == 1]).all()
    whole = load(saved).without_cascade().predict(pixels)
    assert whole.exits is None
    assert not np.isnan(whole.by_member[second]).any()
    with pytest.raises(ConfigError, match="a cascade of 2 steps, which a plain module cannot be"):
        load(saved).module()


def test_golden_inputs_are_far_from_every_threshold_and_replayed_step_by_step(
    saved: Path, steps: Steps
) -> None:
    golden, loaded = read_golden(saved), load(saved)
    assert golden is not None
    found = loaded.predict(golden.images)
    assert found.probabilities.tobytes() == golden.probabilities.tobytes()
    assert loaded.replay().problems == ()
    surest = found.by_member["alexnet_small"].max(axis=1)
    assert np.abs(surest - steps.thresholds[0]).min() > 4 * golden.tolerance
    assert loaded.without_cascade().replay().problems


def test_without_a_member_all_others_answer_and_without_the_lead_the_whole_ensemble(
    tiny_run: Any, saved: Path, led: Path, tmp_path: Path
) -> None:
    pixels = tiny_run.pixels(tiny_run.splits.test.image_ids[:5].tolist())
    lost = load(saved, without="resnet14_small")
    assert lost.artifact.cascade is None
    assert lost.predict(pixels).exits is None
    copy = Path(shutil.copytree(led, tmp_path / "ensemble"))
    next(copy.glob("members/alexnet_small-*")).unlink()
    with pytest.warns(UserWarning, match="weights of 'alexnet_small'"):
        alone = load(copy, missing="reweight")
    assert [member.name for member in alone.members] == ["resnet14_small"]
    assert alone.predict(pixels).exits is None
    assert load(led).without("alexnet_small").artifact.cascade is None


def test_an_artifact_of_version_4_has_no_steps(saved: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(saved, tmp_path / "ensemble"))
    document = unseal(json.loads((copy / "ensemble.json").read_text()))
    assert document["schema_version"] == 5
    del document["cascade"], document["conformal"]
    (copy / "ensemble.json").write_text(json.dumps(seal(document | {"schema_version": 4})))
    assert read(copy).cascade is None
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
    found, expected = load(copy).predict(images), load(saved).without_cascade().predict(images)
    assert found.probabilities.tobytes() == expected.probabilities.tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": []}, "at least 1 item"),
        ({"signal": "hope"}, "signal"),
        ({"last": 0.5}, "expected null"),
        ({"member": "resnet14_small"}, "each once"),
        ({"threshold": "NaN"}, "finite"),
    ],
)
def test_steps_that_cannot_be_are_refused(
    saved: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    copy = Path(shutil.copytree(saved, tmp_path / "ensemble"))
    document = unseal(json.loads((copy / "ensemble.json").read_text()))
    cascade = document["cascade"]
    cascade |= {key: value for key, value in change.items() if key in ("steps", "signal")}
    if "last" in change:
        cascade["steps"][-1]["threshold"] = change["last"]
    for key in ("member", "threshold"):
        if key in change:
            cascade["steps"][0][key] = change[key]
    (copy / "ensemble.json").write_text(json.dumps(seal(document)))
    with pytest.raises(CheckpointError, match=f"is not an ensemble: (?s:.*){message}"):
        read(copy)


def test_a_night_judges_the_steps(tiny_run: Any, saved: Path, steps: Steps) -> None:
    images = tiny_run.splits.test
    document = read_document(saved)
    columns = {member.name: member.column for member in tiny_run.members}
    outcomes = evaluate(tiny_run.table, Deployment(document, columns), images)
    expected = cascade_answers(tiny_run.table, tiny_run.members, WEIGHTS, steps, None, images)
    assert outcomes.answers.tolist() == expected.scores.argmax(axis=1).tolist()
    without = document.model_copy(update={"cascade": None})
    assert (
        Deployment(without, columns).weights_identity
        != Deployment(document, columns).weights_identity
    )
