"""A process that Ray cannot do without is gone: what waits for it ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from cluster.watchdog import POLL_EVERY_S, Children, watch
from ensemble.errors import ClusterError, MemberFailedError


def _wait_and_drop_interrupts(count: int) -> None:
    for _ in range(count):
        with suppress(KeyboardInterrupt):
            time.sleep(20)
    time.sleep(20)


def _press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)


def test_a_call_that_never_returns_ends_when_a_process_is_gone() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        threading.Timer(0.6, process.kill).start()
        with (
            pytest.raises(ClusterError, match=r"lost its sleep process.*same command goes on"),
            watch(Children(["sleep"])),
        ):
            time.sleep(30)
    assert signal.getsignal(signal.SIGURG) in (signal.SIG_DFL, None)


def test_an_exception_that_is_dropped_is_raised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.watchdog.AGAIN_EVERY_S", 0.2)
    began = time.monotonic()
    with pytest.raises(ClusterError, match="lost its raylet"), watch(lambda: {"raylet": False}):
        _wait_and_drop_interrupts(2)
    assert time.monotonic() - began < 10


def test_a_process_that_stays_stopped_is_ended_and_told() -> None:
    sleeping = Children(["sleep"], limit_s=0.6)
    with subprocess.Popen(["sleep", "60"]) as process:
        threading.Timer(0.3, process.send_signal, [signal.SIGSTOP]).start()
        with (
            pytest.raises(
                ClusterError, match=r"its sleep process: something stopped it, and after"
            ),
            watch(sleeping, sleeping.stopped),
        ):
            time.sleep(30)
        assert process.wait() == -signal.SIGKILL


def test_a_process_that_is_stopped_for_a_while_is_no_loss() -> None:
    sleeping = Children(["sleep"], limit_s=3 * POLL_EVERY_S)
    with subprocess.Popen(["sleep", "60"]) as process:
        for _ in range(2):
            process.send_signal(signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)
            assert [sleeping() for _ in range(3)] == [{"sleep": True}] * 3
            process.send_signal(signal.SIGCONT)
            os.waitpid(process.pid, os.WCONTINUED)
            assert sleeping() == {"sleep": True}
        assert not sleeping.stopped
        process.kill()


def test_what_fails_because_of_the_loss_is_told_as_the_loss() -> None:
    with pytest.raises(ClusterError, match="lost its raylet"), watch(lambda: {"raylet": False}):
        raise MemberFailedError("train of 'a' failed")


def test_other_errors_stay_as_they_are_and_so_do_the_users_interrupts() -> None:
    with pytest.raises(MemberFailedError, match="train of"), watch(lambda: {"raylet": True}):
        raise MemberFailedError("train of 'a' failed")
    with pytest.raises(KeyboardInterrupt), watch(lambda: {"raylet": True}):
        _press_ctrl_c()


def test_a_main_thread_that_cannot_be_reached_is_ended_with_one_message() -> None:
    code = """
import signal, time, cluster.watchdog as dog
dog.GIVE_UP_AFTER_S = dog.AGAIN_EVERY_S = 0.2
with dog.watch(lambda: {"gcs_server": False}):
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            pass
"""
    end = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert end.returncode == 1
    assert end.stderr.startswith("ClusterError: Ray on this machine has lost its gcs_server")
    assert end.stderr.count("\n") == 1


def test_what_is_ended_on_purpose_is_no_loss() -> None:
    with (
        subprocess.Popen(["sleep", "60"]) as process,
        watch(Children(["sleep"])) as watched,
    ):
        watched.close()
        process.kill()
        process.wait()
        watched.look()
        assert not watched.lost
