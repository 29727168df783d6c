"""`ensemble table import`: a run's folder made of predictions that were computed elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ensemble.config import S3_SCHEME, check
from ensemble.errors import ConfigError, DataError, EmptySplitError
from ensemble.images.index import ImageIndex
from ensemble.images.settings import SplitConfig
from ensemble.images.sources import listed
from ensemble.images.split import split
from ensemble.storage.open import open_store
from ensemble.storage.settings import StorageConfig
from ensemble.storage.store import read_if_there
from ensemble.table.imported import ImportedPredictions
from ensemble.table.imports.class_files import ClassMap, read_class_map, read_classes
from ensemble.table.imports.classes import resolve_classes
from ensemble.table.imports.commit import add_to_table
from ensemble.table.imports.contents import ImportedFile, ReadForm
from ensemble.table.imports.join import join
from ensemble.table.imports.label_files import read_labels
from ensemble.table.imports.labels import Labels
from ensemble.table.imports.read import read_file
from ensemble.table.imports.suspects import Verdict, examine
from ensemble.table.logit_table import LogitTable
from jobs.import_table.report import Contents, Import, chance_note, describe, encode, order_note
from jobs.import_table.words import MEMBER_NAME, expand_home, name_members, read_word
from jobs.settings import RunConfig
from jobs.stored_runs.columns import write_columns
from jobs.stored_runs.layout import CONFIG, IMAGES, IMPORT, check_published, format_config
from jobs.stored_runs.tables import hold_if_shared, table_store

# With fewer images a fair member may be no better than chance.
_MIN_IMAGES = 30


@dataclass(frozen=True)
class ImportSettings:
    """What is imported, and what it means.

    Attributes:
        files: Files with predictions, as FILE, NAME=FILE or FILE.npz:ARRAY; see
            `ensemble.table.imports.read.read_file`.
        labels: A file of labels; if None, files of predictions hold them.
        form: What the scores are.
        class_map: A JSON list with the class of each output, null for none.
        classes: A file with the names of the classes; if None, they are named as the outputs are.
        search: Share of the images that weights are fitted on; the others judge the weights.
        seed: Seed of the draw of that share.
        dtype: Precision in which predictions are stored.
        first_label: Number of the first class where labels are numbers; None if the files say so.
    """

    files: Sequence[Path | str]
    labels: Path | None = None
    form: ReadForm = "probabilities"
    class_map: Path | None = None
    classes: Path | None = None
    search: float = 0.5
    seed: int = 0
    dtype: str = "float32"
    first_label: int | None = None


def import_table(
    place: Path | str, settings: ImportSettings, storage: StorageConfig | None = None
) -> Import:
    """Make a folder, local or on S3, that `ensemble search` takes like that of a finished run.

    Raises:
        ConfigError: The folder belongs to another run, or a setting is wrong.
        DataError: A file cannot be read, or files do not fit together.
    """
    if not 0 < settings.search < 1:
        raise ConfigError(
            f"--search is {settings.search}; expected a share between 0 and 1, as 0.5."
        )
    place, storage = str(expand_home(place)), storage or StorageConfig()
    contents = _read(settings)
    members, index = contents.join.members, contents.join.index
    config, absent = _config(place, members, index, settings, storage)
    report = describe(contents, config, absent)
    files = open_store(place, storage)
    if (text_there := read_if_there(files, CONFIG)) is not None:
        check_published(
            place, text_there, config, "Import into another folder, or remove that one."
        )
    files.replace(IMAGES, listed.encode(index))
    files.replace(CONFIG, format_config(config).encode())
    store = table_store(config, place)
    with hold_if_shared(store, storage) as lease:
        table = LogitTable(store, config.table.dtype, lease)
        ids, count = index.image_ids.tolist(), len(index.classes)
        columns = {
            member.name: add_to_table(table, member, ids, count, class_map, index.sha256).column
            for member, class_map in zip(members, contents.classes.maps, strict=True)
        }
    files.replace(IMPORT, encode(contents, report, columns))
    write_columns(files, columns)
    return report


def _read(settings: ImportSettings) -> Contents:
    names = None if settings.classes is None else read_classes(Path(expand_home(settings.classes)))
    words = [read_word(str(word)) for word in settings.files]
    if not words:
        raise ConfigError(
            "no file is named; expected files with predictions, as a.npy or NAME=a.npy."
        )
    files = tuple(read_file(w.path, settings.form, w.array, names or ()) for w in words)
    members, notes = name_members(words, files)
    left = iter(members)
    files = tuple(replace(file, members=tuple(next(left) for _ in file.members)) for file in files)
    labels: tuple[Labels, ...] = ()
    if settings.labels is not None:
        labels += (read_labels(Path(expand_home(settings.labels))),)
    labels += tuple(part for file in files for part in file.labels)
    if not labels:
        raise ConfigError("there are no labels in the files; expected --labels FILE.")
    if names is None:
        names = _listed_names(files)
    path = settings.class_map
    class_map = None if path is None else read_class_map(Path(expand_home(path)), names)
    for file in files:
        notes += [f"{file.path}: ignored {what}" for what in file.ignored]
    notes += [f"{part.where}: ignored {what}" for part in labels for what in part.ignored]
    return _examined(files, members, labels, names, class_map, settings.first_label, notes)


def _examined(
    files: tuple[ImportedFile, ...],
    members: list[ImportedPredictions],
    labels: tuple[Labels, ...],
    names: tuple[str, ...] | None,
    class_map: ClassMap | None,
    first_label: int | None,
    notes: list[str],
) -> Contents:
    """Join everything, and leave out an array that is the labels themselves."""
    classes = resolve_classes(members, labels, names, class_map)
    paths = [str(file.path) for file in files for _ in file.members]
    joined = join(members, paths, labels, classes, first_label)
    verdicts = [
        examine(member, of_member, joined.index)
        for member, of_member in zip(joined.members, classes.maps, strict=True)
    ]
    truths = [m.name for m, verdict in zip(members, verdicts, strict=True) if verdict.is_truth]
    if truths and (len(truths) == len(members) or len(files) == len(members)):
        raise DataError(
            f"{truths[0]!r} is no prediction but the labels: every row has one high value, at its label. "
            "Leave it out, or give it as --labels."
        )
    keep = [number for number, verdict in enumerate(verdicts) if not verdict.is_truth]
    notes += [f"ignored {name!r}, which is the labels themselves as rows" for name in truths]
    notes += [*classes.notes, *joined.notes]
    notes += _judge(files, members, keep, verdicts, joined.index)
    joined = replace(joined, members=tuple(joined.members[number] for number in keep))
    classes = replace(classes, maps=tuple(classes.maps[number] for number in keep))
    return Contents(files, labels, classes, joined, tuple(notes))


def _judge(
    files: Sequence[ImportedFile],
    members: Sequence[ImportedPredictions],
    keep: Sequence[int],
    verdicts: Sequence[Verdict],
    index: ImageIndex,
) -> list[str]:
    """Say which members have exchanged classes or are at chance; refuse arrays that may be no predictions."""
    files_of = [file for file in files for _ in file.members]
    notes, good = list[str](), set[Path]()
    at_chance = dict[int, str]()
    for number in keep:
        name, answers = members[number].name, verdicts[number].answers
        notes += verdicts[number].notes
        if exchanged := order_note(name, answers, index):
            notes.append(exchanged)
        elif note := chance_note(name, answers, index):
            at_chance[number] = note
        else:
            good.add(files_of[number].path)
    for number, note in at_chance.items():
        file = files_of[number]
        if file.is_unspecified and file.path in good and len(index) >= _MIN_IMAGES:
            raise DataError(
                f"{note} Other arrays of {file.path} are better, and nothing says that this one holds "
                f"predictions. Name those that do, each as {file.path}:ARRAY."
            )
    return notes + list(at_chance.values())


def _listed_names(files: Sequence[ImportedFile]) -> tuple[str, ...] | None:
    lists = {file.classes: file.path for file in files if file.classes is not None}
    if len(lists) > 1:
        first, second = list(lists.values())[:2]
        raise DataError(
            f"{first} and {second} list other classes, or in another order. Give --classes FILE.json with "
            "those of all, or import them apart."
        )
    return next(iter(lists), None)


def _config(
    place: str,
    predictions: Sequence[ImportedPredictions],
    index: ImageIndex,
    settings: ImportSettings,
    storage: StorageConfig,
) -> tuple[RunConfig, list[str]]:
    """Make the settings of the run, and list the classes that the search or test split lacks."""
    is_remote = place.startswith(S3_SCHEME)
    folder = PurePosixPath(place.removeprefix(S3_SCHEME)) if is_remote else Path(place).absolute()
    here = place if is_remote else str(folder.resolve() if isinstance(folder, Path) else folder)
    if len(index) < 2:
        raise EmptySplitError(
            f"there is {len(index)} labelled image; expected at least 2, to fit weights on and to judge "
            "them on."
        )
    size = min(max(1, round(settings.search * len(index))), len(index) - 1)
    sizes = {"train": 0, "search": size}
    absent = _absent(index, sizes, settings.seed)
    value = {
        # A folder may be called what a config could not call a run; nothing looks for it by name.
        "name": folder.name if MEMBER_NAME.fullmatch(folder.name) else None,
        "runs": "runs" if is_remote else str(Path(place).parent),
        "storage": storage.model_dump(),
        "seed": settings.seed,
        "images": {
            "source": {"kind": "listed", "path": f"{here.rstrip('/')}/{IMAGES}"},
            "split": sizes | ({"every_class": False} if absent else {}),
        },
        "members": [{"name": f.name, "source": {"kind": "imported"}} for f in predictions],
        "table": {"dtype": settings.dtype},
        "report": {"top_k": min(3, max(1, len(index.classes) - 1))},
    }
    return check(RunConfig, value, "the import"), absent


def _absent(index: ImageIndex, sizes: dict[str, int], seed: int) -> list[str]:
    if seed < 0:
        raise ConfigError(f"--seed is {seed}; expected 0 or more.")
    splits = split(index, SplitConfig.model_validate(sizes | {"every_class": False}), seed)
    present = set(splits.search.labels.tolist()) & set(splits.test.labels.tolist())
    return [name for number, name in enumerate(index.classes) if number not in present]
