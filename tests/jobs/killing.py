"""SIGKILL at seeded moments, and nothing left running afterwards."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ensemble.storage.local_store import LocalStore
from ensemble.table.lease import hold
from ensemble.table.logit_table import LogitTable
from ensemble.table.repair import collect, unreferenced

LIMIT_S = 600
# Processes without which an embedded Ray does not go on, and how soon a run that has lost one ends.
OF_RAY, LOSS_LIMIT_S = ("raylet", "gcs_server"), 90


@dataclass
class Killer:
    """Runs one config again and again, and kills its driver or a host at a seeded moment."""

    config: Path
    folder: Path
    rng: random.Random
    kills: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("driver", "host", *OF_RAY), 0)
    )
    passes_before: int = 0
    collected: int = 0
    # Longest time from a kill to the end of its run, by what was killed.
    slowest_s: dict[str, float] = field(default_factory=dict)

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.folder / "runs" / "tiny" / "table")

    def blocks(self) -> int:
        return len(LogitTable(self.store).commits()) if self.store.root.exists() else 0

    def forward_passes(self) -> int:
        if not self.store.root.exists():
            return 0
        return sum(commit.forward_passes for commit in LogitTable(self.store).commits())

    def shards(self) -> dict[str, bytes]:
        return {key: self.store.read(key) for key in self.store.keys("columns")}

    def finish(self) -> str:
        """An undisturbed run: what it prints."""
        with _run(self.config, self.folder) as (process, _):
            output, errors = process.communicate(timeout=LIMIT_S)
            assert process.returncode == 0, errors
        return output

    def disturb(self, victim: str, blocks: int) -> None:
        """Kill soon after so many blocks are committed.

        A run whose host is killed goes on; one whose Ray is killed ends with one message that says so.
        """
        with _run(self.config, self.folder) as (process, mark):
            deadline = time.monotonic() + LIMIT_S
            while self.blocks() < blocks and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            time.sleep(self.rng.uniform(0, 0.2))
            if process.poll() is not None:
                return
            if victim == "driver":
                process.kill()
                self.kills["driver"] += 1
                return
            if victim in OF_RAY:
                self._disturb_ray(victim, process, mark)
                return
            hosts = [pid for pid in marked(mark) if command_line(pid).startswith("ray::Host")]
            if hosts:
                os.kill(self.rng.choice(hosts), signal.SIGKILL)
                self.kills["host"] += 1
            output, errors = self._end("host", process, LIMIT_S)
            assert process.returncode == 0, errors
            assert passes_of(output) + self.passes_before == self.forward_passes()

    def stop_raylet(self, continue_after_s: float | None = None) -> tuple[int, str, float]:
        """Stop the raylet once a block is committed: how the run ends, its errors, and after how long."""
        with _run(self.config, self.folder) as (process, mark):
            deadline = time.monotonic() + LIMIT_S
            while not self.blocks():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            start = time.monotonic()
            raylets = [
                p for p in marked(mark) if Path(command_line(p).split("\0")[0]).name == "raylet"
            ]
            for pid in raylets:
                os.kill(pid, signal.SIGSTOP)
            if continue_after_s is not None:
                time.sleep(continue_after_s)
                for pid in raylets:
                    os.kill(pid, signal.SIGCONT)
            _, errors = process.communicate(timeout=LIMIT_S)
            return process.returncode, errors, time.monotonic() - start

    def _disturb_ray(self, victim: str, process: subprocess.Popen[str], mark: str) -> None:
        pids = [
            pid for pid in marked(mark) if Path(command_line(pid).split("\0")[0]).name == victim
        ]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        output, errors = self._end(victim, process, LOSS_LIMIT_S)
        if process.returncode == 0:  # it was all but done
            return
        self.kills[victim] += 1
        assert process.returncode == 1, errors
        assert f"ClusterError: Ray on this machine has lost its {victim} process" in errors, errors
        assert "Traceback" not in output + errors, errors

    def _end(self, victim: str, process: subprocess.Popen[str], limit_s: float) -> tuple[str, str]:
        """Wait for a run to end, and note how long it takes: what it prints, and its errors."""
        start = time.monotonic()
        output, errors = process.communicate(timeout=limit_s)
        seconds = time.monotonic() - start
        self.slowest_s[victim] = max(seconds, self.slowest_s.get(victim, 0.0))
        return output, errors

    def collect(self) -> None:
        """What `ensemble table gc` does; afterwards nothing is left over."""
        with hold(self.store) as lease:
            self.collected += len(collect(self.store, lease, young_s=0.0).removed)
        commits = LogitTable(self.store).commits()
        assert not (*self.store.leftovers(), *unreferenced(self.store, commits))

    def wipe_table(self) -> None:
        shutil.rmtree(self.folder / "runs" / "tiny", ignore_errors=True)

    def note(self) -> None:
        """Remember what is committed, before a run."""
        self.passes_before = self.forward_passes()


def kill_by_plan(killer: Killer, plan: list[str]) -> None:
    """Kill by plan; whenever the run is finished, begin anew. Nothing committed is computed twice."""
    expected, total = killer.shards(), killer.forward_passes()
    killer.wipe_table()
    killer.note()
    for victim in plan:
        killer.disturb(victim, killer.rng.randint(killer.blocks(), len(expected)))
        # What is left over may be found in place by the next run, or be gone by then.
        if victim == "driver" and killer.store.root.exists() and killer.rng.random() < 0.5:
            killer.collect()
        print(victim, killer.blocks(), killer.collected, flush=True)
        passes = killer.forward_passes()
        assert passes >= killer.passes_before
        if passes == total:
            assert killer.shards() == expected
            killer.wipe_table()
        killer.note()
    assert passes_of(killer.finish()) == total - killer.passes_before
    killer.collect()
    assert killer.shards() == expected
    killer.note()


def passes_of(output: str) -> int:
    found = re.search(r"; (\d+) forward passes", output)
    assert found, output
    return int(found[1])


class _run:
    """A run in a process of its own; whatever it started is gone afterwards."""

    def __init__(self, config: Path, folder: Path) -> None:
        self._words = [sys.executable, "-u", "-m", "jobs", "run", str(config), "name=tiny"]
        self._folder = folder

    def __enter__(self) -> tuple[subprocess.Popen[str], str]:
        # Ray's sockets live below it, and paths of sockets must be short.
        self._mark = tempfile.mkdtemp(prefix="kill-", dir="/tmp")
        environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        self._process = subprocess.Popen(
            self._words,
            cwd=self._folder,
            env=environment | {"TMPDIR": self._mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return self._process, self._mark

    def __exit__(self, *_: object) -> None:
        kill_marked(self._mark)
        self._process.communicate(timeout=20)
        shutil.rmtree(self._mark, ignore_errors=True)


def kill_marked(mark: str) -> None:
    """SIGKILL all processes that carry a mark, until there is none."""
    deadline = time.monotonic() + 20
    while pids := list(marked(mark)):
        assert time.monotonic() < deadline
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def marked(mark: str) -> Iterator[int]:
    """Processes that carry a mark in their environment: those that were started with it, and no others."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            is_ours = f"TMPDIR={mark}\0".encode() in (path / "environ").read_bytes()
        except OSError:
            continue
        if is_ours:
            yield int(path.name)


def command_line(pid: int) -> str:
    """The words of a process, with a zero byte behind each; nothing where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
