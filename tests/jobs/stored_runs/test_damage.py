"""Whatever happens to a file of a run, a search says so or finds what it found before."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import ProjectError
from ensemble.report.documents.search import SearchReport
from jobs.import_table.job import ImportSettings, import_table
from jobs.search import search

NOT_OURS = [b"[" * 100_000, b'{"a":' * 5000, b"{}", b"[]", b"null", b"3", b'""', b""]


def attempt(folder: Path) -> SearchReport | None:
    """Search; a mistake that is told gives nothing, all else is raised."""
    try:
        return search(folder, ["k=1", "kind=best", "stability=0", "resamples=100"])[0]
    except ProjectError:
        return None
    finally:
        shutil.rmtree(folder / "search", ignore_errors=True)


@pytest.mark.parametrize("count", [50, pytest.param(5000, marks=pytest.mark.nightly)])
def test_a_damaged_file_of_a_run_is_told_or_makes_no_difference(tmp_path: Path, count: int) -> None:
    labels = np.arange(30) % 3
    scores = np.full((30, 3), 0.1)
    scores[np.arange(30), (labels + (np.arange(30) % 5 == 0)) % 3] = 0.8
    np.savez(tmp_path / "m.npz", m=scores, n=np.roll(scores, 3, axis=0), labels=labels)
    run = tmp_path / "run"
    import_table(run, ImportSettings([tmp_path / "m.npz"]))
    report = {"members": [{"name": name, "parameters": 3, "depth": 2} for name in ("m", "n")]}
    (run / "report.json").write_text(json.dumps(report))
    expected = attempt(run)
    assert expected is not None
    files = sorted(path for path in run.rglob("*") if path.is_file())
    for seed in range(count):
        rng = np.random.default_rng(seed)
        path = files[seed % len(files)]
        data = bytearray(path.read_bytes())
        before, place = bytes(data), int(rng.integers(len(data)))
        if seed % 4 == 0:
            data = bytearray(NOT_OURS[int(rng.integers(len(NOT_OURS)))])
        elif seed % 4 == 1:
            data[place] ^= 1 << int(rng.integers(8))
        elif seed % 4 == 2:
            del data[place:]
        else:
            del data[place : place + int(rng.integers(1, 40))]
        path.write_bytes(bytes(data))
        found = attempt(run)
        assert found is None or found.results == expected.results, (seed, path)
        path.write_bytes(before)
