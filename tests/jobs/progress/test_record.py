"""The record of a run's progress, as it is read by others."""

import os
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from ensemble.table.lease_holder import identify_process
from jobs.progress.record import ProgressRecord, parse


def _record(
    pid: int = 0, process: str = "", age_s: float = 0.0, **changes: object
) -> ProgressRecord:
    return ProgressRecord.model_validate(
        {
            "run": "r",
            "state": "running",
            "at": datetime.now(UTC) - timedelta(seconds=age_s),
            "seconds": 5.0,
            "stages": (),
            "members": {},
            "retries": 0,
            "pid": pid,
            "process": process,
            **changes,
        }
    )


def test_a_run_whose_process_lives_is_running_however_long_it_is_silent() -> None:
    record = _record(os.getpid(), identify_process(os.getpid()), age_s=600)
    assert record.seen_now().state == "running"


def test_a_run_whose_process_was_killed_is_lost_at_once() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        record = _record(process.pid, identify_process(process.pid))
        assert record.seen_now().state == "running"
        process.kill()
        process.wait()
    lost = record.seen_now()
    assert lost.state == "lost"
    assert "ended without a word; `ensemble resume` goes on" in lost.describe()
    assert "running" not in lost.describe()


def test_a_process_id_that_is_used_again_is_another_process() -> None:
    other = identify_process(os.getpid()) + "0"
    assert _record(os.getpid(), other).seen_now().state == "lost"


@pytest.mark.parametrize(("age_s", "state"), [(10, "running"), (90, "lost")])
def test_a_run_of_another_machine_is_lost_when_it_has_been_silent(age_s: float, state: str) -> None:
    assert _record(7, "another-boot pid:[1] 9", age_s).seen_now().state == state
    # As versions before wrote it.
    assert _record(age_s=age_s).seen_now().state == state


def test_a_submitted_run_is_lost_when_its_job_is_over_and_its_record_is_not() -> None:
    record = _record(7, "another-boot pid:[1] 9")
    assert record.seen_now(is_over=True).state == "lost"
    assert record.seen_now(is_over=False).state == "running"
    assert _record(age_s=600).seen_now(is_over=False).state == "running"


@pytest.mark.parametrize("state", ["finished", "stopped", "failed"])
def test_what_a_run_said_of_its_end_stays(state: str) -> None:
    record = _record(7, "gone", 600, state=state)
    assert record.seen_now(is_over=True) == record


def test_a_record_of_a_version_without_a_process_is_read() -> None:
    text = _record().model_dump_json(exclude={"pid", "process"})
    assert parse(text) is not None
