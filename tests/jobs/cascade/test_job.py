"""`ensemble cascade` on the folder of a run that is there, made by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import ConfigError
from jobs.cascade.job import cascade
from jobs.stored_runs.finished import open_finished_run

from ..conftest import Command


def test_the_report_says_what_its_steps_do_image_by_image(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    report, path = cascade(folder, ["kind=uniform", "cost=flops"], 5.0)
    assert Path(path).read_text() == report.model_dump_json(indent=2) + "\n"

    run = open_finished_run(folder)
    images = run.splits.test
    keys = {column.member: column.key for column in run.columns}
    rows = {name: np.exp(run.table.read(key, images.image_ids)) for name, key in keys.items()}
    cost = wrong = lost = 0.0
    for image, label in enumerate(images.labels.tolist()):
        total, members = np.zeros(10), 0
        for step in report.steps:
            row = rows[step.member][image]
            total, members = total + row, members + 1
            cost += step.cost
            threshold = -np.inf if step is report.steps[-1] else step.threshold or np.inf
            assert report.signal == "confidence"
            if total.max() / members >= threshold:
                break
        full = np.sum([each[image] for each in rows.values()], axis=0)
        wrong += total.argmax() != label
        lost += int(total.argmax() != label) - int(full.argmax() != label)
    n = len(images)
    assert report.test.num_images == n
    assert report.errors["cascade"] == pytest.approx(wrong / n)
    assert report.test.loss == pytest.approx(lost / n)
    assert report.test.cost == pytest.approx(cost / n)
    assert report.test.speedup == pytest.approx(6000 / (cost / n))
    assert sum(step.exits for step in report.steps) == pytest.approx(1)
    assert report.fitted.bound <= report.lose == 0.05


def test_the_frontier_buys_compute_with_errors(make_run: Callable[..., Path]) -> None:
    report, _ = cascade(make_run(), ["kind=uniform", "cost=flops"], 5.0)
    losses, costs = zip(*((point.loss, point.cost) for point in report.frontier), strict=True)
    assert list(losses) == sorted(losses)
    assert list(costs) == sorted(costs, reverse=True)


@pytest.mark.parametrize(
    ("words", "lose", "message"),
    [
        ([], 0.0, "--lose is 0; expected percentage points"),
        ([], float("nan"), "--lose is nan"),
        ([], 0.1, "200 images cannot show"),
        (["cost=depth"], 5.0, "did not measure"),
        (["cost=euros"], 5.0, "no choice 'euros'"),
    ],
)
def test_what_cannot_be_promised_or_priced_is_refused(
    make_run: Callable[..., Path], words: list[str], lose: float, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        cascade(make_run(), words, lose)


def test_the_command_prints_steps_and_what_they_save(
    make_run: Callable[..., Path], command_here: Command
) -> None:
    folder = make_run()
    result = command_here("cascade", folder, "cost=flops", "kind=uniform", "--lose", "5")
    assert result.returncode == 0, result.stderr
    assert "less flops than the whole ensemble" in result.stdout
    result = command_here("cascade", folder, "cost=flops", "kind=uniform", "--lose", "5", "--json")
    assert json.loads(result.stdout)["cost_unit"] == "flops"
    result = command_here("cascade", folder.parent / "nowhere")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
