"""What a submission ships, and when it is refused; the head is a double that remembers."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ensemble.errors import ConfigError
from jobs import submit
from jobs.progress.record import ProgressRecord
from jobs.settings import RunConfig, load_run_config

SECRET = "hunter2-must-stay-here"


@dataclass
class Head:
    """Takes jobs and remembers what came with them; a test sets how they go."""

    jobs: list[Any] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    log: str = ""

    def submit_job(self, submission_id: str, runtime_env: Any, **job: Any) -> str:
        if any(each.submission_id == submission_id for each in self.jobs):
            raise RuntimeError(f"Job with submission_id {submission_id} already exists.")
        folder = Path(runtime_env["working_dir"])
        paths = (path for path in folder.rglob("*") if path.is_file())
        self.files = {str(path.relative_to(folder)): path.read_text() for path in paths}
        moments = {"start_time": len(self.jobs) + 1, "end_time": None}
        outcome = {"status": "RUNNING", "driver_exit_code": None, "message": ""}
        self.jobs.append(
            SimpleNamespace(
                submission_id=submission_id, runtime_env=runtime_env, **job, **moments, **outcome
            )
        )
        return submission_id

    def list_jobs(self) -> list[Any]:
        return self.jobs

    def get_job_logs(self, job: str) -> str:
        return self.log


@pytest.fixture
def config(tiny_config: Path) -> RunConfig:
    return load_run_config(tiny_config, ["name=tonight", "runs=/shared/my runs"])


def _record(state: Any = "stopped") -> str:
    return ProgressRecord(
        run="tonight",
        state=state,
        at=datetime.now(UTC),
        seconds=1,
        stages=(),
        members={},
        retries=0,
    ).model_dump_json()


def test_code_and_resolved_config_are_shipped(config: RunConfig) -> None:
    head = Head()
    attempt = submit.submit(head, config, "tiny")
    assert (attempt.run, attempt.number, attempt.job) == ("tonight", 1, "tonight")
    assert RunConfig.model_validate_json(head.files["run.json"]) == config
    assert {
        "ensemble/members/member.py",
        "cluster/pool/pool.py",
        "jobs/__main__.py",
    } <= head.files.keys()
    assert "ensemble/report/pages/templates/style.css" in head.files
    assert not any(".git" in name or "__pycache__" in name for name in head.files)
    assert {name.split("/")[0] for name in head.files} == {
        *("ensemble", "cluster", "jobs"),
        *("run.json", "revision.json"),
    }


def test_what_a_config_does_not_say_of_preprocessing_is_not_said_after_shipping(
    tiny_config: Path,
) -> None:
    words = [
        "members.0={name: given, source: {kind: factory, function: 'nets:best'}, "
        "preprocessing: {size: 64, resize: null}}"
    ]
    head, config = Head(), load_run_config(tiny_config, words)
    submit.submit(head, config, "tiny")
    shipped = RunConfig.model_validate_json(head.files["run.json"]).members[0].preprocessing
    assert shipped is not None
    assert shipped.model_fields_set == {"size", "resize"}


def test_a_run_without_a_name_gets_the_one_that_it_has_on_this_machine(tiny_config: Path) -> None:
    config = load_run_config(tiny_config)
    attempt = submit.submit(Head(), config, "tiny")
    assert attempt.run == f"tiny-{config.identity[:8]}"


@pytest.mark.parametrize(
    ("runs", "folder"), [("runs", "~/runs/tonight"), ("/shared/runs", "/shared/runs/tonight")]
)
def test_a_relative_folder_is_below_the_home_folder_of_the_head(
    tiny_config: Path, runs: str, folder: str
) -> None:
    config = load_run_config(tiny_config, ["name=tonight", f"runs={runs}"])
    assert submit.folder_of(submit.submit(Head(), config, "tiny")) == folder


def test_no_secret_of_this_machine_travels(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "RAY_AUTH_TOKEN", "HF_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    head = Head()
    submit.submit(head, config, "tiny")
    assert head.jobs[0].runtime_env["env_vars"].keys() == {"RAY_JOB_STOP_WAIT_TIME_S"}
    job = {key: str(value) for key, value in vars(head.jobs[0]).items()}
    assert SECRET not in json.dumps([job, head.files])


def test_the_revision_of_this_checkout_travels(config: RunConfig) -> None:
    from jobs.stored_runs.revision import Revision, read_revision

    head = Head()
    submit.submit(head, config, "tiny")
    assert Revision.model_validate_json(head.files["revision.json"]) == read_revision()


def test_a_second_submission_of_a_run_is_refused_with_what_to_do(config: RunConfig) -> None:
    head = Head()
    submit.submit(head, config, "tiny")
    with pytest.raises(ConfigError, match=r"is running: `ensemble logs tonight -f` follows it"):
        submit.submit(head, config, "tiny")
    head.jobs[0].status, head.log = "STOPPED", f"a line\n{_record()}\n"
    with pytest.raises(ConfigError, match=r"was stopped: `ensemble resume tonight` goes on"):
        submit.submit(head, config, "tiny")


def test_two_submissions_at_once_make_one_job(config: RunConfig) -> None:
    head = Head()
    submit.submit(head, config, "tiny")
    head.list_jobs = list  # type: ignore[method-assign, assignment]
    with pytest.raises(ConfigError, match="'tonight' was submitted a moment ago"):
        submit.submit(head, config, "tiny")


def test_a_run_that_ended_before_it_began_may_be_submitted_again(config: RunConfig) -> None:
    head = Head()
    submit.submit(head, config, "tiny")
    head.jobs[0].status, head.log = "FAILED", "ModuleNotFoundError: No module named 'typer'\n"
    assert submit.submit(head, config, "tiny").job == "tonight~2"


def test_resuming_goes_on_in_the_runs_own_folder_once_the_run_is_over(config: RunConfig) -> None:
    head = Head()
    submit.submit(head, config, "tiny")
    with pytest.raises(ConfigError, match=r"is running. Follow it with"):
        submit.resume(head, "tonight")
    for number in (2, 3):
        head.jobs[-1].status = "STOPPED"
        attempt = submit.resume(head, "tonight")
        assert (attempt.number, attempt.job) == (number, f"tonight~{number}")
        assert head.jobs[-1].entrypoint.endswith(
            "-m jobs resume '/shared/my runs/tonight' --json-log"
        )


def test_leaving_out_poison_is_asked_for_on_the_cluster_too(config: RunConfig) -> None:
    head = Head()
    submit.submit(head, config, "tiny", allow_partial=True)
    assert head.jobs[0].entrypoint.endswith(' run "$config" --json-log --allow-partial')
    head.jobs[0].status = "FAILED"
    submit.resume(head, "tonight", allow_partial=True)
    assert head.jobs[1].entrypoint.endswith("tonight' --json-log --allow-partial")


def test_paths_that_are_not_shipped_are_told(tiny_config: Path) -> None:
    words = [
        "images.source={kind: folder, path: /data/flowers}",
        "members.0.source={kind: checkpoint, path: /data/a.safetensors}",
    ]
    config = load_run_config(tiny_config, words)
    assert submit.needed_paths(config) == ("/data/a.safetensors", "/data/flowers")
