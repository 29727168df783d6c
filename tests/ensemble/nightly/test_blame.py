"""Blame on a table of synthetic members: the change that did it is named, and nothing is predicted."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ensemble.artifact.document import (
    ArtifactDocument,
    MemberEntry,
    RoutingEntry,
    SubclassifierEntry,
)
from ensemble.images.index import ImageIndex
from ensemble.nightly.blame import (
    blame,
    changed_images,
    changed_parts,
    changes_by_class,
    changes_by_cluster,
)
from ensemble.nightly.deployment import Deployment, evaluate, subclassifier_name
from ensemble.nightly.members import compare_members, worse_members
from ensemble.table.block import LogitBlock
from ensemble.table.logit_table import LogitTable
from ensemble.views.settings import CenterView

N, CLASSES = 400, 5
NAMES = ("a", "b", "c")


@dataclass(frozen=True)
class _Computation:
    name: str
    column: str
    identity: dict[str, object]


def _commit(table: LogitTable, name: str, column: str, scores: np.ndarray) -> None:
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    ids = np.array([f"i{i}" for i in range(N)])
    block = LogitBlock(column, ids, logs.astype(np.float32), (), 0.1, N, device_kind="cpu")
    table.commit(_Computation(name, column, {"column": column}), block)


def _document(
    units: tuple[int, ...] = (1, 1, 1), routing: RoutingEntry | None = None
) -> ArtifactDocument:
    return ArtifactDocument(
        classes=tuple("vwxyz"),
        data_sha256="0" * 64,
        search="uniform",
        members=tuple(
            MemberEntry(name=n, file=n, sha256=n, weight_units=u, views=CenterView())
            for n, u in zip(NAMES, units, strict=True)
        ),
        routing=routing,
    )


@pytest.fixture
def images() -> ImageIndex:
    labels = np.random.default_rng(0).integers(0, CLASSES, N)
    return ImageIndex("synthetic", np.array([f"i{i}" for i in range(N)]), labels, tuple("vwxyz"))


@pytest.fixture
def table(tmp_path: Path, images: ImageIndex) -> LogitTable:
    rng = np.random.default_rng(1)
    table = LogitTable(tmp_path / "table")
    truth = 2.0 * np.eye(CLASSES)[images.labels]
    for name in NAMES:
        good = truth + rng.normal(size=(N, CLASSES))
        _commit(table, name, name * 16, good)
        _commit(table, name, name * 8 + "0" * 8, good + 0.02 * rng.normal(size=(N, CLASSES)))
        _commit(table, name, name * 8 + "f" * 8, 6 * rng.normal(size=(N, CLASSES)))
    _commit(table, "sub", "5" * 16, truth[:, :3] + rng.normal(size=(N, 3)))
    return table


def _columns(**endings: str) -> dict[str, str]:
    return {name: name * 8 + endings.get(name, name) * 8 for name in NAMES}


@pytest.mark.parametrize("bad", NAMES)
def test_the_member_that_broke_is_blamed_among_others_that_changed(
    table: LogitTable, images: ImageIndex, bad: str
) -> None:
    before = Deployment(_document(), _columns())
    after = Deployment(_document(), _columns(**({name: "0" for name in NAMES} | {bad: "f"})))
    shares = blame(table, before, after, images, "top1_error")
    assert {share.part for share in shares} == set(NAMES)
    assert shares[0].part == bad
    assert shares[0].share > 0.8


def test_other_weights_are_blamed_where_no_member_changed(
    table: LogitTable, images: ImageIndex
) -> None:
    before = Deployment(_document((1, 1, 1)), _columns(a="f"))
    after = Deployment(_document((98, 1, 1)), _columns(a="f"))
    (share,) = blame(table, before, after, images, "nll")
    assert (share.part, share.share) == ("weights", 1.0)


def test_what_did_not_change_is_not_blamed() -> None:
    before = Deployment(_document(), _columns())
    assert changed_parts(before, Deployment(_document(), _columns())) == ()
    assert changed_parts(before, Deployment(_document(), _columns(b="0"))) == ("b",)


def test_changes_are_counted_by_class_and_listed_by_image(
    table: LogitTable, images: ImageIndex
) -> None:
    before = evaluate(table, Deployment(_document(), _columns()), images)
    after = evaluate(table, Deployment(_document((98, 1, 1)), _columns(a="f")), images)
    lines = changes_by_class(before, after, images.labels, 1)
    wrong = sum(line.newly_wrong for line in lines)
    assert wrong == int((after.is_error(1) & ~before.is_error(1)).sum())
    rows = changed_images(before, after, 1, most=10)
    assert len(rows) == 10
    assert after.is_error(1)[rows[0]]
    assert not before.is_error(1)[rows[0]]


def test_a_routed_answer_depends_on_the_subclassifiers_column(
    table: LogitTable, images: ImageIndex
) -> None:
    entry = SubclassifierEntry(classes=(0, 1, 2), file="s", sha256="s", views=CenterView())
    routing = RoutingEntry(threshold=0.0, clusters=((0, 1, 2), (3, 4)), subclassifiers=(entry,))
    routed = Deployment(_document(routing=routing), _columns() | {subclassifier_name(0): "5" * 16})
    plain = evaluate(table, Deployment(_document(), _columns()), images)
    assert evaluate(table, routed, images).sha256 != plain.sha256
    assert changed_parts(Deployment(_document(), _columns()), routed) == ("weights",)


def test_changes_of_label_clusters_are_those_of_their_classes(
    table: LogitTable, images: ImageIndex
) -> None:
    before = evaluate(table, Deployment(_document(), _columns()), images)
    after = evaluate(table, Deployment(_document(), _columns(a="f")), images)
    by_class = changes_by_class(before, after, images.labels, 1)
    clusters = changes_by_cluster(by_class, ((0, 3), (1, 2, 4)), images.labels)
    assert [line.label for line in clusters] == [0, 1]
    assert sum(line.images for line in clusters) == N
    assert sum(line.newly_wrong for line in clusters) == sum(c.newly_wrong for c in by_class)
    assert clusters[0].newly_right == sum(c.newly_right for c in by_class if c.label in (0, 3))


def test_a_member_whose_outputs_were_exchanged_is_worse_on_these_classes_alone(
    table: LogitTable, images: ImageIndex
) -> None:
    """Beside heavier members that change by their rounding only: the ensemble hardly errs more."""
    rows = table.read("b" * 16, images.image_ids)
    _commit(table, "b", "e" * 16, rows[:, [3, 1, 2, 0, 4]])
    before = Deployment(_document((8, 1, 8)), _columns())
    after = Deployment(_document((8, 1, 8)), {**_columns(a="0", c="0"), "b": "e" * 16})
    changes = compare_members(table, before, after, images)
    (member,) = worse_members(changes, 0.01)
    assert member.change.name == "b"
    assert member.is_worse_overall
    assert {line.label for line in member.classes} == {0, 3}
    assert member.change.evidence.loss > 0.05
    assert member.change.summary.p_worse < 0.01
    assert [change.name for change in changes if change.summary.p_worse < 0.01] == ["b"]
    # Images of one group count once: with all of a class in one group nothing is left to be sure of.
    grouped = compare_members(table, before, after, images, images.labels)
    assert worse_members(grouped, 0.01) == ()


def test_members_that_did_not_change_or_are_no_worse_are_not_named(
    table: LogitTable, images: ImageIndex
) -> None:
    before = Deployment(_document(), _columns())
    for endings in ({}, {name: "0" for name in NAMES}):
        after = Deployment(_document(), _columns(**endings))
        assert worse_members(compare_members(table, before, after, images), 0.01) == ()
    bad = Deployment(_document(), _columns(a="f"))
    assert worse_members(compare_members(table, bad, before, images), 0.01) == ()  # it got better
