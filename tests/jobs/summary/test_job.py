"""The tables of `ensemble summary`."""

from pathlib import Path

import pytest

from ensemble.errors import ConfigError
from ensemble.report.documents.run import Report
from jobs.summary.job import choose_runs, summarise

from ...ensemble.report.conftest import make_report


def written(folder: Path, report: Report) -> Path:
    folder.mkdir()
    (folder / "report.json").write_text(report.model_dump_json())
    return folder


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


def at_k(k: int) -> Report:
    report = make_report(has_subclassifiers=False)
    return report.model_copy(update={"k": k, "top_k": 3})


def test_runs_of_a_larger_k_are_summed_up_at_that_k_with_top_1_beside_it(tmp_path: Path) -> None:
    report = at_k(3)
    places = [written(tmp_path / name, report) for name in ("a", "b")]
    head, _, *rows = summarise(places).splitlines()
    assert cells(head)[2:5] == ["top-3 error, %", "top-1 error, %", "against best member, points"]
    for row, result in zip(rows, report.results, strict=True):
        assert cells(row)[2] == f"{100 * result.score.topk_error:.2f} ± 0.00"
        assert cells(row)[3] == f"{100 * result.score.top1_error:.2f} ± 0.00"
        assert cells(row)[-1] == ("2" if result.chosen else "0")
        assert len(cells(row)) == len(cells(head))


def test_runs_of_k_1_keep_one_column_of_errors(tmp_path: Path) -> None:
    head, _, *rows = summarise([written(tmp_path / "a", at_k(1))]).splitlines()
    assert cells(head)[2:4] == ["top-1 error, %", "against best member, points"]
    assert all(len(cells(row)) == len(cells(head)) for row in rows)


def test_a_row_that_some_runs_lack_is_summed_up_over_the_others(tmp_path: Path) -> None:
    report = at_k(1)
    fewer = report.model_copy(
        update={"results": tuple(r for r in report.results if r.key != "ensemble_subclassifiers")}
    )
    places = [written(tmp_path / "a", fewer), written(tmp_path / "b", report)]
    rows = summarise(places).splitlines()[2:]
    assert len(rows) == len(report.results)
    assert cells(rows[-1])[2] == f"{100 * report.results[-1].score.top1_error:.2f}"


def test_members_alone_have_a_row_each_with_the_seconds_of_their_training(tmp_path: Path) -> None:
    report = at_k(1)
    first, *others = (member.name for member in report.members)
    places = []
    for seconds in (2.0, 4.0):
        execution = report.execution.model_copy(update={"training_seconds": {first: seconds}})
        run = report.model_copy(update={"execution": execution})
        places.append(written(tmp_path / f"{seconds}", run))
    assert "| member |" not in summarise(places)
    lines = summarise(places, has_members=True).splitlines()
    rows = [cells(line) for line in lines[lines.index("") + 3 :]]
    assert [row[0] for row in rows] == [first, *others]
    assert [row[-1] for row in rows] == ["3.00 ± 1.41", *[""] * len(others)]
    for row, member in zip(rows, report.members, strict=True):
        assert row[1] == f"{100 * report.error(member.test):.2f} ± 0.00"
        assert row[3] == f"{2 * member.selected} of 2"


def test_runs_of_different_k_are_not_averaged(tmp_path: Path) -> None:
    places = [written(tmp_path / f"{k}", at_k(k)) for k in (1, 3)]
    with pytest.raises(ConfigError, match=r"(?s)or k\. .*top-1: \S+/1\n.*top-3: \S+/3"):
        summarise(places)


def test_what_is_no_finished_run_is_left_out_with_the_reason(tmp_path: Path) -> None:
    run = written(tmp_path / "a", at_k(1))
    for name in ("cache", "begun", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "begun" / "config.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("")
    runs, notes = choose_runs([str(path) for path in sorted(tmp_path.iterdir())])
    assert runs == [str(run)]
    assert [note.partition(f"{tmp_path}/")[2] for note in notes] == [
        "begun: the run is not finished, or is of imported predictions: it has no report.json",
        "cache: it holds the weights that runs share",
        "notes.txt: it is a file",
        "other: it is not the folder of a run",
    ]


def test_folders_without_a_finished_run_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    with pytest.raises(ConfigError, match=r"is not the folder of a run: it has no report\.json"):
        choose_runs([str(tmp_path / "cache")])
    with pytest.raises(ConfigError, match=r"(?s)no finished run .*cache: it holds the weights"):
        choose_runs([str(tmp_path / "cache"), str(tmp_path)])
