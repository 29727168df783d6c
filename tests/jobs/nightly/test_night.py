"""Two weeks of nights on digits in their fast form: the right verdict, blame, alert and exit code for each event."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import ConfigError, DataError
from ensemble.report.documents.nightly import Night
from ensemble.storage.local_store import LocalStore
from jobs.nightly.accept import Decision, accept, acknowledge
from jobs.nightly.alerts import replay
from jobs.nightly.history import read_history
from jobs.nightly.job import MissedNightError, check_age, parse_age

from .worlds import TRAIN, FailingWorld, Nights, World, digits


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    return Nights(tmp_path / "nightly")


def _blamed(record: Night) -> tuple[str, str]:
    explanation = record.rows[0].explanation
    assert explanation is not None
    assert explanation.forward_passes == 0
    first = explanation.blame[0]
    return first.part, "; ".join(first.changes)


def test_two_weeks(nights: Nights) -> None:
    world = nights.world
    # 1, 2: the first night is the baseline, and nothing changes: no forward pass.
    record, code = nights.run()
    assert (code, record.rows[0].comparisons) == (0, ())
    passes = world.passes
    assert record.rows[0].proposal.startswith("proposal: weights selected anew from the deployed")
    record, code = nights.run()
    assert (code, world.passes) == (0, passes)
    assert {c.verdict for c in record.rows[0].comparisons} == {"identical"}

    # 3: a model is swapped for one that answers at random: alert, and the member is blamed.
    good = world.models
    world.change("b", seed=900, shift=3.0)
    record, code = nights.run()
    assert code == 3
    part, changes = _blamed(record)
    assert part == "b"
    assert "weights_sha256" in changes

    # 4, 5: it stays: still one alert, then it is acknowledged and counts no more.
    assert nights.run()[1] == 3
    acknowledge(nights.suite, "digits/top1_error", nights.day + timedelta(days=1))
    assert nights.run()[1] == 0
    (alert,) = replay(read_history(LocalStore(nights.folder)))
    assert (alert.state, alert.nights) == ("acknowledged", 3)

    # 6: it is put back, and the alert resolves itself.
    world.models = good
    assert nights.run()[1] == 0
    (alert,) = replay(read_history(LocalStore(nights.folder)))
    assert alert.state == "resolved"

    # 7: preprocessing breaks.
    world.change("c", shift=1.2)
    record, code = nights.run()
    assert code == 3
    part, changes = _blamed(record)
    assert (part, "preprocessing.mean" in changes) == ("c", True)
    world.models = good

    # 8: a library's version changes, and the numbers by its rounding: judged, and shown not to be worse.
    for name in good:
        world.change(name, library="2.1", noise=1e-4)
    record, code = nights.run()
    assert code == 0
    assert {c.verdict for c in record.rows[0].comparisons} <= {"ok", "improved"}
    world.models = good

    # 9: the data change: no comparison image by image, which has a code of its own.
    labels = world.labels
    world.labels = np.where(np.arange(len(labels)) == TRAIN + 5, 3, labels)
    record, code = nights.run()
    assert code == 4
    assert "labels" in record.rows[0].comparisons[0].reason
    world.labels = labels

    # 10: a night is killed, and goes on with what it had predicted.
    world.models = good | {"a": good["a"].__class__(50), "b": good["b"].__class__(51)}
    world.dies_after, passes = 1, world.passes
    day = nights.day
    with pytest.raises(KeyboardInterrupt):
        nights.run()
    nights.day = day
    record, code = nights.run()
    assert record.rows[0].forward_passes == len(labels) - TRAIN
    world.models = good

    # 11: the machines are gone: partial, which is no verdict.
    nights.world = FailingWorld(world.models)
    record, code = nights.run()
    assert code == 5
    assert "the cluster is gone" in record.rows[0].error
    nights.world = world

    # 12: a night is missed, which another clock tells.
    nights.day += timedelta(days=1)
    last = read_history(LocalStore(nights.folder)).last
    assert last is not None
    late = last[1].written_at + timedelta(hours=27)
    with pytest.raises(MissedNightError, match=r"27.0 hours ago. Expected one within 26.0 hours"):
        check_age(nights.suite, parse_age("26h"), late)
    nights.run()
    assert "ended 0.0 hours ago" in check_age(nights.suite, parse_age("26h"))

    # 13: nobody's change and the old weights: only one alert for each of the two regressions.
    alerts = replay(read_history(LocalStore(nights.folder)))
    assert [alert.metric for alert in alerts] == ["top1_error", "top1_error"]
    assert {alert.state for alert in alerts} == {"resolved"}


def test_one_regression_over_ten_nights_is_one_alert_and_one_message(nights: Nights) -> None:
    nights.run()
    nights.world.change("a", shift=1.5)
    codes = [nights.run()[1] for _ in range(10)]
    assert codes == [3] * 10
    (alert,) = replay(read_history(LocalStore(nights.folder)))
    assert (alert.state, alert.nights, alert.opened) == ("open", 10, 2)


def test_a_member_that_the_ensemble_hides_raises_one_alert_of_its_own(nights: Nights) -> None:
    """Its weight is small, so the ensemble hardly errs more; put back, the alert resolves itself."""
    world = nights.world
    world.weights = {"a": 8, "b": 1, "c": 8}
    nights.run()
    world.change("b", shift=3.0)
    record, code = nights.run()
    verdicts = {c.label: c.verdict for c in record.rows[0].comparisons if c.is_gate}
    assert verdicts["member_error of b"] == "regressed"
    assert verdicts["top1_error"] != "regressed"
    assert code == 3
    (alert,) = replay(read_history(LocalStore(nights.folder)))
    assert alert.key == "digits/member_error"
    assert alert.last is not None
    assert alert.last.part == "b"
    assert "member_error of b" in (nights.folder / "nights/000002.html").read_text()
    assert nights.run()[1] == 3
    acknowledge(nights.suite, "digits/member_error", nights.day + timedelta(days=1))
    assert nights.run()[1] == 0
    world.change("b", shift=0.0)
    record, code = nights.run()
    assert code == 0
    (alert,) = replay(read_history(LocalStore(nights.folder)))
    assert (alert.state, alert.nights) == ("resolved", 3)


def test_identical_nights_raise_no_alert_and_test_nothing(nights: Nights) -> None:
    nights.run()
    for _ in range(5):
        record, code = nights.run()
        assert (code, record.num_compared) == (0, 0)
    assert replay(read_history(LocalStore(nights.folder))) == ()


def test_the_same_identity_with_other_numbers_is_drift(nights: Nights, tmp_path: Path) -> None:
    import shutil

    nights.run()
    shutil.rmtree(nights.folder / "table")
    nights.world.change("a", noise=0.3)  # another machine's rounding, which is in no identity
    record, code = nights.run()
    assert code == 0
    comparison = record.rows[0].comparisons[0]
    assert comparison.verdict == "drift"
    assert "a label's probability differs by up to" in comparison.reason


def test_a_canary_that_is_not_found_makes_the_night_worth_nothing(nights: Nights) -> None:
    nights.run()
    nights.world.is_wild = True
    record, code = nights.run()
    assert (record.rows[0].is_worthless, code) == (True, 5)
    assert any("NOT FOUND: this night is worth nothing" in line for line in nights.lines)


def test_a_second_night_of_a_date_is_refused_unless_rows_failed(nights: Nights) -> None:
    day = nights.day
    good = nights.world
    nights.world = FailingWorld()
    assert nights.run()[1] == 5
    nights.day, nights.world = day, good
    assert nights.run()[1] == 0
    nights.day = day
    with pytest.raises(ConfigError, match="the night of 2026-11-01 is there already: record 2"):
        nights.run()


def test_a_trial_counts_for_nothing(nights: Nights) -> None:
    record, code = nights.run(is_smoke=True)
    assert (record.rows[0].n, code) == (200, 0)
    assert read_history(LocalStore(nights.folder)).last is None
    assert nights.run()[0].rows[0].comparisons == ()


@pytest.mark.parametrize(
    "condition",
    ["decoder", "precision", "device", "driver", "libraries", "commit", "dirty", "config"],
)
def test_each_condition_that_must_match_is_refused_where_it_differs(
    nights: Nights, condition: str
) -> None:
    nights.row["must_match"] = [condition]
    nights.run()
    history = read_history(LocalStore(nights.folder))
    assert history.last is not None
    _, first = history.last
    row = first.rows[0]
    assert row.conditions is not None
    other = {"dirty": not row.conditions.dirty, "libraries": {"torch": "1.0"}}.get(condition, "x")
    changed = row.conditions.model_copy(update={condition: other})
    altered = first.model_copy(update={"rows": (row.model_copy(update={"conditions": changed}),)})
    path = nights.folder / "records" / "000001.json"
    path.write_text(altered.model_dump_json())
    record, code = nights.run()
    assert code == 4
    assert record.rows[0].comparisons[0].reason.startswith(f"{condition}: ")


@pytest.mark.parametrize("condition", ["images", "labels", "classes", "seeds"])
def test_other_images_labels_classes_or_seeds_are_never_compared(
    nights: Nights, condition: str
) -> None:
    nights.run()
    world = nights.world
    if condition == "images":
        world.first += 10
    elif condition == "labels":
        world.labels = np.where(np.arange(len(world.labels)) == TRAIN, 0, world.labels)
        world.labels[TRAIN + 1] = 1
    elif condition == "classes":
        world.classes = tuple("1023456789")
    else:
        nights.row["seed"] = 1
    record, code = nights.run()
    assert code == 4
    assert condition in record.rows[0].comparisons[0].reason


def test_accept_moves_the_baseline_and_bounds_what_adds_up(nights: Nights) -> None:
    nights.settings["false_alarms_per_year"] = 30.0
    nights.row["gates"] = [{"metric": "top1_error", "min_effect": 0.6, "max_cumulative_loss": 3.0}]
    nights.run()
    nights.world.change("a", shift=0.35)
    record, _ = nights.run()
    loss = 100 * (record.rows[0].comparisons[0].loss or 0)
    assert 0 < loss < 3
    _, accepted = accept(nights.suite, Decision(), nights.world, nights.lines.append)
    assert accepted.cumulative_loss["digits/top1_error"] == pytest.approx(loss / 100)
    assert any("against the anchor, record 1; at most 3 may add up" in x for x in nights.lines)
    record, _ = nights.run()
    by_baseline = {c.baseline: c for c in record.rows[0].comparisons}
    assert by_baseline["accepted"].verdict == "identical"
    assert by_baseline["anchor"].loss == pytest.approx(loss / 100)
    nights.world.change("a", shift=1.0)
    nights.run()
    with pytest.raises(ConfigError, match=r"has lost .* and max_cumulative_loss is 3\. Win it"):
        accept(nights.suite, Decision(), nights.world, nights.lines.append)
    accept(nights.suite, Decision(anchor="new sensor"), nights.world, nights.lines.append)
    record, code = nights.run()
    assert ({c.verdict for c in record.rows[0].comparisons}, code) == ({"identical"}, 0)


def test_the_vault_is_opened_by_accept_alone_and_charged(nights: Nights) -> None:
    nights.row["vault"] = 300
    record, _ = nights.run()
    assert record.rows[0].n == len(digits()[1]) - TRAIN - 300
    _, first = accept(nights.suite, Decision(), nights.world, nights.lines.append)
    assert first.vault[0].n == 300
    assert first.vault[0].comparison is None
    record, _ = nights.run()
    assert record.level == pytest.approx(1 / 366)
    _, second = accept(nights.suite, Decision(), nights.world, nights.lines.append)
    assert second.vault[0].comparison is not None
    assert second.vault[0].comparison.verdict == "identical"


def test_a_vault_that_regressed_refuses_and_the_opening_is_recorded(nights: Nights) -> None:
    nights.row |= {
        "vault": 900,
        "gates": [{"metric": "top1_error", "min_effect": 0.5, "max_cumulative_loss": 90}],
    }
    nights.run()
    accept(nights.suite, Decision(), nights.world, nights.lines.append)
    nights.world.change("a", shift=3.0)
    nights.run()
    with pytest.raises(ConfigError, match="the vault refuses digits: top1_error is"):
        accept(nights.suite, Decision(), nights.world, nights.lines.append)
    history = read_history(LocalStore(nights.folder))
    (_, first), (_, refused) = history.accepts()
    assert (first.rows, refused.rows, len(refused.vault)) == (("digits",), (), 1)


def test_accept_refuses_what_was_not_judged(nights: Nights) -> None:
    with pytest.raises(ConfigError, match="there is no night to accept yet"):
        accept(nights.suite, Decision(), nights.world, nights.lines.append)
    world, nights.world = nights.world, FailingWorld()
    nights.run()
    with pytest.raises(ConfigError, match="did not judge it: ClusterError: the cluster is gone"):
        accept(nights.suite, Decision(), world, nights.lines.append)
    nights.world = world
    nights.run()
    with pytest.raises(ConfigError, match=r"no row 'digit'\. Did you mean 'digits'"):
        accept(nights.suite, Decision(rows=("digit",)), world, nights.lines.append)
    nights.row["vault"] = 100
    nights.run()
    world.change("a", seed=77)
    with pytest.raises(ConfigError, match="what is deployed has changed"):
        accept(nights.suite, Decision(anchor="x"), world, nights.lines.append)


def test_acknowledging_what_is_not_open_is_refused(nights: Nights) -> None:
    with pytest.raises(ConfigError, match="no alert is open"):
        acknowledge(nights.suite, "digits/nll", date(2026, 12, 1))
    nights.run()
    nights.world.change("a", shift=3.0)
    nights.run()
    with pytest.raises(
        ConfigError, match=r"no open alert 'digits/nll'\..*Known: digits/top1_error"
    ):
        acknowledge(nights.suite, "digits/nll", date(2026, 12, 1))


def test_an_alert_that_was_acknowledged_counts_again_after_its_date(nights: Nights) -> None:
    nights.run()
    nights.world.change("a", shift=3.0)
    assert nights.run()[1] == 3
    acknowledge(nights.suite, "digits/top1_error", nights.day)
    assert [nights.run()[1] for _ in range(2)] == [0, 3]


def test_a_stream_of_fresh_images_alarms_and_refuses_old_ones(nights: Nights) -> None:
    world = nights.world
    nights.row |= {"stream": {"reference": "pinned", "average_run_length": 50}}
    world.reference_models = dict(world.models)
    codes = []
    world.change("a", shift=2.0)
    world.change("b", shift=2.0)
    for start in range(TRAIN, TRAIN + 400, 100):
        world.first, world.last = start, start + 100
        codes.append(nights.run()[1])
    assert codes[-1] == 3
    record, _ = nights.run()
    assert "A stream needs images that no night has seen" in record.rows[0].error
    (alert,) = replay(read_history(LocalStore(nights.folder)))
    assert alert.key == "digits/stream"


def test_groups_that_cannot_be_read_are_named(nights: Nights, tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    path.write_text("image,set\n1,2\n")
    nights.row["groups"] = str(path)
    nights.run()
    record, code = nights.run()
    assert code == 5
    assert "Expected a CSV file with the columns image_id and group" in record.rows[0].error


def test_a_damaged_record_is_named(nights: Nights) -> None:
    nights.run()
    (nights.folder / "records" / "000001.json").write_text('{"kind": "night"}')
    with pytest.raises(DataError, match=r"000001\.json is not the record of a night"):
        read_history(LocalStore(nights.folder))
    assert isinstance(nights.world, World)
