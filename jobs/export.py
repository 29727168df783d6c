"""`ensemble export`: an artifact for other tools, kept only if it answers as the artifact does."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ensemble import predictor
from ensemble.artifact.golden import read_golden
from ensemble.errors import ConfigError
from ensemble.export import folders, programs
from ensemble.export.parity import choose_size, make_check
from jobs.artifacts import bring_artifact

Format = Literal["pt2", "onnx", "safetensors", "hub", "mlflow"]

SUFFIXES: dict[Format, str] = {
    "pt2": ".pt2",
    "onnx": ".onnx",
    "safetensors": ".safetensors",
    "hub": "",
    "mlflow": "",
}


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        path: The file or folder.
        description: What it is, in words.
        largest_difference: Largest difference of a probability to the predictor's; None where nothing was
            computed.
    """

    path: Path
    description: str
    largest_difference: float | None = None


def export(
    place: str,
    kind: Format,
    out: Path,
    words: tuple[str, ...] = (),
    *,
    size: tuple[int, int] | None = None,
    without_routing: bool = False,
    trust_code: bool = False,
) -> Exported:
    """Write an artifact in another form.

    Args:
        place: The artifact, or the run that has one.
        kind: The form.
        out: The file or folder.
        words: How S3 is reached, of the form storage.key=value.
        size: Height and width of a program's input; chosen by the golden inputs or the members if None.
        without_routing: Leave the sub-classifiers out of a program.
        trust_code: Accept members that run code of their own.

    Raises:
        ConfigError: There is no artifact, or it cannot take this form.
        CheckpointError: The written program answers otherwise than the artifact; it is not kept.
    """
    if SUFFIXES[kind] and out.suffix != SUFFIXES[kind]:
        raise ConfigError(
            f"the name of {str(out)!r} does not end in {SUFFIXES[kind]}, as --to {kind} wants. Rename it."
        )
    if size is not None and kind not in ("pt2", "onnx"):
        raise ConfigError(
            f"--size is for --to pt2 and --to onnx; --to {kind} takes images of any size."
        )
    artifact = bring_artifact(place, words)
    loaded = predictor.load(artifact.path, trust_code=trust_code)
    try:
        if kind in ("pt2", "onnx"):
            return _export_program(loaded, kind, out, size, without_routing, artifact.place)
        if kind == "safetensors":
            count = folders.export_safetensors(loaded, out)
            return Exported(out, f"{count} tensors of {len(loaded.members)} members")
        if kind == "hub":
            names = folders.export_hub(loaded, out)
            members = f"; {', '.join(names)} as timm loads them" if names else ""
            return Exported(out, f"a folder for the Hugging Face hub{members}")
        folders.export_mlflow(loaded, out)
        return Exported(out, "a model of MLflow, loaded by a module and not from a pickle")
    except OSError as error:
        raise ConfigError(f"cannot write {str(out)!r}: {error.strerror or error}.") from error


def _export_program(
    loaded: predictor.Predictor,
    kind: Literal["pt2", "onnx"],
    out: Path,
    size: tuple[int, int] | None,
    without_routing: bool,
    place: str,
) -> Exported:
    golden = read_golden(loaded.artifact.folder)
    if golden is None:
        raise ConfigError(
            f"{place} has no golden inputs to check a program with. `ensemble resume RUN` or `ensemble search RUN "
            "--save` writes an artifact that has some."
        )
    loaded = loaded.without_routing() if without_routing else loaded
    height, width = choose_size(loaded, golden.images, size)
    check = make_check(loaded, golden, (height, width))
    write = programs.export_pt2 if kind == "pt2" else programs.export_onnx
    off = write(loaded, out, check, (height, width))
    text = (
        f"float32 [image, 3, {height}, {width}] of pixels in [0, 1] to probabilities of {len(loaded.classes)} "
        f"classes; within {off:.1g} of the artifact at 1, 3 and 8 images"
    )
    return Exported(out, text, off)
