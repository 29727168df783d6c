from pathlib import Path

import pytest

from ensemble.errors import CheckpointError
from ensemble.storage.local_store import LocalStore
from jobs.stored_runs.weights import KeptWeights

NAME = "resnet14_small-0123456789abcdef01234567.safetensors"


@pytest.fixture
def files(tmp_path: Path) -> LocalStore:
    """A run's files, with the weights that the first machine trained."""
    trained = tmp_path / "first" / NAME
    trained.parent.mkdir()
    trained.write_bytes(b"trained on the first machine")
    files = LocalStore(tmp_path / "run")
    KeptWeights(files).keep(trained)
    return files


def test_weights_kept_with_a_run_are_brought_to_another_machine(
    files: LocalStore, tmp_path: Path
) -> None:
    wanted, other = tmp_path / "second" / NAME, tmp_path / "second" / "x-1.safetensors"
    KeptWeights(files).bring([wanted, other])
    assert wanted.read_bytes() == b"trained on the first machine"
    assert [path.name for path in wanted.parent.iterdir()] == [NAME]


def test_weights_that_are_here_already_are_kept_with_the_run(
    files: LocalStore, tmp_path: Path
) -> None:
    here = tmp_path / "x-1.safetensors"
    here.write_bytes(b"from an earlier run")
    KeptWeights(files).bring([here])
    here.unlink()
    KeptWeights(files).bring([here])
    assert here.read_bytes() == b"from an earlier run"


def test_the_runs_weights_win_over_others_of_the_same_name(
    files: LocalStore, tmp_path: Path
) -> None:
    here = tmp_path / NAME
    here.write_bytes(b"trained here, with other rounding")
    KeptWeights(files).bring([here])
    assert here.read_bytes() == b"trained on the first machine"


def test_damaged_weights_are_one_error(files: LocalStore, tmp_path: Path) -> None:
    (key,) = files.keys("weights")
    files.replace(key, b"damaged")
    with pytest.raises(CheckpointError, match=r"the weights .*resnet14_small-0123.* are damaged"):
        KeptWeights(files).bring([tmp_path / NAME])
    assert not (tmp_path / NAME).exists()
