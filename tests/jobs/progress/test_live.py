import io
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ensemble.errors import ConfigError, DataError
from jobs.progress import record as progress_record
from jobs.progress.live import Progress, working
from jobs.progress.record import ProgressRecord
from jobs.stored_runs.layout import RunFolder


def _progress(out: io.StringIO | None = None, json_log: bool = True) -> Progress:
    console = Console(file=out or io.StringIO(), width=40)
    return Progress(console, "tonight", ["vgg", "resnet"], json_log)


def _records(out: io.StringIO) -> list[ProgressRecord]:
    found = (progress_record.parse(line) for line in out.getvalue().splitlines())
    return [record for record in found if record]


def test_log_and_folder_hold_the_same_record_at_the_end(tmp_path: Path) -> None:
    out, file = io.StringIO(), tmp_path / "progress.json"
    with _progress(out) as progress:
        progress.keep(file)
        assert progress_record.read(RunFolder(tmp_path)).state == "running"
        with progress.stage("predict", 3, "blocks") as stage:
            progress.member("vgg", "predicting", "2 to go", images=64, compute_s=0.5)
            stage.advance(images=64)
            progress.member("vgg", "predicting", "1 to go", images=64, compute_s=0.5)
            stage.advance(images=64)
    last = progress_record.read(RunFolder(tmp_path))
    assert _records(out)[-1] == last
    assert (last.run, last.state, last.stages) == ("tonight", "finished", ())
    assert last.members["vgg"].images == 128
    assert last.members["vgg"].images_per_s == 128
    assert last.members["resnet"].state == "waiting"
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]


def test_a_log_for_people_has_no_record_and_the_folder_has(tmp_path: Path) -> None:
    out, file = io.StringIO(), tmp_path / "progress.json"
    with _progress(out, json_log=False) as progress:
        progress.keep(file)
        with progress.stage("predict", 1, "blocks") as stage:
            stage.advance(images=64)
    assert progress_record.read(RunFolder(tmp_path)).state == "finished"
    assert _records(out) == []
    assert out.getvalue().startswith("predict: 1/1 blocks")


def test_a_stage_under_way_is_told_with_what_is_left() -> None:
    with _progress() as progress, progress.stage("predict", 4, "blocks") as stage:
        stage.advance(images=10)
        record = progress.record("running")
        assert [(s.name, s.done, s.total, s.unit) for s in record.stages] == [
            ("predict", 1, 4, "blocks")
        ]
        assert record.stages[0].eta_s is not None
        assert "predict 1/4 blocks" in record.describe()
        stage.advance(3)


def test_the_epochs_of_a_training_are_told_until_it_is_done() -> None:
    with _progress() as progress, progress.stage("train", 2, "networks") as stage:
        progress.member("vgg", "training")
        stage.look = lambda: {"vgg": "epoch 3 of 30"}
        assert progress.record("running").members["vgg"].detail == "epoch 3 of 30"
        stage.look = dict
        progress.member("vgg", "trained")
        assert progress.record("running").members["vgg"].detail == ""


def test_a_quiet_stage_that_ends_soon_leaves_no_line_and_a_slow_one_does() -> None:
    out = io.StringIO()
    console = Console(file=out)
    with Progress(console, "search", [], quiet_s=3600) as progress, progress.stage("search"):
        pass
    assert out.getvalue() == ""
    with Progress(console, "search", [], quiet_s=1e-9) as progress, progress.stage("search"):
        pass
    assert out.getvalue().startswith("search: 1/1 done")


def test_a_verb_tells_what_it_does_on_stderr_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with working("members", "describe members", 2, "members") as stage:
        stage.advance(2)
        print("results")
    assert (stage.done, stage.seconds is not None) == (2, True)
    assert capsys.readouterr() == ("results\n", "")


def test_a_failure_is_told_and_so_is_a_stop() -> None:
    out = io.StringIO()
    with pytest.raises(DataError), _progress(out):
        raise DataError("3 images cannot be decoded.")
    with pytest.raises(KeyboardInterrupt), _progress(out):
        raise KeyboardInterrupt
    failed, stopped = _records(out)
    assert (failed.state, failed.message) == ("failed", "3 images cannot be decoded.")
    assert (stopped.state, stopped.message) == ("stopped", "")
    assert "3 images cannot be decoded" in failed.describe()


def test_a_run_that_is_not_ours_leaves_the_record_of_the_other_alone(tmp_path: Path) -> None:
    with _progress() as first:
        first.keep(tmp_path / "progress.json")
        with pytest.raises(DataError), _progress():
            raise DataError("busy")
        assert progress_record.read(RunFolder(tmp_path)).state == "running"


def test_a_folder_without_a_record_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not the folder of a run: it has no progress\.json"):
        progress_record.read(RunFolder(tmp_path))
    (tmp_path / "progress.json").write_text("{}")
    with pytest.raises(DataError, match="holds no record"):
        progress_record.read(RunFolder(tmp_path))


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n")) | st.integers(0, 99))
)
def test_the_last_record_is_found_among_whatever_else_is_printed(printed: list[str | int]) -> None:
    with _progress() as progress:
        record = progress.record("running")
    lines = [
        record.model_copy(update={"retries": item}).model_dump_json()
        if isinstance(item, int)
        else item
        for item in printed
    ]
    found = progress_record.last(lines)
    numbers = [item for item in printed if isinstance(item, int)]
    assert (found.retries if found else None) == (numbers[-1] if numbers else None)


def test_a_run_that_ends_on_a_full_disk_says_that_it_failed(tmp_path: Path) -> None:
    """A limit on the size of a file stands for the full disk: nothing longer can be written."""
    file, out = tmp_path / "progress.json", io.StringIO()
    console = Console(file=out, width=40)
    members = [f"member-{number}" for number in range(50)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with (  # noqa: PT012 - the limit must end within
            pytest.raises(DataError, match="disk"),
            Progress(console, "tonight", members, False) as progress,
        ):
            progress.keep(file)
            resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size // 2, hard))
            raise DataError("the disk is full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    last = progress_record.read(RunFolder(tmp_path))
    assert (last.state, last.message) == ("failed", "the disk is full")
    assert "cannot write" in out.getvalue()
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]


def test_a_damaged_record_is_none(tmp_path: Path) -> None:
    file = tmp_path / "progress.json"
    with _progress() as progress:
        progress.keep(file)
    sound = file.read_text()
    file.write_text(sound.replace('"finished"', '"running"'))
    with pytest.raises(DataError, match="holds no record"):
        progress_record.read(RunFolder(tmp_path))
    assert progress_record.parse(sound) is not None
    assert progress_record.parse("{" + "[" * 100_000) is None
