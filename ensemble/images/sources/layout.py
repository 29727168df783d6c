"""From the files below a folder to labelled images: classes by folder, train, val and test folders, or a table.

Nothing is read but names, and the table of labels.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import PurePosixPath

import numpy as np

from ensemble.errors import ConfigError, DataError
from ensemble.images.decode import SUFFIXES, decoder
from ensemble.images.index import ImageIndex
from ensemble.images.settings import FolderConfig
from ensemble.images.shard import BadImage
from ensemble.images.sources.labels import LabelTable, read_labels
from ensemble.images.sources.listing import ImageFile, Listing

# What ids of images in a test folder of its own begin with.
TEST_FOLDER = "test/"

PART_BY_NAME = {
    "test": "test",
    "testing": "test",
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
}


@dataclass(frozen=True)
class _Labelled:
    """An image file with the name of its class and its part of the source, which may be none."""

    file: ImageFile
    class_name: str
    part: str = ""


def lay_out(
    kind: str, config: FolderConfig, listing: Listing, test: Listing | None = None
) -> ImageIndex:
    """Give every image its class and, where there are any, its part: train, val or test.

    Args:
        kind: What the identity of the source begins with.
        config: Settings of the source.
        listing: What lies below its folder.
        test: What lies below its folder of test images, if it has one.

    Raises:
        ConfigError: There is no class, a class has no image, or the folders contradict the settings.
        DataError: The table of labels contradicts itself.
    """
    notes = list(listing.notes)
    bad: list[BadImage] = []
    if config.labels is not None:
        table = read_labels(config.labels, config.storage)
        images, classes = _by_table(table, listing, notes, bad)
    else:
        images, classes = _by_folder(listing, notes)
    if test is not None:
        images, classes = _add_test(images, classes, test, notes)
    sound = [image for image in images if image.file.broken is None]
    bad += [BadImage(i.file.key, i.file.broken) for i in images if i.file.broken is not None]
    _check_classes(
        classes, images, listing if test is None else replace(listing, place="the source")
    )
    digest = sha256()
    for image in sound:
        digest.update(f"{image.file.key}\0{image.file.stamp}\n".encode())
    number_by_class = {name: number for number, name in enumerate(classes)}
    has_parts = any(image.part for image in images)
    keys = [image.file.key for image in sound]
    return ImageIndex(
        source=f"{kind} {decoder(keys)} {digest.hexdigest()}",
        image_ids=np.array(keys, np.str_),
        labels=np.array([number_by_class[image.class_name] for image in sound], np.int64),
        classes=tuple(classes),
        parts=np.array([image.part for image in sound], np.str_) if has_parts else None,
        bad=tuple(bad),
        notes=tuple(notes),
    )


def _by_folder(listing: Listing, notes: list[str]) -> tuple[list[_Labelled], list[str]]:
    """Take each image's class from its folder, below train, val and test folders if there are any."""
    tops = sorted({folder.partition("/")[0] for folder in listing.folders})
    if not tops:
        raise ConfigError(
            f"the image folder {listing.place!r} has no sub-folder; expected one per class"
            + (
                f", and its {len(listing.files)} images lie in none. Sort them into folders, or say "
                "their classes by a table: images.source.labels={path: labels.csv}."
                if listing.files
                else ". Correct images.source.path."
            )
        )
    parts = _find_parts(listing, tops, notes)
    if parts is None:
        images = [_Labelled(f, f.key.partition("/")[0]) for f in listing.files if "/" in f.key]
        _note_others(listing.files, [i.file for i in images], "in no folder of a class", notes)
        return images, tops
    images = [
        _Labelled(file, file.key.split("/")[1], parts[top])
        for file in listing.files
        if (top := file.key.partition("/")[0]) in parts and file.key.count("/") > 1
    ]
    where = f"in no folder of a class below {_join(parts)}"
    _note_others(listing.files, [image.file for image in images], where, notes)
    classes = {
        folder.split("/")[1]
        for folder in listing.folders
        if folder.partition("/")[0] in parts and "/" in folder
    }
    return images, sorted(classes)


def _find_parts(
    listing: Listing, tops: Sequence[str], notes: list[str]
) -> Mapping[str, str] | None:
    """Find the folders that are parts of a data set, as train and val, and hold a folder for each class.

    Returns:
        The part by the folder's name; none where the folders are classes.

    Raises:
        ConfigError: They are parts, and their images lie in no folders of classes.
    """
    named = {top: PART_BY_NAME[top.lower()] for top in tops if top.lower() in PART_BY_NAME}
    # Folders with images right inside them: classes, or parts whose images have no class.
    flat = {file.key.split("/")[0] for file in listing.files if file.key.count("/") == 1}
    deep = {file.key.split("/")[0] for file in listing.files if file.key.count("/") > 1}
    parts = {top: part for top, part in named.items() if top in deep - flat}
    others = [top for top in tops if top not in named and top in flat | deep]
    is_laid_out = len(set(parts.values())) > 1 or (parts and not others)
    if is_laid_out:
        folders = _join(f"{listing.place}/{top}" for top in sorted(parts))
        notes.append(f"{folders}: parts of the data set, with a folder for each class")
        return parts
    if len(set(named.values())) > 1 and not others:
        raise ConfigError(
            f"the image folder {listing.place!r} holds {_join(sorted(named))}, which are parts of a data "
            "set and no classes, and their images lie in no folders of classes. Expected "
            "train/CLASS/image and val/CLASS/image; or say the classes by a table: "
            "images.source.labels={path: labels.csv}."
        )
    return None


def _by_table(
    table: LabelTable, listing: Listing, notes: list[str], bad: list[BadImage]
) -> tuple[list[_Labelled], list[str]]:
    """Take each image's class from the table of labels."""
    file_by_key = {file.key: file for file in listing.files}
    keys_by_stem: dict[str, list[str]] = {}
    for key in file_by_key:
        keys_by_stem.setdefault(str(PurePosixPath(key).with_suffix("")), []).append(key)
    images = []
    for row in table.rows:
        image_key = _find(row.file, listing.place, file_by_key, keys_by_stem)
        if image_key is None:
            bad.append(BadImage(row.file, f"{table.place} names it, and it is not there"))
        else:
            images.append(
                _Labelled(file_by_key[image_key], row.label, PART_BY_NAME.get(row.split, ""))
            )
    (twice, count), *_ = [*Counter(image.file.key for image in images).most_common(1), ("", 0)]
    if count > 1:
        raise DataError(
            f"{table.place} has {count} rows for {twice!r}, by different names. Expected one an image; "
            "remove the others."
        )
    if not images:
        raise ConfigError(
            f"none of the {len(table.rows)} files in {table.place} is below {listing.place!r}, as "
            f"{table.rows[0].file!r}; expected paths below that folder. Correct images.source.path."
        )
    notes.append(f"{len(table.rows)} labels of {len(table.classes)} classes from {table.place}")
    notes += table.notes
    _note_others(listing.files, [i.file for i in images], f"in no row of {table.place}", notes)
    images.sort(key=lambda image: image.file.key.split("/"))
    if lacking := sorted({*table.classes} - {image.class_name for image in images}):
        raise ConfigError(
            f"the class {lacking[0]!r} stands in {table.place}, and none of its files is below "
            f"{listing.place!r}. Add them, or remove its rows."
        )
    return images, list(table.classes)


def _find(
    name: str,
    place: str,
    file_by_key: Mapping[str, ImageFile],
    keys_by_stem: Mapping[str, Sequence[str]],
) -> str | None:
    """Find the file that a row of the table names."""
    forms = [name, name.replace("\\", "/")]
    forms += [form.removeprefix(f"{place}/").removeprefix("./") for form in forms]
    for form in forms:
        if form in file_by_key:
            return form
    for form in forms:
        if len(keys := keys_by_stem.get(form, ())) == 1:
            return keys[0]
    return None


def _add_test(
    images: list[_Labelled], classes: list[str], test: Listing, notes: list[str]
) -> tuple[list[_Labelled], list[str]]:
    """Put the images of a test folder of its own beside the others.

    Raises:
        ConfigError: The other folder has test images, too.
    """
    if any(image.part == "test" or image.file.key.startswith(TEST_FOLDER) for image in images):
        raise ConfigError(
            f"images.source.test is {test.place!r}, and images.source.path holds a folder of test images, "
            "too. Leave images.source.test out, or set images.source.path to the folder of the others."
        )
    own: list[str] = list(test.notes)
    theirs, their_classes = _by_folder(test, own)
    notes += [f"{test.place}: {note}" for note in own]
    if any(image.part for image in theirs):
        raise ConfigError(
            f"images.source.test is {test.place!r}, which holds train, val or test folders. Expected a "
            f"folder for each class: set it to one of these, as {test.place}/test."
        )
    moved = [
        _Labelled(replace(i.file, key=TEST_FOLDER + i.file.key), i.class_name, "test")
        for i in theirs
    ]
    return images + moved, sorted({*classes, *their_classes})


def _check_classes(classes: Iterable[str], images: Sequence[_Labelled], listing: Listing) -> None:
    """Refuse a class without any image, or with none that can be read.

    Raises:
        ConfigError: A class has no image.
    """
    files: dict[str, list[ImageFile]] = {name: [] for name in classes}
    for image in images:
        files[image.class_name].append(image.file)
    for name, own in files.items():
        place = f"{listing.place}/{name}"
        if not own:
            raise ConfigError(
                f"the class {name!r} has no image in {place!r}; expected files ending in "
                f"{', '.join(sorted(SUFFIXES))}. Add some, or remove the folder."
            )
        if all(file.broken for file in own):
            raise ConfigError(
                f"the class {name!r} has {len(own)} images, and none that can be read: {own[0].key!r} is "
                f"{own[0].broken}. Mend them, or remove the folder {place!r}."
            )


def _note_others(
    files: Sequence[ImageFile], used: Sequence[ImageFile], where: str, notes: list[str]
) -> None:
    keys = {file.key for file in used}
    others = [file.key for file in files if file.key not in keys]
    if others:
        notes.append(f"left aside: {len(others)} images {where}, as {others[0]!r}")


def _join(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
