"""Weights in timm's form: published by timm, on the Hugging Face hub, or in a file."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import timm
from timm.data import resolve_data_config
from timm.models import get_pretrained_cfg
from torch import nn

from ensemble.checkpoints.file import Weights, check_fit
from ensemble.errors import CheckpointError, UnknownNameError
from ensemble.members.settings import Interpolation, Preprocessing
from ensemble.members.source_settings import HubSource, TimmSource, WeightsConfig
from ensemble.models.libraries import split_size
from ensemble.pretrained.description import Description
from ensemble.pretrained.published_file import PublishedFile, fetch

_WEIGHTS = "model.safetensors"


def describe(source: TimmSource) -> Description:
    """Describe weights that timm publishes.

    Raises:
        UnknownNameError: timm has no such architecture or tag.
        CheckpointError: The weights are not published as safetensors on the hub.
    """
    architecture, _, _ = source.name.partition(".")
    tags = timm.list_pretrained(f"{architecture}.*")
    if source.name not in tags and (source.name != architecture or not tags):
        near = tags or timm.list_pretrained(f"{architecture[:6]}*")
        raise UnknownNameError.of("timm weights", source.name, near[:20])
    config = get_pretrained_cfg(source.name)
    if not config.hf_hub_id or config.hf_hub_filename:
        raise CheckpointError(
            f"timm publishes {source.name!r} in a form of its own ({config.hf_hub_filename}). Load it "
            "with timm, save its state_dict, and give that as a checkpoint."
        )
    return Description(
        architecture=f"timm/{architecture}",
        num_outputs=config.num_classes,
        preprocessing=_preprocessing(config.to_dict()),
        file=PublishedFile(f"{config.hf_hub_id}/{_WEIGHTS}", sha256=source.sha256),
    )


def describe_hub(source: HubSource, weights: WeightsConfig) -> Description:
    """Describe the weights of a repository by its config.json.

    Raises:
        CheckpointError: The config.json cannot be fetched, or is not that of a timm classifier.
    """
    file = PublishedFile(f"{source.repository}/config.json", revision=source.revision)
    path = fetch(file, weights)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        details = config.get("pretrained_cfg", config)
        architecture = config["architecture"]
        num_outputs = config.get("num_classes", details.get("num_classes"))
        preprocessing = _preprocessing(details)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{source.repository} is not a timm model ({path}: {error!r}). Expected a config.json with "
            "`architecture` and `pretrained_cfg`."
        ) from error
    if config.get("model_args"):
        raise CheckpointError(
            f"{source.repository} builds {architecture} with model_args {config['model_args']}, which "
            "are not passed on. Give a factory, or an exported program."
        )
    return Description(
        architecture=f"timm/{architecture}",
        num_outputs=num_outputs,
        preprocessing=preprocessing,
        file=replace(file, name=f"{source.repository}/{_WEIGHTS}", sha256=source.sha256),
    )


def load(architecture: str, num_outputs: int, state: Weights, path: Path) -> nn.Module:
    """Build a timm network with the weights of a file, under timm's names or the original ones.

    Raises:
        CheckpointError: The weights are of another network.
    """
    # timm maps an architecture's original names to its own.
    overlay = {"state_dict": state, "num_classes": num_outputs, "custom_load": False}
    name, size = split_size(architecture)
    try:
        network: nn.Module = timm.create_model(
            name,
            pretrained=True,
            num_classes=num_outputs,
            pretrained_cfg_overlay=overlay,
            **({} if size is None else {"img_size": size}),
        )
    except (RuntimeError, KeyError, ValueError, IndexError, AttributeError) as error:
        what = f"timm's {architecture}"
        # The names say more than timm's long list of what is missing.
        check_fit(path, state, timm.create_model(name).state_dict(), what)
        raise CheckpointError(
            f"{path}: the weights do not fit {what} ({_first_lines(error)}). Give the architecture that "
            "they were trained with."
        ) from error
    return network.eval()


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _preprocessing(config: dict[str, Any]) -> Preprocessing | None:
    data = resolve_data_config(pretrained_cfg=config)
    size, is_whole = data["input_size"][-1], data["crop_pct"] == 1.0
    if data["interpolation"] not in get_args(Interpolation) or not (
        data["crop_mode"] == "center" or (data["crop_mode"] == "squash" and is_whole)
    ):
        return None  # The member's own settings must give the preprocessing.
    # timm's transforms: the short side to size / crop_pct, or all of it squeezed to a square.
    is_cut = data["crop_mode"] == "center"
    return Preprocessing(
        size=size,
        resize=math.floor(size / data["crop_pct"]) if is_cut else None,
        mean=data["mean"],
        std=data["std"],
        interpolation=data["interpolation"],
    )
