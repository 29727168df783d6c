import json
from pathlib import Path

import pytest

from ..conftest import Command


@pytest.mark.nightly
@pytest.mark.ray
def test_the_search_does_not_wait_for_the_fine_tunes(command: Command, tmp_path: Path) -> None:
    words = [
        "epochs=20",
        "search_images=1000",
        "search_classes=20",
        "search_members=4",
        "repeats=1",
        "table_images=600",
        "table_classes=50",
    ]
    done = command("benchmark", "schedule", *words, cwd=tmp_path)
    assert done.returncode in (0, 1), done.stderr  # whether bars are met is no test's business
    document = json.loads((tmp_path / "schedule-benchmark.json").read_text())
    assert len(document["bars"]) == 4
    assert document["settings"]["num_clusters"] == 8
    for name in ("decoded", "not_decoded"):
        (measured,) = document["figures"][name]["rounds"]
        assert measured["search"] < measured["fine_tunes"]
    first = document["figures"]["first_weights"]
    assert first["search_s"] > 0
    assert 0 < first["kept_mb"] < 256
