"""Folders for other tools: weights in one file, a repository of the Hugging Face hub, a model of MLflow."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble.artifact.card import FILE_NAME as CARD
from ensemble.artifact.sums import write_sums
from ensemble.errors import ConfigError
from ensemble.files import partial_file, publish, publish_folder
from ensemble.members.member import Member
from ensemble.predictor import Predictor

if TYPE_CHECKING:
    from torch import nn

LOADER = "ensemble.export.mlflow_loader"
"""Module by which MLflow loads the artifact; nothing is pickled."""


def export_safetensors(predictor: Predictor, path: Path) -> int:
    """Write the weights of all members into one file, as MEMBER/PARAMETER.

    Its metadata holds, as JSON, the classes, and of each member the architecture, weight, preprocessing,
    views and temperature.

    Returns:
        The number of tensors.

    Raises:
        OSError: The file cannot be written.
    """
    from safetensors.torch import save

    artifact, tensors, about = predictor.artifact, {}, {}
    for member, units in zip(artifact.members, artifact.weighting.units.tolist(), strict=True):
        about[member.name] = {"weight_units": units, **_describe(member)}
        for name, tensor in predictor.network_of(member).state_dict().items():
            # A copy: views of a member share its network, and the format takes no shared memory.
            tensors[f"{member.name}/{name}"] = tensor.detach().cpu().clone().contiguous()
    metadata = {
        "classes": json.dumps(predictor.classes),
        "combine": artifact.weighting.combine,
        "members": json.dumps(about),
        "temperature": json.dumps(artifact.temperature),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial_file(path.parent) as file:
        file.write(save(tensors, metadata))
        publish(file, path)
    return len(tensors)


def _describe(member: Member) -> dict[str, object]:
    return {
        "architecture": member.architecture,
        "preprocessing": member.preprocessing.model_dump(mode="json"),
        "views": member.views.model_dump(mode="json"),
        "precision": member.precision,
        "temperature": member.temperature,
    }


def export_hub(predictor: Predictor, path: Path) -> tuple[str, ...]:
    """Write a folder for the Hugging Face hub: the artifact with its card, and each timm member as timm loads it.

    `timm.create_model("local-dir:PATH/timm/MEMBER", pretrained=True)` opens such a member, and
    `huggingface_hub.upload_folder` uploads the folder; nothing is uploaded here.

    Args:
        predictor: The ensemble.
        path: The folder; an older one is replaced.

    Returns:
        Names of the members that timm loads.

    Raises:
        OSError: The folder cannot be written.
    """
    artifact = predictor.artifact
    building = path.with_name(f".{path.name}.part")
    shutil.rmtree(building, ignore_errors=True)
    shutil.copytree(artifact.folder, building)
    names = []
    modules = {
        member.name: predictor.network_of(member)
        for member in artifact.members
        if member.architecture.startswith("timm/")
    }
    for member in artifact.members:
        if member.name in modules:
            _save_for_timm(modules[member.name], member, building / "timm" / member.name)
            names.append(member.name)
    if names:
        card = building / CARD
        text = card.read_text(encoding="utf-8") if card.is_file() else f"# {path.name}\n"
        lines = [f'`timm.create_model("local-dir:timm/{name}", pretrained=True)`' for name in names]
        listed = "\n".join(f"- {line}" for line in lines)
        card.write_text(f"{text}\n## Members alone\n\n{listed}\n", encoding="utf-8")
    write_sums(building)
    path.parent.mkdir(parents=True, exist_ok=True)
    publish_folder(building, path)
    return tuple(names)


def _save_for_timm(network: "nn.Module", member: Member, folder: Path) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    name, _, at_size = member.architecture.removeprefix("timm/").partition("@")
    shown = member.preprocessing
    state = {
        key: tensor.detach().cpu().clone().contiguous()
        for key, tensor in network.state_dict().items()
    }
    save_file(state, str(folder / "model.safetensors"), {"format": "pt"})
    config: dict[str, object] = {
        "architecture": name.partition(".")[0],
        "num_classes": len(member.classes),
        "pretrained_cfg": {
            "input_size": [3, shown.size, shown.size],
            "interpolation": shown.interpolation,
            "crop_pct": shown.size / (shown.resize or shown.size),
            "mean": list(shown.mean),
            "std": list(shown.std),
            "num_classes": len(member.classes),
        },
    }
    if at_size:
        config["model_args"] = {"img_size": shown.size}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def export_mlflow(predictor: Predictor, path: Path) -> None:
    """Write a model of MLflow that predicts with the artifact; it is loaded by a module, not from a pickle.

    Args:
        predictor: The ensemble.
        path: The folder; there must be none yet.

    Raises:
        ConfigError: MLflow is not installed, or there is such a folder.
        OSError: The folder cannot be written.
    """
    try:
        import mlflow.pyfunc
    except ImportError as error:
        raise ConfigError(
            f"a model of MLflow needs {error.name}, which is not installed: pip install -e '.[mlflow]'."
        ) from error
    if path.exists():
        raise ConfigError(f"{str(path)!r} is there already. Give another --out, or remove it.")
    requirements = predictor.artifact.folder / "requirements.txt"
    mlflow.pyfunc.save_model(
        str(path),
        loader_module=LOADER,
        data_path=str(predictor.artifact.folder),
        pip_requirements=str(requirements) if requirements.is_file() else [],
    )
