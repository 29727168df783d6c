"""What `ensemble search` says after its table, on predictions computed elsewhere."""

from pathlib import Path

import numpy as np
import pytest

from ..conftest import Command


@pytest.fixture(scope="module")
def imported(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sound members, one at chance, and one whose outputs are moved by one class."""
    folder = tmp_path_factory.mktemp("imported")
    labels = np.random.default_rng(0).integers(0, 10, 400)
    files = []
    for seed, (name, strength) in enumerate([("good", 4), ("fair", 3), ("noise", 0), ("moved", 4)]):
        logits = np.random.default_rng(seed).normal(scale=1.5, size=(400, 10))
        logits[np.arange(400), labels] += strength
        np.save(folder / f"{name}.npy", np.roll(logits, name == "moved", axis=1))
        files.append(f"{name}.npy")
    np.save(folder / "labels.npy", labels)
    words = ["runs/some", *files, "--labels", "labels.npy", "--form", "logits"]
    done = command("table", "import", *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_three_lines_say_what_to_make_of_the_table_and_suspects_are_named(
    imported: Path, command: Command
) -> None:
    done = command("search", "runs/some", "stability=0", cwd=imported)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("Recommended: "))
    label = lines[start].removeprefix("Recommended: ").partition(". ")[0]
    assert f"{label} *" in " ".join(done.stdout.replace("│", " ").split())
    assert "than the best member" in lines[start + 1] or label.startswith("best member")
    assert "significant" in lines[start + 1]
    assert lines[start + 2].startswith("Next: ")
    notes = [line for line in lines if line.startswith("note: ")]
    assert sum("noise is at chance" in note for note in notes) == 1
    assert sum("moved has exchanged classes" in note for note in notes) == 1
    assert not any(note.startswith(("note: good", "note: fair")) for note in notes)
