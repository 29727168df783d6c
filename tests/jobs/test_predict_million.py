"""A million images on one machine: the memory of the driver does not grow with the listing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.dataset
import pytest

from ensemble.answers.chapters import Chapters
from ensemble.images.unlabelled.open import open_unlabelled
from ensemble.images.unlabelled.settings import UnlabelledConfig
from ensemble.storage.local_store import LocalStore

from .artifacts import make_artifact, write_digits

pytestmark = [pytest.mark.nightly, pytest.mark.ray]

NUM_IMAGES, LIMIT_MB = 1_000_000, 1000

_DRIVER = """
import resource, sys
from jobs.__main__ import main
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)
"""


def write_list(folder: Path) -> Path:
    """A list that names a few tiny images again and again, each time by another path."""
    ids = write_digits(folder / "images", 100)
    path = folder / "list.txt"
    with path.open("w") as file:
        for number in range(NUM_IMAGES):
            file.write(f"images/.//{'./' * (number % 7)}{ids[number % len(ids)]}\n")
    return path


def test_a_million_images_are_listed_a_chapter_at_a_time(tmp_path: Path) -> None:
    path = write_list(tmp_path)
    code = f"""
import resource
from pathlib import Path
from ensemble.answers.chapters import Chapters
from ensemble.images.unlabelled.open import open_unlabelled
from ensemble.images.unlabelled.settings import UnlabelledConfig
from ensemble.storage.local_store import LocalStore
source = open_unlabelled(UnlabelledConfig(path={str(path)!r}))
chapters = Chapters(source, LocalStore(Path({str(tmp_path / "out")!r})), 100_000)
count, number = 0, 0
while True:
    chapter = chapters.read(number)
    count += len(chapter.images)
    if chapter.is_last:
        break
    number += 1
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, memory_mb = map(int, done.stdout.split())
    assert count == NUM_IMAGES
    assert memory_mb < LIMIT_MB
    source = open_unlabelled(UnlabelledConfig(path=str(path)))
    last = Chapters(source, LocalStore(tmp_path / "out"), 100_000)
    assert sum(len(last.read(number).images) for number in range(11)) == NUM_IMAGES


def test_a_million_images_are_answered_within_a_gigabyte_of_the_driver(tmp_path: Path) -> None:
    artifact, path = make_artifact(tmp_path / "artifact"), write_list(tmp_path)
    words = ["cluster.device=cpu", "cluster.hosts=2", "cluster.shard_images=2000", "top_k=1"]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            _DRIVER,
            "predict",
            artifact,
            path,
            "--out",
            tmp_path / "out",
            *words,
        ],
        capture_output=True,
        text=True,
        check=False,
        env={key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stderr.split()[-1]) < LIMIT_MB
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["images"] == NUM_IMAGES
    assert pyarrow.dataset.dataset(tmp_path / "out" / "parts").count_rows() == NUM_IMAGES
