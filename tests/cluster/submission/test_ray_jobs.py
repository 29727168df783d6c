import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import AuthenticationError

from cluster.submission import ray_jobs as remote_jobs
from cluster.submission.ray_jobs import exit_code_of
from ensemble.errors import ClusterError, ConfigError


@pytest.mark.parametrize(
    ("state", "driver", "code"),
    [
        ("pending", None, None),
        ("running", None, None),
        ("succeeded", 0, 0),
        *(("failed", code, code) for code in (1, 2, 3, 5)),
        ("failed", None, 1),  # the driver never came to start
        ("failed", -9, 1),  # a signal ended it
        ("failed", 137, 1),  # a shell says so of a signal
        ("stopped", None, 130),
    ],
)
def test_exit_codes_survive(state: Any, driver: int | None, code: int | None) -> None:
    assert exit_code_of(state, driver) == code


class _Refusing:
    """A client whose head answers every question with one error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def list_jobs(self) -> list[Any]:
        raise self._error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConnectionError("x"), "the connection to the head was lost"),
        (
            RuntimeError("failed with status code 500: Traceback\n  File x\nKeyError: 7"),
            "KeyError: 7",
        ),
        (AuthenticationError("no token"), "the head refuses"),
    ],
)
def test_what_the_jobs_api_raises_is_one_line_of_ours(error: Exception, message: str) -> None:
    with pytest.raises(ClusterError, match=message) as raised:
        remote_jobs.list_runs(_Refusing(error))
    assert "\n" not in str(raised.value)


def _job(run: str, number: int, state: str = "FAILED", start: int = 1000, code: int = 3) -> Any:
    return SimpleNamespace(
        submission_id=run if number == 1 else f"{run}~{number}",
        status=state,
        driver_exit_code=code,
        start_time=start,
        end_time=None,
        message="",
        metadata={"ensemble.run": run, "ensemble.attempt": str(number)},
    )


def _client(*jobs: Any) -> Any:
    return SimpleNamespace(list_jobs=lambda: list(jobs))


def test_the_last_attempt_of_every_run_is_listed_newest_first_and_no_job_of_others() -> None:
    other = SimpleNamespace(metadata={}, submission_id="raysubmit_1")
    driver = SimpleNamespace(metadata=None, submission_id=None)
    client = _client(
        _job("a", 2, start=3000), _job("a", 10, start=5000), other, driver, _job("b", 1, start=4000)
    )
    attempts = [(attempt.run, attempt.number) for attempt in remote_jobs.list_runs(client)]
    assert attempts == [("a", 10), ("b", 1)]


def test_an_unknown_run_is_told_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"'tonigth'. Did you mean 'tonight'\?"):
        remote_jobs.find(_client(_job("tonight", 1)), "tonigth")
    with pytest.raises(ConfigError, match="none was submitted to it yet"):
        remote_jobs.find(_client(), "tonight")


def test_lines_are_whole_wherever_the_connection_cuts_them() -> None:
    class Tailing:
        async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
            for chunk in ("one\ntw", "o", "\n\nthr", "ee"):
                await asyncio.sleep(0)
                yield chunk

    lines: list[str] = []
    attempt = remote_jobs.list_runs(_client(_job("a", 1)))[0]
    remote_jobs.follow(Tailing(), attempt, lines.append)
    assert lines == ["one", "two", "", "three"]
