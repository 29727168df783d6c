"""Thousands of imports: forms that mean the same give the same table, and damage is one message."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from ensemble.errors import ProjectError
from jobs.import_table.job import ImportSettings, import_table
from jobs.stored_runs.finished import open_finished_run

CLASSES = ("ant", "bee", "cat", "dog")
COUNTS = [60, pytest.param(10_000, marks=pytest.mark.nightly)]


@dataclass(frozen=True)
class World:
    """What is true: ids, labels, and the probabilities of two members."""

    ids: list[str]
    labels: np.ndarray
    scores: dict[str, np.ndarray]


def make_world(rng: np.random.Generator) -> World:
    labels = rng.permutation(np.arange(20) % len(CLASSES))
    scores = {}
    for name in ("m", "n"):
        logits = rng.normal(size=(20, len(CLASSES)))
        logits[np.arange(20), labels] += 2
        scores[name] = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return World([f"img {n:02d}.png" for n in rng.permutation(20)], labels, scores)


def table_of(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Read probabilities by member and image id, and labels as those of a member `labels`."""
    run = open_finished_run(folder)
    parts = [run.splits.search, run.splits.test]
    ids = [i for part in parts for i in part.image_ids.tolist()]
    labels = np.concatenate([part.labels for part in parts])
    names = np.array(run.splits.test.classes)
    table = {
        column.member: dict(zip(ids, np.exp(run.table.read(column.key, ids)), strict=True))
        for column in run.columns
    }
    return table | {"labels": dict(zip(ids, names[labels], strict=True))}


def text_table(rng: np.random.Generator, header: list[str], columns: list[list[object]]) -> bytes:
    """Write a CSV in one of the ways in which programs and people write it."""
    delimiter = str(rng.choice([",", ";", "\t"]))
    out = io.StringIO()
    quoting = csv.QUOTE_ALL if rng.random() < 0.2 else csv.QUOTE_MINIMAL
    ending = str(rng.choice(["\n", "\r\n"]))
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=ending)
    writer.writerow(header)
    for row in zip(*columns, strict=True):
        if rng.random() < 0.05:
            out.write(ending)
        cells = [repr(float(cell)) if isinstance(cell, float) else cell for cell in row]
        if delimiter == ";" and quoting == csv.QUOTE_MINIMAL:
            cells = [
                c.replace(".", ",") if isinstance(r, float) and "e" not in str(c) else c
                for c, r in zip(cells, row, strict=True)
            ]
        writer.writerow(cells)
    encoding = str(rng.choice(["utf-8", "utf-8-sig", "utf-16"]))
    return out.getvalue().encode(encoding)


def write_member(rng: np.random.Generator, folder: Path, world: World, name: str) -> Path:
    """Write a member as a file with ids and named classes, in an order of its own."""
    rows = rng.permutation(len(world.ids))
    places = rng.permutation(len(CLASSES))
    scores = world.scores[name][np.ix_(rows, places)]
    ids = [world.ids[row] for row in rows]
    called = [CLASSES[place] for place in places]
    if rng.random() < 0.3:
        called = [f"prob_{name}" for name in called]
    header = [str(rng.choice(["image_id", "id", "filename", "File Name", "photo"])), *called]
    columns: list[list[object]] = [list(ids), *(list(map(float, column)) for column in scores.T)]
    if rng.random() < 0.3:
        header.append("fold")
        columns.append(list(map(int, rng.integers(0, 5, len(ids)))))
    if rng.random() < 0.3:
        header.insert(0, "")
        columns.insert(0, list(range(len(ids))))
    if rng.random() < 0.2:
        header.append("predicted_class")
        columns.append([CLASSES[0]] * len(ids))
    kind = rng.choice(["csv", "parquet", "npz"])
    path = folder / f"{name}.{kind}"
    if kind == "csv":
        path.write_bytes(text_table(rng, header, columns))
    elif kind == "parquet":
        parquet.write_table(pa.table(dict(zip(header, columns, strict=True))), path)
    else:
        dtype = rng.choice(["<f4", "<f8", ">f8"])
        arrays = {
            name: scores.astype(dtype),
            "image_ids": np.array(ids),
            "classes": np.array([CLASSES[place] for place in places]),
        }
        if rng.random() < 0.5:
            arrays["labels"] = np.array([CLASSES[label] for label in world.labels[rows]])
        if rng.random() < 0.3:
            arrays["features"] = rng.normal(size=(len(ids), len(CLASSES)))
        np.savez(path, **arrays)
    return path


def write_labels(rng: np.random.Generator, folder: Path, world: World) -> Path:
    """Write labels by id, as numbers or names, in an order of their own."""
    rows = rng.permutation(len(world.ids))
    ids = [world.ids[row] for row in rows]
    is_named = rng.random() < 0.5
    labels = [CLASSES[label] if is_named else int(label) for label in world.labels[rows]]
    kind = rng.choice(["csv", "json", "parquet", "npz"])
    path = folder / f"labels.{kind}"
    header = ["image_id", str(rng.choice(["label", "target", "Label"]))]
    if kind == "csv":
        path.write_bytes(text_table(rng, header, [list(ids), list(labels)]))
    elif kind == "json":
        path.write_text(json.dumps(dict(zip(ids, labels, strict=True))))
    elif kind == "parquet":
        parquet.write_table(pa.table(dict(zip(header, [ids, labels], strict=True))), path)
    else:
        values = np.array(labels)
        if not is_named and rng.random() < 0.5:
            values = np.eye(len(CLASSES))[labels]
        elif rng.random() < 0.3:
            values = values[:, None]
        np.savez(path, ids=np.array(ids), labels=values)
    return path


def write_classes(rng: np.random.Generator, folder: Path) -> Path:
    bom = "\ufeff" if rng.random() < 0.3 else ""
    if rng.random() < 0.5:
        path = folder / "classes.json"
        path.write_text(bom + json.dumps(CLASSES), encoding="utf-8")
    else:
        path = folder / "classes.txt"
        path.write_text(bom + "\n".join(CLASSES), encoding="utf-8")
    return path


def write_import(rng: np.random.Generator, folder: Path, world: World) -> ImportSettings:
    members = [write_member(rng, folder, world, name) for name in world.scores]
    return ImportSettings(
        members, write_labels(rng, folder, world), classes=write_classes(rng, folder), seed=1
    )


def check_equal(found: dict[str, dict[str, np.ndarray]], world: World) -> None:
    expected = dict(zip(world.ids, (CLASSES[label] for label in world.labels), strict=True))
    assert found["labels"] == expected
    for name, scores in world.scores.items():
        for image_id, row in zip(world.ids, scores, strict=True):
            np.testing.assert_allclose(found[name][image_id], row, rtol=2e-5, atol=1e-9)


@pytest.mark.parametrize("count", COUNTS)
def test_files_that_say_the_same_in_other_ways_are_one_table(tmp_path: Path, count: int) -> None:
    for seed in range(count // 2):
        rng = np.random.default_rng(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        world = make_world(rng)
        import_table(folder / "run", write_import(rng, folder, world))
        check_equal(table_of(folder / "run"), world)
        shutil.rmtree(folder)


TOKENS = b'-1|nan|inf|1e999|10000000000000|\x00|\xff\xfe|\xef\xbb\xbf|\x1b[31m|"|,|;|[|{|null|true|1_0|\n\n|=|../|ant'


def flip(rng: np.random.Generator, data: bytearray) -> None:
    for _ in range(int(rng.integers(1, 4))):
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))


def cut(rng: np.random.Generator, data: bytearray) -> None:
    del data[int(rng.integers(len(data))) :]


def drop(rng: np.random.Generator, data: bytearray) -> None:
    start = int(rng.integers(len(data)))
    del data[start : start + int(rng.integers(1, 40))]


def double(rng: np.random.Generator, data: bytearray) -> None:
    start, length = int(rng.integers(len(data))), int(rng.integers(1, 200))
    data[start:start] = data[start : start + length]


def insert(rng: np.random.Generator, data: bytearray) -> None:
    tokens = TOKENS.split(b"|")
    start = int(rng.integers(len(data)))
    data[start : start + int(rng.integers(3))] = tokens[int(rng.integers(len(tokens)))]


MUTATIONS: list[Callable[[np.random.Generator, bytearray], None]] = [
    flip,
    cut,
    drop,
    double,
    insert,
]


@pytest.mark.parametrize("count", COUNTS)
def test_damaged_files_are_one_message_or_another_table_that_can_be_read(
    tmp_path: Path, count: int
) -> None:
    for seed in range(count // 2):
        rng = np.random.default_rng([1, seed])
        folder = tmp_path / str(seed)
        folder.mkdir()
        settings = write_import(rng, folder, make_world(rng))
        assert settings.labels is not None
        assert settings.classes is not None
        paths = [*map(Path, settings.files), settings.labels, settings.classes]
        path = paths[int(rng.integers(len(paths)))]
        data = bytearray(path.read_bytes())
        MUTATIONS[int(rng.integers(len(MUTATIONS)))](rng, data)
        path.write_bytes(bytes(data))
        message, found = attempt(folder / "run", settings)
        assert (found is None) == bool(message), seed
        assert len(message) < 3000, seed
        for name in ("m", "n"):
            rows = [] if found is None or name not in found else list(found[name].values())
            np.testing.assert_allclose([row.sum() for row in rows], 1, rtol=1e-4)
        shutil.rmtree(folder)


def attempt(
    folder: Path, settings: ImportSettings
) -> tuple[str, dict[str, dict[str, np.ndarray]] | None]:
    """Import and read back; a mistake that is told is a message, all else is raised."""
    try:
        import_table(folder, settings)
        return "", table_of(folder)
    except ProjectError as error:
        return str(error), None


DTYPES = [
    "f8",
    "f4",
    "f2",
    ">f8",
    "i8",
    "u1",
    "i2",
    "u8",
    "?",
    "c16",
    "U3",
    "S3",
    "M8[s]",
    "i4,f4",
    "g",
]
_ARRAY_NAMES = """m n arr_0 labels label y classes class_names image_ids ids names models probabilities
features x m.log_probabilities m.image_ids truth images"""
_CELLS = """0 1 2 3 -1 0.5 0.25 1.0 nan inf -inf 1e999 1_0 0x1 ant bee 10000000000000 1e308 - é img_1 img_2 true
None 007 ١ 1,5"""
_HEADERS = """image_id id label target y class ant bee cat 0 1 2 3 prob_ant class_1 score_1 class_2 score_2 fold
index Unnamed: class_0 score_0 pred"""
ARRAY_NAMES, CELLS, HEADERS = (words.split() for words in (_ARRAY_NAMES, _CELLS, _HEADERS))


def odd_array(rng: np.random.Generator) -> np.ndarray:
    sizes = [20, 20, 4, 4, 1, 2, 0]
    shape = tuple(int(rng.choice(sizes)) for _ in range(int(rng.choice([1, 2, 2, 2, 3, 0]))))
    values = rng.choice(
        [0, 1, 2, 3, 0.25, -1, 1e30, np.nan],
        size=shape,
        p=[0.3, 0.2, 0.1, 0.1, 0.2, 0.04, 0.03, 0.03],
    )
    if rng.random() < 0.4:
        values = rng.dirichlet(np.ones(max(1, shape[-1] if shape else 1)), shape[:-1])
    if rng.random() < 0.2:
        values = rng.integers(0, 4, shape)
    with np.errstate(all="ignore"):
        return np.asarray(values).astype(np.dtype(str(rng.choice(DTYPES))))


def odd_table(rng: np.random.Generator) -> bytes:
    width = int(rng.integers(1, 7))
    header = rng.choice(HEADERS, width, replace=rng.random() < 0.1)
    rows = [header.tolist()] if rng.random() < 0.9 else []
    usual = rng.random() < 0.7
    for number in range(int(rng.choice([0, 1, 2, 20]))):
        cells = (
            rng.dirichlet(np.ones(width)).round(4).astype(str)
            if usual
            else rng.choice(CELLS, width)
        )
        rows.append([f"i{number}" if rng.random() < 0.8 else str(cells[0]), *cells[1:].tolist()])
    out = io.StringIO()
    csv.writer(out, delimiter=str(rng.choice([",", ";", "\t"]))).writerows(rows)
    return out.getvalue().encode()


def odd_json(rng: np.random.Generator, depth: int = 0) -> object:
    kind = int(rng.integers(8)) if depth < 3 else int(rng.integers(4))
    if kind < 4:
        return [0, 1, 3, 2.5, "ant", None, True, -1, 10**30, "\ud800"][int(rng.integers(10))]
    if kind < 7:
        item = odd_json(rng, depth + 1)
        return [item if rng.random() < 0.9 else odd_json(rng, depth + 1) for _ in range(20)]
    return {f"i{n}": odd_json(rng, depth + 1) for n in range(int(rng.integers(21)))}


def odd_file(rng: np.random.Generator, folder: Path, name: str) -> Path:
    kind = str(rng.choice(["npy", "npz", "csv", "txt", "json", "parquet"]))
    path = folder / f"{name}.{kind}"
    if kind == "npy":
        np.save(path, odd_array(rng))
    elif kind == "npz":
        names = rng.choice(ARRAY_NAMES, int(rng.integers(1, 5)), replace=False)
        np.savez(path, **{str(array): odd_array(rng) for array in names})
    elif kind == "json":
        path.write_text(json.dumps(odd_json(rng)))
    elif kind == "parquet":
        names = rng.choice(HEADERS, int(rng.integers(1, 5)), replace=False)
        columns = [[odd_json(rng, 3) for _ in range(1)] * 20 for _ in names]
        kept = {
            str(h): c
            for h, c in zip(names, columns, strict=True)
            if c[0] not in ("\ud800", None) and isinstance(c[0], str | bool | float)
        }
        parquet.write_table(pa.table(kept or {"a": pa.array([{"b": [1]}] * 20)}), path)
    else:
        path.write_bytes(odd_table(rng))
    return path


@pytest.mark.parametrize("count", COUNTS)
def test_files_that_hold_anything_are_one_message_or_a_table(tmp_path: Path, count: int) -> None:
    for seed in range(count):
        rng = np.random.default_rng([2, seed])
        folder = tmp_path / str(seed)
        folder.mkdir()
        world = make_world(rng)
        usual = write_import(rng, folder, world)
        odd = rng.random(3) < 0.6
        settings = ImportSettings(
            [odd_file(rng, folder, "odd")] if odd[0] else usual.files,
            odd_file(rng, folder, "odd-labels")
            if odd[1]
            else None
            if rng.random() < 0.2
            else usual.labels,
            form=rng.choice(["probabilities", "logits", "auto"]),
            classes=odd_file(rng, folder, "odd-classes")
            if odd[2] and rng.random() < 0.3
            else None
            if odd.any()
            else usual.classes,
            class_map=odd_file(rng, folder, "odd-map") if rng.random() < 0.1 else None,
            first_label=int(rng.integers(-1, 3)) if rng.random() < 0.1 else None,
        )
        message, found = attempt(folder / "run", settings)
        assert (found is None) == bool(message), seed
        assert message.isprintable() or "\n" in message, seed
        assert len(message) < 3000, seed
        shutil.rmtree(folder)
