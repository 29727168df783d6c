import json
from pathlib import Path

import pytest

from ..conftest import Command


@pytest.mark.nightly
@pytest.mark.ray
def test_the_search_does_not_wait_for_the_fine_tunes(command: Command, tmp_path: Path) -> None:
    words = [
        "hosts=4",
        "epochs=30",
        "search_images=1000",
        "search_classes=20",
        "search_members=4",
        "repeats=2",
    ]
    done = command("benchmark", "schedule", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "schedule-benchmark.json").read_text())
    assert not found["search_waits"]
    assert found["config"]["num_clusters"] == 8
    assert len(found["side_by_side"]) == len(found["one_after_the_other"]) == 2
    assert set(found["side_by_side"][0]) == {"search", "fine_tunes", "everything"}
    assert found["ratio"] > 0
