"""What nightly evaluation is worth: slow drift, a real null. For the night: minutes."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import ConfigError
from ensemble.images.index import ImageIndex
from ensemble.nightly.paired import compare_errors, exact_p
from ensemble.nightly.verdict import judge, nightly_level
from ensemble.storage.local_store import LocalStore
from ensemble.table.block import LogitBlock
from ensemble.table.logit_table import LogitTable
from jobs.nightly.accept import Decision, accept
from jobs.nightly.alerts import replay
from jobs.nightly.candidate import Say
from jobs.nightly.history import read_history
from jobs.nightly.suite import RowConfig

from .worlds import TRAIN, Candidate, Model, Nights, World, digits, predict

pytestmark = pytest.mark.nightly


# --- Slow drift ----------------------------------------------------------------------------------


@dataclass
class DriftWorld(World):
    """One member that loses two images of 10,000 net every night, while a hundred change."""

    wrong: np.ndarray = field(default_factory=lambda: np.arange(10_000) < 500)
    night: int = 0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def drift(self) -> None:
        """Let a night pass."""
        self.night += 1
        self.wrong = self.wrong.copy()
        right, wrong = np.flatnonzero(~self.wrong), np.flatnonzero(self.wrong)
        self.wrong[self.rng.choice(right, 51, replace=False)] = True
        self.wrong[self.rng.choice(wrong, 49, replace=False)] = False

    def images(self) -> ImageIndex:
        ids = np.array([f"digits/{i:05d}" for i in range(len(self.wrong))])
        return ImageIndex("drift", ids, np.zeros(len(self.wrong), np.int64), self.classes)

    def _model(self) -> Model:
        return Model(1000 + self.night)

    def candidate(self, row: RowConfig, say: Say) -> Candidate:
        self.models = {"a": self._model()}
        candidate = super().candidate(row, say)
        return Candidate(candidate.deployment, candidate.members, self.images())

    def fill(self, table: LogitTable, row: RowConfig, candidate: Candidate, ids: list[str]) -> int:
        (member,) = candidate.members.values()
        if table.missing(member.column, ids):
            logs = np.log(np.where(self.wrong, 0.1, 0.85))[:, None]
            rest = np.log((1 - np.exp(logs)) / 9) + np.zeros((1, 9))
            rest[self.wrong, 0] = np.log(0.5)
            table.commit(
                member,
                LogitBlock(
                    member.column,
                    np.array(ids),
                    np.concatenate([logs, rest], axis=1).astype(np.float32),
                    (),
                    1.0,
                    len(ids),
                    device_kind="cpu",
                ),
            )
        return len(ids)

    def canary(self, candidate: Candidate, member: str, images: ImageIndex) -> object:  # type: ignore[override]
        from jobs.nightly.candidate import CanaryRun

        logs = np.full((len(images), 10), np.log(0.02), np.float32)
        logs[:, 0] = np.log(0.82)
        return CanaryRun(member, images, logs, "cpu", 0.01, len(images))


def test_slow_drift_is_found_against_the_anchor_and_never_from_night_to_night(
    tmp_path: Path,
) -> None:
    """0.02 points a night, and every night is accepted, as somebody does who looks at each alone."""
    nights = Nights(tmp_path / "nightly", DriftWorld())
    nights.row["gates"] = [{"metric": "top1_error", "min_effect": 0.3, "max_cumulative_loss": 0.6}]
    world = nights.world
    assert isinstance(world, DriftWorld)
    nights.run()
    refused_at, alarmed_at, night_to_night = None, None, []
    for number in range(1, 61):
        world.drift()
        record, _ = nights.run()
        by_baseline = {c.baseline: c for c in record.rows[0].comparisons}
        if refused_at is None:
            night_to_night.append(by_baseline["accepted"].verdict)
            try:
                accept(nights.suite, Decision(), world, nights.lines.append)
            except ConfigError:  # past max_cumulative_loss
                refused_at = number
        if (
            alarmed_at is None
            and "anchor" in by_baseline
            and by_baseline["anchor"].verdict == "regressed"
        ):
            alarmed_at = number
    print(
        f"accept refuses in night {refused_at}, the anchor alarms in night {alarmed_at}; night to night "
        f"{Counter(night_to_night)}"
    )
    assert "regressed" not in night_to_night
    assert refused_at is not None
    assert alarmed_at is not None
    assert refused_at < alarmed_at <= 52
    page = (nights.folder / "index.html").read_text()
    assert "line night_to_night" in page
    assert "line anchor" in page


def test_slow_drift_over_many_draws() -> None:
    """The same at the level of the tests, for 20 draws: night to night 0 alarms in 60 nights each."""
    level, found, alarms = nightly_level(1.0), [], 0
    for seed in range(20):
        world = DriftWorld(rng=np.random.default_rng(seed))
        anchor, at = world.wrong, None
        for number in range(1, 61):
            last = world.wrong
            world.drift()
            evidences = [compare_errors(old, world.wrong) for old in (last, anchor)]
            night, pinned = judge(evidences, [0.003, 0.006], level)
            alarms += night.verdict == "regressed"
            at = number if at is None and pinned.verdict == "regressed" else at
        found.append(at or 99)
    print(f"night to night {alarms} alarms in 1,200 nights; against the anchor in night {found}")
    assert alarms == 0
    assert np.median(found) <= 50


# --- A real null, and repeatability --------------------------------------------------------------


@cache
def _member(seed: int) -> np.ndarray:
    """Errors of a random-feature model on the digits that none was trained on."""
    pixels, labels = digits()
    return np.asarray(predict(seed, pixels[TRAIN:], 300).argmax(axis=1) != labels[TRAIN:])


@cache
def _pool(seed: int, members: int) -> np.ndarray:
    """Errors of an ensemble of random-feature models on the digits that none was trained on."""
    pixels, labels = digits()
    mean = sum(np.exp(predict(1000 * seed + i, pixels[TRAIN:], 300)) for i in range(members))
    return np.asarray(mean).argmax(axis=1) != labels[TRAIN:]


def test_the_same_recipe_with_other_seeds_alarms_within_the_budget() -> None:
    """400 nights, each of two ensembles by fresh seeds: they differ, and neither is better by recipe.

    All five members change as well, and each is compared with itself under the same budget.
    """
    from scipy.stats import binomtest, kstest

    rng, level = np.random.default_rng(0), nightly_level(1.0)
    ps, alarms, discordant = [], 0, []
    for night in range(400):
        before, after = _pool(2 * night, 5), _pool(2 * night + 1, 5)
        evidence = compare_errors(before, after)
        members = [
            compare_errors(_member(2000 * night + i), _member(2000 * night + 1000 + i))
            for i in range(5)
        ]
        judgements = judge([evidence, *members], [0.005, *[0.01] * 5], level)
        alarms += any(judgement.verdict == "regressed" for judgement in judgements)
        wrong, right = evidence.newly_wrong or 0, evidence.newly_right or 0
        discordant.append(wrong + right)
        # An exact p-value is discrete; drawn within its step it is uniform where there is no difference.
        above = exact_p(wrong + 1, right - 1) if right else 0.0
        ps.append(above + rng.random() * (exact_p(wrong, right) - above))
    uniform = kstest(ps, "uniform").pvalue
    print(
        f"{alarms} alarms in 400 nights at {level:.4f}; KS p {uniform:.3f}; {np.mean(discordant):.0f} discordant"
    )
    assert min(discordant) > 0
    assert binomtest(alarms, 400, level, "greater").pvalue > 0.01
    assert uniform > 0.01


def test_a_hundred_identical_nights_raise_no_alert(tmp_path: Path) -> None:
    nights = Nights(tmp_path / "nightly")
    for _ in range(100):
        record, code = nights.run()
        assert (code, record.num_compared) == (0, 0)
    assert replay(read_history(LocalStore(nights.folder))) == ()
    assert nights.day == date(2026, 11, 1) + timedelta(days=100)
