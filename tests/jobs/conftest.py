"""The `ensemble` command as a user has it: another process, no terminal."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.__main__ import main

from .made_run import make_run as make_run  # a fixture

Command = Callable[..., subprocess.CompletedProcess[str]]

# The smallest run that has every stage: three members, one epoch or two, 200 images.
TINY = """
images:
  source: {kind: digits}
  split: {train: 60, search: 80, test: 60}
views: {kind: shifts_and_scales, shift: 1}
recipes:
  default: {epochs: 2}
members:
  - {name: resnet-0, source: {kind: recipe, architecture: resnet14_small, seed: 0}}
  - {name: resnet-1, source: {kind: recipe, architecture: resnet14_small, seed: 1}}
  - {name: mobilenet, source: {kind: recipe, architecture: mobilenet_v2_small}, views: {kind: center}}
subclassifiers: {num_clusters: [2, 3], recipe: default, control: true}
cluster: {device: cpu, hosts: 2, shard_images: 64, object_store_mb: 128}
"""


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}


@pytest.fixture(scope="session")
def command(environment: dict[str, str]) -> Command:
    def call(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "jobs", *map(str, words)],
            capture_output=True,
            text=True,
            cwd=cwd,
            env=environment,
            timeout=240,
            check=False,
        )

    return call


@pytest.fixture
def command_here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command in this process, for what starts no Ray: libraries are loaded once, not every time."""

    def call(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        code: int | str | None = 0
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["ensemble", *map(str, words)])
            patch.delenv("RAY_ADDRESS", raising=False)
            if cwd:
                patch.chdir(cwd)
            try:
                main()
            except SystemExit as end:
                code = end.code
        assert isinstance(code, int)
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    return call
