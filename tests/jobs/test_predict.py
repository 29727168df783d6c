"""Bulk prediction on a real pool: one row an image, equal to the predictor's, through stops and kills."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset
import pytest

from ensemble import predictor
from ensemble.answers.chapters import part_key
from ensemble.answers.part import encode_failed_part
from ensemble.answers.settings import PartSettings
from ensemble.errors import ProjectError
from jobs.console import open_console
from jobs.predict import predict
from jobs.predict_settings import Summary, read_words
from jobs.progress.live import Progress

from .artifacts import make_artifact, write_digits
from .killing import marked

pytestmark = pytest.mark.ray

WORDS = (
    "top_k=3",
    "probabilities=true",
    "cluster.device=cpu",
    "cluster.hosts=2",
    "cluster.shard_images=16",
    "cluster.object_store_mb=100",
    "chapter_images=100",
)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact(tmp_path_factory.mktemp("artifact"))


def answer(artifact: Path, images: Path, out: Path) -> Summary:
    with Progress(open_console(stderr=True), "predict", []) as progress:
        return predict(str(artifact), str(out), read_words(str(images), WORDS), progress)


def check_answers(artifact: Path, images: Path, rows: list[dict[str, Any]]) -> None:
    """Every row without an error says what the predictor says."""
    sound = [row for row in rows if row["error"] is None]
    expected = predictor.load(artifact).predict([images / row["image_id"] for row in sound])
    np.testing.assert_allclose(
        [row["probabilities"] for row in sound], expected.probabilities, atol=1e-5
    )
    assert [row["answer"] for row in sound] == list(expected.labels)


def test_what_was_listed_is_answered_once_and_a_part_that_is_there_stays(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    ids = write_digits(images, 130)
    # An attempt that ends before Ray starts: it has listed the first chapter.
    monkeypatch.setenv("RAY_ADDRESS", "nowhere at all")
    with pytest.raises(ProjectError):
        answer(artifact, images, out)
    monkeypatch.delenv("RAY_ADDRESS")
    (images / "a" / "00000.png").rename(images / "a" / "new.png")
    (images / "a" / "new.png").write_bytes((images / "b" / "00001.png").read_bytes())
    there = out / part_key(0, 3)
    there.parent.mkdir(parents=True)
    there.write_bytes(encode_failed_part(sorted(ids)[48:64], "of before", PartSettings(3, True)))
    summary = answer(artifact, images, out)
    assert (summary.images, summary.computed, summary.bad) == (131, 131 - 16, 2)
    assert summary.parts == 9, "seven of the first chapter, and two of the second"
    rows = pyarrow.dataset.dataset(out / "parts").to_table().to_pylist()
    assert Counter(row["image_id"] for row in rows) == Counter(ids)
    errors = Counter(row["error"] for row in rows if row["error"])
    assert errors.pop("of before") == 16
    assert errors.pop("it cannot be read: No such file or directory") == 1
    assert len(errors) == 1, "of the file that is no image"
    check_answers(artifact, images, rows)


@contextmanager
def started(words: list[str], folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A command in a process of its own; whatever it started is gone afterwards."""
    mark = tempfile.mkdtemp(prefix="kill-", dir="/tmp")
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs", *words],
        cwd=folder,
        env=environment | {"TMPDIR": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, mark
    finally:
        while pids := list(marked(mark)):
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.05)
        process.communicate(timeout=20)
        shutil.rmtree(mark, ignore_errors=True)


def hosts(mark: str) -> list[int]:
    """Workers of a command, which Ray calls by their class."""
    out = []
    for pid in marked(mark):
        try:
            name = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if name.startswith(b"ray::PredictorHost"):
            out.append(pid)
    return out


@pytest.mark.nightly
def test_twenty_kills_of_drivers_and_workers_leave_one_row_an_image(
    artifact: Path, tmp_path: Path
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    ids = write_digits(images, 1500)
    words = ["predict", str(artifact), str(images), "--out", str(out), *WORDS]
    words[-3] = "cluster.shard_images=4"
    rng, kills = random.Random(0), Counter[str]()
    while kills["driver"] < 12:
        there = len(list(out.rglob("parts/*/*.parquet")))
        with started(words, tmp_path) as (process, mark):
            deadline = time.monotonic() + 300
            wanted = there + rng.randint(1, 12)
            while len(list(out.rglob("parts/*/*.parquet"))) < wanted and process.poll() is None:
                assert time.monotonic() < deadline
                if rng.random() < 0.05 and kills["host"] < 12 and (pids := hosts(mark)):
                    os.kill(rng.choice(pids), signal.SIGKILL)
                    kills["host"] += 1
                    time.sleep(1)
                time.sleep(0.02)
            assert process.poll() is None, process.communicate()[1]
            process.kill()
            kills["driver"] += 1
    with started(words, tmp_path) as (process, _):
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    assert kills.total() >= 20
    rows = pyarrow.dataset.dataset(out / "parts").to_table().to_pylist()
    assert Counter(row["image_id"] for row in rows) == Counter(ids)
    assert [row["image_id"] for row in rows if row["error"]] == ["a/bad.jpg"]
    check_answers(artifact, images, rows)
    # What a kill left between write and publication is no part.
    assert all(not path.name.startswith(".part-") for path in (out / "parts").rglob("*"))
