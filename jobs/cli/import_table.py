"""The verb `ensemble table import`: its options, and what it prints."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ensemble.errors import UnknownNameError
from jobs.terminal import echo

if TYPE_CHECKING:
    from ensemble.table.imports.contents import ReadForm

NewRun = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="The folder to make for the predictions, or s3://bucket/prefix/RUN."
    ),
]
Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILES... [storage.key=value]...",
        help="Files with predictions: .npy with those of one member (its name is the file's), "
        ".npz, .csv or .parquet. NAME=FILE names the member, FILE.npz:ARRAY takes one array.",
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The label of each image, as a number or name: .npy, .npz, .json, or .csv or .parquet "
        "with the columns image_id and label. Files of predictions may hold labels themselves.",
    ),
]
Form = Annotated[
    str,
    typer.Option(
        help="What the predictions are: probabilities or logits, or auto, where rows from 0 to 1 "
        "that sum to 1 are probabilities and all others logits."
    ),
]
ClassMap = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A JSON list with the class of each output of the predictions, null for none.",
    ),
]
Classes = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A JSON list of class names, or a text with a name a line; as the columns are called, "
        "or numbers, if not set.",
    ),
]
FirstLabel = Annotated[
    int | None,
    typer.Option(
        metavar="NUMBER",
        help="The number of the first class where labels are numbers; 0, unless the columns have "
        "other numbers.",
    ),
]
SearchShare = Annotated[
    float,
    typer.Option(
        help="The share of the images that weights are fitted on; the others judge the weights."
    ),
]
Seed = Annotated[int, typer.Option(help="The seed with which images are drawn for that share.")]
Precision = Annotated[
    str, typer.Option(help="The precision to store predictions in: float32 or float16.")
]

_FORMS: dict[str, "ReadForm"] = {
    "logits": "logits",
    "probabilities": "probabilities",
    "auto": "auto",
}


def import_table(
    place: NewRun,
    words: Files,
    labels: Labels = None,
    form: Form = "probabilities",
    class_map: ClassMap = None,
    classes: Classes = None,
    first_label: FirstLabel = None,
    search: SearchShare = 0.5,
    seed: Seed = 0,
    dtype: Precision = "float32",
) -> None:
    """Make a run's folder of predictions computed elsewhere, for `ensemble search RUN` to work on.

    Rows are joined by image id where files have ids, and outputs by name where their columns have names.
    Every line printed is kept in import.json.
    """
    from jobs.import_table import job
    from jobs.progress.live import working
    from jobs.stored_runs.open import storage_config

    if form not in _FORMS:
        raise UnknownNameError.of("form", form, _FORMS)
    # NAME=FILE names a member, so only a word that begins with storage. is a setting.
    storage = [word for word in words if word.startswith("storage.")]
    files = [word for word in words if word not in storage]
    settings = job.ImportSettings(
        files, labels, _FORMS[form], class_map, classes, search, seed, dtype, first_label
    )
    with working("table import", f"import {len(files)} files into {place}"):
        done = job.import_table(place, settings, storage_config(storage))
    for line in done.lines:
        echo(line)
    for note in done.notes:
        echo(f"note: {note}")
    echo(
        f"{len(done.config.members)} members, {len(done.index)} images, {len(done.index.classes)} classes "
        f"imported into {place}; `ensemble search {place}` finds weights"
    )
