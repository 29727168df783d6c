"""`ensemble init IMAGES [FILE...]`: look at images and files of weights, and write a config that runs."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ensemble.config import S3_SCHEME
from ensemble.errors import CheckpointError, ConfigError
from ensemble.images.index import ImageIndex
from ensemble.images.open import open_source
from ensemble.images.settings import SourceConfig
from ensemble.images.split import has_parts
from ensemble.pretrained.recognise import RecognisedFile, recognise
from jobs.preflight import read_images
from jobs.progress.live import working
from jobs.settings import load_run_config

# Small networks of different families, for a pool that is trained here.
_TRAINED = ("resnet14_small", "resnet20_bottleneck_small", "mobilenet_v2_small", "densenet_small")
_PUBLISHED = re.compile(r"^(torchvision|timm|hf-hub):")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


def write_config(images: str, files: Sequence[str], out: Path) -> str:
    """Write a config for some labelled images and files of weights; return what it is in a few lines.

    Args:
        images: A folder with a sub-folder per class, a .parquet file, or the settings of a source.
        files: Files of weights (.pth, .safetensors, .onnx), or published ones as torchvision:resnet50.
            Without any, small networks are trained.
        out: The YAML file to write.

    Raises:
        ConfigError: The file is there already, or no file of weights can be used.
        DataError: The images cannot be listed.
    """
    if out.exists():
        raise ConfigError(f"{out} is there already. Remove it, or name another file with --out.")
    is_path = not images.lstrip().startswith("{") and not images.startswith(S3_SCHEME)
    source = read_images(str(_plain(Path(images).expanduser())) if is_path else images)
    with working("init", "list images"):
        index = open_source(source).index()
    members: list[dict[str, Any]] = []
    left_out: list[str] = []
    with working("init", "recognise weights", max(1, len(files)), "files") as stage:
        for file in files:
            try:
                members.append(_member(file, index, [member["name"] for member in members]))
            except CheckpointError as error:
                left_out.append(f"{file}: {str(error).removeprefix(f'{file}: ')}")
            stage.advance()
    if files and not members:
        raise ConfigError(
            "no file of weights can be used:\n  "
            + "\n  ".join(left_out)
            + "\nMend one, or name none "
            "and let small networks be trained."
        )
    text = "\n".join(_lines(source, index, members, left_out, out)) + "\n"
    out.write_text(text, encoding="utf-8")
    load_run_config(out)
    return _summary(index, members, left_out, out)


def _plain(path: Path) -> Path:
    """Make a path absolute, without the `..` that only the folder of the command explains."""
    return path.resolve() if ".." in path.parts else path.absolute()


def _member(file: str, index: ImageIndex, taken: Sequence[str]) -> dict[str, Any]:
    if _PUBLISHED.match(file):
        return {"name": _free_name(file.partition(":")[2], taken), "source": file}
    path = Path(file).expanduser()
    if not path.exists():
        raise CheckpointError("there is no such file. Check the path.")
    weights = recognise(path)
    _check_usable(weights, len(index.classes))
    name = _free_name(path.stem, taken)
    place = str(_plain(path))
    if weights.kind == "own":
        return {"name": name, "source": {"kind": "checkpoint", "path": place}}
    source = {"kind": weights.kind, "path": place}
    if weights.architecture is not None:
        source["architecture"] = weights.architecture
    preprocessing = weights.preprocessing.model_dump(mode="json")
    return {"name": name, "source": source, "preprocessing": preprocessing}


def _check_usable(weights: RecognisedFile, num_classes: int) -> None:
    if weights.kind == "checkpoint" and weights.architecture is None:
        raise CheckpointError(
            "its tensors fit no network of torchvision, timm or this project. Add it by hand with "
            "`architecture`, or as factory:package.module:function."
        )
    if weights.num_outputs is None:
        raise CheckpointError(
            "its input size could not be found. Add it by hand with preprocessing.size."
        )
    if weights.num_outputs != num_classes:
        raise CheckpointError(
            f"it has {weights.num_outputs} outputs, and the images have {num_classes} classes. Add it by "
            "hand with `label_map: FILE`, a text file with the class of each output on a line."
        )


def _free_name(stem: str, taken: Sequence[str]) -> str:
    name = _NOT_IN_NAMES.sub("-", stem).strip("-_.")[:60] or "member"
    free = (n for n in (name, *(f"{name}-{i}" for i in range(2, 10_000))) if n not in taken)
    return next(free)


def _lines(
    source: SourceConfig,
    index: ImageIndex,
    members: Sequence[dict[str, Any]],
    left_out: Sequence[str],
    out: Path,
) -> Iterator[str]:
    counts = np.bincount(index.labels, minlength=len(index.classes))
    total, num_classes = len(index), len(index.classes)
    train = 0 if members else max(num_classes, total * 2 // 5)
    search = max(num_classes, (total - train) // 2)
    yield f"# Written by `ensemble init`. Then: ensemble validate {out}; ensemble plan {out}; ensemble run {out}"
    yield f"# {total} images of {num_classes} classes, {counts.min()} to {counts.max()} in a class."
    yield "images:"
    yield f"  source: {_flow(source.model_dump(mode='json', exclude_unset=True) | {'kind': source.kind})}"
    if index.parts is not None and has_parts(index):
        yield "  # Its train, val and test folders are the splits; `ensemble plan` says which is which."
        parts = [index.labels[index.parts == part] for part in set(index.parts.tolist())]
        if min(np.bincount(labels, minlength=num_classes).min() for labels in parts) < 2:
            yield "  split: {every_class: false}"
    else:
        yield f"  # The other {total - train - search} images are the test split: nothing is fitted on them."
        split = {"train": train, "search": search}
        if counts.min() < (3 if train else 2):
            split["every_class"] = False
        yield f"  split: {_flow(split)}"
    if not members:
        yield "recipes: {default: {input_size: 64, epochs: 30}}"
    yield "members:"
    for reason in left_out:
        yield "  # left out: " + " ".join(reason.split())
    for architecture in () if members else _TRAINED:
        member = {"kind": "recipe", "architecture": architecture}
        yield f"  - {{name: {architecture.removesuffix('_small')}, source: {_flow(member)}}}"
    for member in members:
        yield f"  - name: {member['name']}"
        yield f"    source: {_flow(member['source'])}"
        if "preprocessing" in member:
            yield "    # As published for the architecture. It must be what these weights were trained with."
            yield f"    preprocessing: {_flow(member['preprocessing'])}"


def _flow(value: object) -> str:
    """Write a value in one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return text.strip().removesuffix("...").strip()


def _summary(
    index: ImageIndex, members: Sequence[dict[str, Any]], left_out: Sequence[str], out: Path
) -> str:
    count = f"{len(members)} members" if members else f"{len(_TRAINED)} small networks to train"
    lines = [f"{out}: {len(index)} images of {len(index.classes)} classes, {count}"]
    lines += [f"left out: {reason}" for reason in left_out]
    return "\n".join([*lines, f"next: ensemble plan {out}, then ensemble run {out}"])
