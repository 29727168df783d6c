import json
from dataclasses import replace
from pathlib import Path

from ensemble.report.build.curves import read_curves, read_training_seconds
from ensemble.report.documents.curves import Curve
from ensemble.report.pages.charts import training_curve

from ...conftest import MakeMember

EPOCH = {"epoch": 0, "loss_nats": 1.5, "accuracy": 0.5, "seconds": 2.0, "rate": 0.1}
JUDGED = {"validation_loss_nats": 1.0, "validation_accuracy": 0.75}
NOT_JUDGED = {"validation_loss_nats": None, "validation_accuracy": None}


def test_curves_are_read_from_beside_the_weights_once_for_each_network(
    tmp_path: Path, make_member: MakeMember
) -> None:
    member = replace(make_member("a"), checkpoint=tmp_path / "a.safetensors")
    (tmp_path / "a.curve.json").write_text(json.dumps([EPOCH | JUDGED, EPOCH | NOT_JUDGED]))
    views = [replace(member, name=f"a@{view}") for view in ("centre", "flip")]
    elsewhere = replace(make_member("b"), checkpoint=tmp_path / "b.safetensors")
    (curve,) = read_curves([*views, elsewhere])
    assert curve.name == "a"
    assert [epoch.validation_accuracy for epoch in curve.epochs] == [0.75, None]
    assert "seconds" not in curve.epochs[0].model_dump()
    assert read_training_seconds([*views, elsewhere]) == {"a": 4.0}


def test_both_errors_are_drawn_on_one_scale() -> None:
    judged = Curve.model_validate({"name": "a", "epochs": [_epoch(0.5, 0.6), _epoch(0.9, 0.8)]})
    chart = training_curve(judged)
    assert chart.points.count(",") == chart.diagonal.count(",") == 2
    assert len(chart.marks) == 2
    alone = Curve.model_validate({"name": "a", "epochs": [_epoch(0.5, None)]})
    assert training_curve(alone).diagonal == ""


def _epoch(accuracy: float, validation: float | None) -> dict[str, float | None]:
    return {"loss_nats": 1.0, "accuracy": accuracy, "rate": 0.1, "validation_accuracy": validation}
