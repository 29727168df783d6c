"""The verbs that use an artifact: predict, export, verify."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ensemble.errors import ConfigError
from jobs.cli.app import EXIT_FAILED, AsJson, StorageWords
from jobs.terminal import echo

Artifact = Annotated[
    str,
    typer.Argument(
        metavar="ARTIFACT",
        help="The folder `ensemble` of a run, the run's own folder, or s3://bucket/prefix of either.",
    ),
]
Device = Annotated[
    str, typer.Option(help="Device that predicts, as torch names it: cpu, cuda, cuda:1.")
]
TrustCode = Annotated[
    bool,
    typer.Option(
        "--trust-code",
        help="Accept members that run code of their own: factories and .pt2 programs.",
    ),
]


def verify(
    place: Artifact,
    words: StorageWords = None,
    device: Device = "cpu",
    trust_code: TrustCode = False,
    as_json: AsJson = False,
) -> None:
    """Hash every file of an artifact again, and replay its golden inputs: exit code 1 if anything is wrong."""
    from jobs.artifacts import bring_artifact
    from jobs.progress.live import working
    from jobs.verify import verify as verify_artifact

    with working("verify", f"verify {place}"):
        artifact = bring_artifact(place, words or [])
        result = verify_artifact(artifact.path, device=device, trust_code=trust_code)
    if as_json:
        echo(json.dumps({"artifact": artifact.place, **result.document()}, indent=2))
    else:
        for problem in result.problems:
            echo(f"wrong: {problem}")
        for note in result.notes:
            echo(f"note: {note}")
        echo(_summary(artifact.place, result.files, result.golden, result.largest_difference))
    if not result.is_sound:
        raise typer.Exit(EXIT_FAILED)


def predict(
    place: Artifact,
    images: Annotated[
        str,
        typer.Argument(
            metavar="IMAGES",
            help="A folder of images, a text file that lists them, a .parquet or .tar file or a folder of these, or "
            "s3://bucket/prefix.",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="Folder of the answers, or s3://bucket/prefix; new, or to go on with.",
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[a.b=value]...",
            help="Settings, such as top_k=10, probabilities=true, images.id=name, cluster.hosts=2, "
            "cluster.shard_images=1000, price_per_hour=2.5 or storage.endpoint=http://host:9000.",
        ),
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write the top_k labels of each image on a line of this file, in the order of the listing, as "
            "submission servers take them.",
        ),
    ] = None,
    allow_partial: Annotated[
        bool,
        typer.Option(
            "--allow-partial",
            help="Give images whose shard kills its worker every time rows with an error. Without this option "
            "such a prediction ends with exit code 5.",
        ),
    ] = False,
    trust_code: TrustCode = False,
    as_json: AsJson = False,
) -> None:
    """Answer unlabelled images in any number, on the devices that a run uses; the same command goes on after a stop."""
    from jobs.cli.app import open_console
    from jobs.predict import predict as predict_job
    from jobs.predict import write_submission
    from jobs.predict_settings import read_words
    from jobs.progress.live import Progress

    config = read_words(images, words or [])
    with Progress(open_console(stderr=as_json), "predict", []) as progress:
        summary = predict_job(
            place, out, config, progress, trust_code=trust_code, allow_partial=allow_partial
        )
    if submission is not None:
        with submission.open("w", encoding="utf-8") as file:
            write_submission(out, config.storage, file.write)
    if as_json:
        echo(json.dumps({"out": out, **summary.document()}, indent=2))
        return
    echo(
        f"{out}: {summary.images:,} images in {summary.parts:,} parts, {summary.computed:,} of them answered now, "
        f"{summary.bad:,} with an error"
    )
    devices = ", ".join(f"{count} x {kind}" for kind, count in summary.devices.items())
    cost = "" if summary.cost is None else f", cost {summary.cost:.2f}"
    echo(
        f"{summary.seconds:.1f} s, {summary.images_per_s:.1f} images/s on {devices}: {summary.device_hours:.3f} "
        f"device-hours{cost}"
    )


class _Format(StrEnum):
    pt2 = "pt2"
    onnx = "onnx"
    safetensors = "safetensors"
    hub = "hub"
    mlflow = "mlflow"


def export(
    place: Artifact,
    to: Annotated[
        _Format,
        typer.Option(
            help="pt2 (torch.export) and onnx: the weighted ensemble as one program; safetensors: all weights in "
            "one file; hub: a folder for the Hugging Face hub; mlflow: a model of MLflow."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="PATH", help="The file or folder to write.")],
    words: StorageWords = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW",
            help="Height and width of a program's input, as 224x224; by default that of the golden inputs where "
            "they have one size, else the largest that a member resizes to.",
        ),
    ] = None,
    without_routing: Annotated[
        bool,
        typer.Option("--without-routing", help="Leave the sub-classifiers out of a program."),
    ] = False,
    trust_code: TrustCode = False,
    as_json: AsJson = False,
) -> None:
    """Write an artifact for other tools; a program is kept only if the written file answers as the artifact does."""
    from jobs.export import export as export_job
    from jobs.progress.live import working

    with working("export", f"export {place} to {to.value}"):
        exported = export_job(
            place,
            to.value,
            out,
            tuple(words or ()),
            size=_read_size(size),
            without_routing=without_routing,
            trust_code=trust_code,
        )
    if as_json:
        off = exported.largest_difference
        document = {"path": str(out), "form": to.value, "largest_difference": off}
        echo(json.dumps(document, indent=2))
        return
    echo(f"{out}: {exported.description}")


def _read_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise ConfigError(f"cannot read --size {text!r}; expected HEIGHTxWIDTH, as 224x224.")
    return int(height), int(width)


def _summary(place: str, files: int, golden: int, difference: float | None) -> str:
    text = f"{place}: {files} files hashed, {golden} golden inputs replayed"
    return text if difference is None else f"{text}, probabilities within {difference:.2g}"


def serve(
    place: Artifact,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[a.b=value]...",
            help="Settings, such as port=8080, replicas=2, device=cuda, max_batch=64, name=flowers or "
            "storage.endpoint=http://host:9000.",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="The cluster to serve on: its head, as 10.0.0.1:6379; RAY_ADDRESS if not set, and this machine "
            "without it.",
        ),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            help="Answer everybody who reaches the server, at an address that others reach, too, without a key in "
            "ENSEMBLE_API_KEY.",
        ),
    ] = False,
    trust_code: TrustCode = False,
) -> None:
    """Answer images over HTTP in three protocols, with a page to try it; Ctrl-C stops it."""
    from jobs.serve import serve as serve_job

    serve_job(
        place,
        words or [],
        echo,
        address=address,
        trust_code=trust_code,
        insecure=insecure,
    )
