"""A member of timm is opened by timm itself from the folder for the hub."""

from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import save_file

from ensemble import predictor
from ensemble.artifact import write
from ensemble.checkpoints.load import load_member
from ensemble.export.folders import export_hub
from ensemble.members.settings import MemberConfig
from ensemble.members.source_settings import WeightsConfig
from ensemble.outranking.weighting import Weighting
from ensemble.pretrained.import_member import import_member
from ensemble.views.settings import CenterView


def test_timm_opens_a_member_from_the_folder_and_it_gives_the_same_logits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=3).eval()
    save_file(network.state_dict(), str(tmp_path / "weights.safetensors"))
    config = MemberConfig.model_validate(
        {
            "name": "small",
            "source": {
                "kind": "checkpoint",
                "path": str(tmp_path / "weights.safetensors"),
                "architecture": "timm/test_resnet",
            },
            "preprocessing": {
                "size": 64,
                "resize": 72,
                "mean": [0.4, 0.5, 0.6],
                "std": [0.2, 0.2, 0.3],
            },
        }
    )
    classes = ("cat", "dog", "cow")
    checkpoint = import_member(config, classes, WeightsConfig(), tmp_path / "cache")
    member = load_member("small", checkpoint, CenterView(), "d" * 64)
    write.save(tmp_path / "ensemble", [member], Weighting(np.array([1])), classes, "best")
    loaded = predictor.load(tmp_path / "ensemble")
    assert export_hub(loaded, tmp_path / "hub") == ("small",)
    opened = timm.create_model(f"local-dir:{tmp_path / 'hub' / 'timm' / 'small'}", pretrained=True)
    batch = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(opened.eval()(batch), network(batch))
    shown = timm.data.resolve_model_data_config(opened)
    assert tuple(shown["input_size"]) == (3, 64, 64)
    assert tuple(shown["mean"]) == (0.4, 0.5, 0.6)
    assert shown["crop_pct"] == 64 / 72
    assert "local-dir:timm/small" in (tmp_path / "hub" / "README.md").read_text()
