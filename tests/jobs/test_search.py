"""`ensemble search` on the folder of a run that is there, made by hand: no model has to be trained."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import ConfigError, DataError
from ensemble.evaluation.broken import leave_out_broken
from ensemble.evaluation.calibration import apply_temperature, calibrate
from ensemble.report.documents.search import SearchReport
from ensemble.search.crossfit import stratified_folds
from ensemble.search.settings import SearchConfig
from ensemble.search.weights import best_member
from ensemble.subclassifiers.settings import SubclassifiersConfig
from jobs.run.job import search_config
from jobs.search import search
from jobs.stored_runs.finished import open_finished_run, read_outranking
from jobs.subclassifiers_plan import examine as plan_subclassifiers
from jobs.subclassifiers_plan import first_answer

from .conftest import Command
from .made_run import NAMES, _member


@pytest.mark.parametrize("broken", [1.0, 0.3, 0.005])
@pytest.mark.parametrize("words", [[], ["temperature=false"], ["cross_fit=true"]])
def test_a_member_without_numbers_is_left_out_of_every_comparison_and_named(
    make_run: Callable[..., Path], broken: float, words: list[str]
) -> None:
    words = ["kind=paper", "k=1", "stability=0", "resamples=100", *words]
    folder = make_run(broken=broken)
    report, _ = search(folder, words)
    shutil.rmtree(folder)
    expected, _ = search(make_run(members=2, pool=2), words)
    assert [row.errors for row in report.results] == [row.errors for row in expected.results]
    assert [row.label for row in report.results] == [row.label for row in expected.results]
    assert report.warnings[0].startswith("strong is left out of the search and of every comparison")
    assert f"on {round(broken * 200)} of 200 images" in report.warnings[0]


def test_a_pool_of_members_without_numbers_is_refused() -> None:
    with pytest.raises(DataError, match=r"no member is left to search with\. a is left out"):
        leave_out_broken(["a", "b"], np.array([9, 1]), 9)


def test_a_search_writes_its_report_beside_the_run(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    report, page = search(folder, ["kind=line", "k=2", "stability=5"])
    stored = SearchReport.model_validate_json(Path(page).with_suffix(".json").read_text())
    assert stored == report
    assert Path(page).parents[1] == folder / "search"
    assert (report.search, report.k, report.search_images, report.judged_images) == (
        "line",
        2,
        200,
        150,
    )
    assert [row.key for row in report.results] == [
        "best",
        "uniform_all",
        "uniform_selected",
        "paper",
        "ensemble",
    ]
    assert [member.name for member in report.members] == list(NAMES)
    assert [member.family for member in report.members] == ["net0", "net1", "net2"]
    assert report.cost_unit == "seconds"
    assert report.members[0].cost == pytest.approx(1 / 350)


def test_the_page_shows_every_member_and_predictor_and_loads_nothing(
    make_run: Callable[..., Path],
) -> None:
    report, page = search(make_run(), ["kind=forward", "stability=5", "temperature=true"])
    html = Path(page).read_text()
    for member in report.members:
        assert f'data-member="{member.name}"' in html
        assert member.temperature is not None
    for row in report.results:
        assert f'data-key="{row.key}"' in html
    assert "<script" not in html
    assert "http" not in html


def test_two_searches_of_the_same_settings_agree(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    first, page = search(folder, ["stability=3"])
    again, other = search(folder, ["stability=3"])
    assert page == other
    assert first.reproducible() == again.reproducible()
    assert first.settings["search"]["kind"] == "auto"


def test_one_labelled_set_is_cross_fitted(make_run: Callable[..., Path]) -> None:
    report, _ = search(make_run(), ["kind=paper", "cross_fit=true", "stability=0"])
    assert report.is_cross_fitted
    assert {row.n for row in report.results} == {350}
    assert report.stability is None


def test_temperatures_are_cross_fitted_too(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    report, _ = search(folder, ["kind=best", "temperature=true", "cross_fit=true", "stability=0"])
    run = open_finished_run(folder)
    ids = np.concatenate([run.splits.search.image_ids, run.splits.test.image_ids])
    labels = np.concatenate([run.splits.search.labels, run.splits.test.labels])
    folds = stratified_folds(labels, 2, 0)
    losses = np.zeros(len(labels))
    for fold in (0, 1):
        seen, unseen = folds != fold, folds == fold
        logs = {column.member: run.table.read(column.key, ids) for column in run.columns}
        best = min(logs, key=lambda name: (logs[name][seen].argmax(1) != labels[seen]).sum())
        fitted = calibrate(logs[best][seen], labels[seen], 0)
        at = apply_temperature(logs[best], fitted.value)
        losses[unseen] = -at[np.arange(len(labels)), labels][unseen]
    chosen = next(row for row in report.results if row.key == "ensemble")
    assert chosen.nll == pytest.approx(losses.mean(), rel=1e-6)


def test_a_cost_bound_is_kept(make_run: Callable[..., Path]) -> None:
    report, _ = search(make_run(), ["search.kind=line", "search.max_cost=0.006", "stability=0"])
    spent = sum(member.cost or 0 for member in report.members if member.weight)
    assert 0 < spent <= 0.006
    assert all(line.cost <= 0.006 * (1 + 1e-9) for line in report.frontier)
    assert sum(line.is_cheapest_tied for line in report.frontier) == 1


def test_members_can_be_charged_what_they_compute(make_run: Callable[..., Path]) -> None:
    report, _ = search(make_run(), ["kind=line", "cost=flops", "max_cost=3000", "stability=0"])
    assert report.cost_unit == "flops"
    assert [member.cost for member in report.members] == [1000, 2000, 3000]
    assert sum(member.cost or 0 for member in report.members if member.weight) <= 3000


@pytest.mark.parametrize(("objective", "best"), [("top_k", "strong"), ("nll", "middle")])
def test_a_plan_and_a_search_have_the_best_member_of_the_run(
    make_run: Callable[..., Path], objective: str, best: str
) -> None:
    settings = {"kind": "uniform", "objective": objective}
    folder = make_run(sharpness=30.0, search=settings)
    run = open_finished_run(folder)
    table, of_run = read_outranking(run, run.splits.search, {}), _search_of(folder, **settings)
    assert run.columns[best_member(table, of_run)].member == best
    assert first_answer(run, SubclassifiersConfig()).column.member == best
    report, _ = search(folder, ["stability=0"])
    assert report.results[0].label == f"best member ({best})"


def _search_of(folder: Path, **settings: object) -> SearchConfig:
    """What a run's own search is given, with these settings."""
    run = open_finished_run(folder)
    search = SearchConfig.model_validate(settings)
    members = [_member(name, number) for number, name in enumerate(NAMES)]
    return search_config(search, members, run.table, {})


def test_a_run_charges_what_it_measured_for_a_cost_bound_only(
    make_run: Callable[..., Path],
) -> None:
    folder = make_run()
    assert _search_of(folder).costs == {}
    seconds = _search_of(folder, max_cost=1).costs
    assert seconds == pytest.approx({name: (i + 1) / 350 for i, name in enumerate(NAMES)})
    flops = _search_of(folder, max_cost=1, cost="flops").costs
    assert flops == {"weak": 1000, "middle": 2000, "strong": 3000}
    assert set(_search_of(folder, max_cost=1, cost="parameters").costs.values()) == {1000}
    with pytest.raises(ConfigError, match="none were measured for weak, middle, strong"):
        _search_of(folder, max_cost=1, cost="gpu_bytes")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search.knid=line"], "Did you mean 'kind'"),
        (["k=10"], "k is 10, and there are 10 classes"),
        (["kind"], "expected key=value"),
        (["cost=parameters"], "did not measure it"),
        (["cost=gpu_bytes"], "did not measure it for every member. Measured: seconds, flops"),
        (["max_cost=.inf"], "a number that is not infinite"),
        (["search=5"], "expected settings as"),
        (["kind=[1"], r"the setting 'search\.kind=\[1' is not YAML"),
        (["families={a: x, a: y}"], "the key 'a' stands twice"),
        (["families={a: &x y, b: *x}"], r"the YAML alias \*x is not accepted"),
        (["kind.x=1", "kind.x.y=2"], "goes into 'x'"),
        (["resamples=5"], "resamples"),
    ],
)
def test_wrong_settings_are_one_message(
    make_run: Callable[..., Path], words: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        search(make_run(), words)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("num_clusters", "expected key=value"),
        ("num_clusters={a: 1, a: 2}", "the key 'a' stands twice"),
        ("num_clusters=[&a [1], *a]", r"the YAML alias \*a is not accepted"),
    ],
)
def test_wrong_settings_of_a_plan_of_sub_classifiers_are_one_message(
    make_run: Callable[..., Path], word: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_subclassifiers(make_run(), [word])


def test_a_run_that_is_not_finished_is_refused(make_run: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="no predictions of strong"):
        open_finished_run(make_run(members=2))


def test_what_is_no_run_is_refused(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="is not the folder of a run"):
        open_finished_run(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        open_finished_run(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ConfigError, match="holds list"):
        open_finished_run(tmp_path)
    folder = make_run()
    (folder / "table").rename(folder / "elsewhere")
    with pytest.raises(ConfigError, match="has no table yet"):
        open_finished_run(folder)


def test_the_command_prints_a_table_and_a_mistake_exits_with_2(
    make_run: Callable[..., Path], command_here: Command
) -> None:
    folder = make_run()
    done = command_here("search", folder, "kind=line", "stability=2")
    assert done.returncode == 0, done.stderr
    assert "weighted ensemble" in done.stdout
    assert "search: line" in done.stdout
    assert "search-report.html" in done.stdout
    wrong = command_here("search", folder, "kind=lien")
    assert wrong.returncode == 2
    assert "ConfigError" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert command_here("search", folder / "nowhere").returncode == 2


def test_no_torch_and_no_ray_is_imported(make_run: Callable[..., Path]) -> None:
    import subprocess

    code = (
        "import sys; from pathlib import Path; from jobs.search import search; "
        "search(Path(sys.argv[1]), ['stability=1']); "
        "print(json.dumps(sorted({'torch', 'ray'} & set(sys.modules))))"
    )
    words = [sys.executable, "-c", f"import json; {code}", str(make_run())]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
