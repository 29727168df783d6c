"""`compare` of two nights and `evaluate` of an artifact, on a world without networks; and the words of the verbs."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ensemble.errors import ConfigError
from jobs.__main__ import app
from jobs.compare import compare, describe_changed
from jobs.evaluate import evaluate
from jobs.nightly.suite import GateConfig

from .worlds import TRAIN, Nights, World, digits

GATES = [GateConfig(metric="top1_error", min_effect=0.5)]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite of three nights: good, the same, and one whose member broke; then one of other labels."""
    nights = Nights(tmp_path / "nightly")
    nights.run()
    nights.run()
    good = nights.world.models
    nights.world.change("b", shift=3.0)
    nights.run()
    nights.world = World(good, first=TRAIN + 100)
    nights.run()
    path = tmp_path / "nightly.yaml"
    path.write_text("rows:\n  - {name: digits, artifact: deployed, images: {kind: digits}}\n")
    return path


def test_two_nights_are_compared_by_their_records(suite: Path) -> None:
    (same,) = compare(f"{suite}#1", f"{suite}#2", GATES)
    assert [c.verdict for c in same.comparisons] == ["identical"]
    assert describe_changed(same.changed) == "the two are one and the same ensemble"
    (worse,) = compare(f"{suite}#1", f"{suite}#3", GATES)
    assert [c.verdict for c in worse.comparisons] == ["regressed"]
    assert worse.changed == ("b",)
    (better,) = compare(f"{suite}#3", f"{suite}#1", GATES)
    assert [c.verdict for c in better.comparisons] == ["improved"]


def test_nights_of_other_images_are_not_comparable(suite: Path) -> None:
    (result,) = compare(f"{suite}#1", str(suite), GATES)
    assert result.comparisons == ()
    assert result.reason.startswith("images: ")


def test_a_night_that_is_not_there_and_a_run_beside_a_night_are_refused(suite: Path) -> None:
    with pytest.raises(ConfigError, match="no night with the record '9'"):
        compare(f"{suite}#1", f"{suite}#9", GATES)
    with pytest.raises(ConfigError, match="one is a night of a suite, and the other a run"):
        compare(str(suite), "runs/x", GATES)


def test_exit_codes_of_compare(suite: Path) -> None:
    runner = CliRunner()
    for b, code in ((2, 0), (3, 3), (4, 4)):
        assert runner.invoke(app, ["compare", f"{suite}#1", f"{suite}#{b}"]).exit_code == code


def test_a_word_that_is_no_verb_is_a_suite(tmp_path: Path) -> None:
    runner = CliRunner()
    for words in (
        ["nightly", "no.yaml"],
        ["nightly", "run", "no.yaml"],
        ["nightly", "--date", "2026-01-01", "no.yaml"],
    ):
        error = runner.invoke(app, words).exception
        assert isinstance(error, ConfigError)
        assert "cannot read the suite 'no.yaml'" in str(error)


def test_evaluate_keeps_its_predictions(tmp_path: Path) -> None:
    artifact = tmp_path / "good"
    artifact.mkdir()
    (artifact / "ensemble.json").write_text("{}")
    world, words = World(), [f"folder={tmp_path / 'kept'}", "top_k=2"]
    first, second = (
        evaluate(str(artifact), "{kind: digits}", words, lambda suite: world, print)
        for _ in range(2)
    )
    assert (first.images, second.forward_passes) == (len(digits()[1]) - TRAIN, 0)
    assert first.figures == second.figures
    assert {f.metric for f in first.figures} == {"top1_error", "nll", "ece", "top2_error"}
    with pytest.raises(ConfigError, match="rows: no such setting"):
        evaluate(str(artifact), "{kind: digits}", ["rows=1"], lambda suite: world, print)
