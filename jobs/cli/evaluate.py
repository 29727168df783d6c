"""The verbs evaluate and compare: an artifact on labelled images, and two runs or nights with each other."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from jobs.cli.app import EXIT_NOT_COMPARABLE, EXIT_REGRESSION, AsJson, StorageWords
from jobs.terminal import echo

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[a.b=value]...",
        help="Settings, such as top_k=5, cluster.hosts=2, folder=PATH (which keeps the predictions), or "
        "storage.endpoint=http://host:9000.",
    ),
]


def evaluate(
    artifact: Annotated[
        str,
        typer.Argument(
            metavar="ARTIFACT",
            help="The folder `ensemble` of a run, the run's own folder, or s3://bucket/prefix of either.",
        ),
    ],
    data: Annotated[
        str,
        typer.Argument(
            metavar="IMAGES",
            help="A folder with a sub-folder per class, a .parquet file, or the settings of a source, such "
            "as '{kind: cifar100, path: /data}'.",
        ),
    ],
    words: Words = None,
    as_json: AsJson = False,
) -> None:
    """Judge an artifact on labelled images, as it stands; predictions are kept and never computed twice."""
    from jobs.evaluate import evaluate as job
    from jobs.nightly.text import value_text
    from jobs.nightly.workers import RayWorkers

    done = job(artifact, data, words or [], RayWorkers, lambda line: echo(line, err=True))
    if as_json:
        document = asdict(done) | {"figures": [f.model_dump(mode="json") for f in done.figures]}
        echo(json.dumps(document, indent=2))
        return
    echo(
        f"{done.artifact}: {done.images} images of {done.classes} classes, {done.forward_passes} forward passes"
    )
    for figure in done.figures:
        band = (
            f" [{value_text(figure.metric, figure.low)}, {value_text(figure.metric, figure.high)}]"
            if figure.low is not None and figure.high is not None
            else ""
        )
        echo(f"  {figure.metric}: {value_text(figure.metric, figure.value)}{band}")
    for note in done.notes:
        echo(f"  {note}")


def compare(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A finished run's folder, its artifact, or a night as nightly.yaml#12 (nightly.yaml: the last).",
        ),
    ],
    b: Annotated[
        str, typer.Argument(metavar="B", help="What is compared with A; of the same kind.")
    ],
    words: StorageWords = None,
    metric: Annotated[
        str,
        typer.Option(metavar="NAME", help="What counts: top1_error, top5_error, nll or ece."),
    ] = "top1_error",
    min_effect: Annotated[
        float,
        typer.Option(
            metavar="NUMBER",
            help="The least loss that matters: points of errors and of the ECE, nats of the NLL.",
        ),
    ] = 0.5,
    as_json: AsJson = False,
) -> None:
    """Compare two runs, artifacts or nights image by image: exit code 3 if B is worse, 4 if not comparable."""
    from ensemble.config import check
    from jobs.compare import compare as job
    from jobs.compare import describe_changed
    from jobs.nightly.suite import GateConfig
    from jobs.nightly.text import describe_comparison, value_text

    gate = check(GateConfig, {"metric": metric, "min_effect": min_effect}, "the command")
    results = job(a, b, [gate], words or [])
    if as_json:
        documents = [
            {
                "a": result.names[0],
                "b": result.names[1],
                "images": result.n,
                "figures": [[f.model_dump(mode="json") for f in side] for side in result.figures],
                "comparisons": [c.model_dump(mode="json") for c in result.comparisons],
                "changed": list(result.changed),
                "reason": result.reason,
            }
            for result in results
        ]
        echo(json.dumps(documents, indent=2))
    for result in () if as_json else results:
        echo(
            f"A: {result.names[0]}; B: {result.names[1]}; {result.n} images that both were judged on"
        )
        for before, after in zip(*result.figures, strict=True):
            values = [value_text(f.metric, f.value) for f in (before, after)]
            echo(f"  {before.metric}: {values[0]} -> {values[1]}")
        for comparison in result.comparisons:
            text = describe_comparison(comparison).replace(" against accepted (record 1)", "")
            echo(f"  {comparison.metric} of B: {text}")
        if result.reason:
            echo(f"  not comparable: {result.reason}")
        echo(f"  {describe_changed(result.changed)}")
    if any(c.verdict == "regressed" for result in results for c in result.comparisons):
        raise typer.Exit(EXIT_REGRESSION)
    if any(result.reason for result in results):
        raise typer.Exit(EXIT_NOT_COMPARABLE)
