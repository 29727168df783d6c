"""The verbs that use an artifact: verify."""

import json
from typing import Annotated

import typer

from jobs.cli.app import EXIT_FAILED, AsJson
from jobs.terminal import echo

Artifact = Annotated[
    str,
    typer.Argument(
        metavar="ARTIFACT",
        help="The folder `ensemble` of a run, the run's own folder, or s3://bucket/prefix of either.",
    ),
]
StorageWords = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[storage.key=value]...",
        help="How S3 is reached, such as storage.endpoint=http://host:9000.",
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


def _summary(place: str, files: int, golden: int, difference: float | None) -> str:
    text = f"{place}: {files} files hashed, {golden} golden inputs replayed"
    return text if difference is None else f"{text}, probabilities within {difference:.2g}"
