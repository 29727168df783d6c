"""Nights as runs of MLflow: what is there after each, and what happens where there is no server."""

import importlib.util
import socket
from pathlib import Path

import pytest

from ensemble.errors import ConfigError

from .worlds import Nights

HAS_MLFLOW = importlib.util.find_spec("mlflow") is not None


@pytest.mark.skipif(HAS_MLFLOW, reason="MLflow is installed")
def test_without_mlflow_the_night_is_refused_before_anything_is_predicted(tmp_path: Path) -> None:
    nights = Nights(tmp_path / "nightly", settings={"mlflow": "http://127.0.0.1:1"})
    with pytest.raises(ConfigError, match=r"needs mlflow.*pip install -e '\.\[mlflow\]'"):
        nights.run()
    assert nights.world.passes == 0


@pytest.mark.skipif(not HAS_MLFLOW, reason="needs MLflow: pip install -e '.[mlflow]'")
def test_each_night_is_a_run_with_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    place = (tmp_path / "runs of mlflow").as_uri()
    nights = Nights(tmp_path / "nightly", settings={"mlflow": place})
    record, _ = nights.run()
    nights.world.change("b", seed=900, shift=3.0)
    nights.run()
    assert not [line for line in nights.lines if "warning" in line]
    client = MlflowClient(place)
    experiment = client.get_experiment_by_name("suite")
    last, first = client.search_runs([experiment.experiment_id])
    assert (first.info.run_name, first.info.status) == (str(record.date), "FINISHED")
    assert first.data.tags["digits/verdict"] == "first night"
    assert last.data.tags["verdict"] == "regressed"
    figure = record.rows[0].figure("top1_error")
    assert figure is not None
    assert first.data.metrics["digits/top1_error"] == pytest.approx(figure.value)
    assert last.data.metrics["digits/top1_error_loss_accepted"] > 0


@pytest.mark.skipif(not HAS_MLFLOW, reason="needs MLflow: pip install -e '.[mlflow]'")
def test_a_server_that_does_not_answer_fails_no_night(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nights = Nights(tmp_path / "nightly", settings={"mlflow": f"http://127.0.0.1:{port}"})
    assert nights.run()[1] == 0
    assert any(line.startswith("warning: MLflow does not take the night") for line in nights.lines)
