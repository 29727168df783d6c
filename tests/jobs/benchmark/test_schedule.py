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
    document = json.loads((tmp_path / "schedule-benchmark.json").read_text())
    assert [bar["measured"] for bar in document["bars"]] == [0]
    assert done.stdout.splitlines()[-1] == "met: 1 of 1 bars."
    assert document["settings"]["num_clusters"] == 8
    figures = document["figures"]
    assert len(figures["side_by_side"]) == len(figures["one_after_the_other"]) == 2
    assert set(figures["side_by_side"][0]) == {"search", "fine_tunes", "everything"}
    assert figures["ratio"] > 0
