"""Rows of several files: joined by id, or by row where only one order is possible, or refused."""

import numpy as np
import pytest

from ensemble.errors import DataError
from ensemble.table.imported import ImportedPredictions
from ensemble.table.imports.classes import Classes
from ensemble.table.imports.join import Join, join
from ensemble.table.imports.labels import Labels

NAMES = ("ant", "bee", "cat")
IDS = [f"i{n}" for n in range(9)]
TRUTH = dict(zip(IDS, [0, 1, 2] * 3, strict=True))


def scores_of(ids: list[str]) -> np.ndarray:
    """One score for each image that no other has."""
    first = np.array([int(i[1:]) for i in ids]) / 10
    return np.stack([first, 1 - first, 0 * first], axis=1)


def member(ids: list[str], name: str = "m", *, with_ids: bool = True) -> ImportedPredictions:
    image_ids = np.array(ids) if with_ids else None
    return ImportedPredictions(name, scores_of(ids), "probabilities", None, image_ids)


def labels(ids: list[str], where: str = "labels", *, with_ids: bool = True) -> Labels:
    values = np.array([TRUTH[i] for i in ids])
    return Labels(where, values, np.array(ids) if with_ids else None)


def joined(members: list[ImportedPredictions], parts: list[Labels]) -> Join:
    paths = [f"{m.name}.npz" for m in members]
    return join(members, paths, parts, Classes(NAMES, ((0, 1, 2),) * len(members), ()), None)


SHUFFLED = [IDS[n] for n in np.random.default_rng(0).permutation(9)]
OTHER = [IDS[n] for n in np.random.default_rng(1).permutation(9)]


def check(result: Join, ids: list[str]) -> None:
    assert result.index.image_ids.tolist() == ids
    assert result.index.labels.tolist() == [TRUTH[i] for i in ids]
    for one in result.members:
        np.testing.assert_array_equal(one.scores, scores_of(ids))


def test_files_that_each_have_an_order_of_their_own_are_joined_by_id() -> None:
    members = [member(SHUFFLED, "a"), member(OTHER, "b")]
    check(joined(members, [labels(IDS)]), IDS)
    check(joined(members, [labels(SHUFFLED, "a.npz: 'labels'"), labels(OTHER, "b.npz")]), SHUFFLED)


def test_rows_are_joined_by_place_where_no_file_has_ids_or_where_ids_are_in_order() -> None:
    plain = joined([member(IDS, with_ids=False)], [labels(IDS, with_ids=False)])
    assert plain.index.labels.tolist() == list(TRUTH.values())
    check(joined([member(IDS)], [labels(IDS, with_ids=False)]), IDS)
    check(joined([member(SHUFFLED, with_ids=False)], [labels(SHUFFLED)]), SHUFFLED)


def test_rows_are_not_joined_by_place_with_an_order_that_one_file_alone_has() -> None:
    with pytest.raises(
        DataError, match=r"labels has no image ids, and m\.npz has its rows in an order"
    ):
        joined([member(SHUFFLED)], [labels(SHUFFLED, with_ids=False)])
    with pytest.raises(DataError, match="those of a and b are not in one order"):
        joined([member(SHUFFLED, "a"), member(OTHER, "b")], [labels(IDS, with_ids=False)])


def test_numbers_in_ids_count_as_an_order() -> None:
    ids = [f"i{n}" for n in (0, 2, 3, 5, 8)]
    many = ImportedPredictions(
        "m", np.full((11, 3), 1 / 3), "probabilities", None, np.array([f"i{n}" for n in range(11)])
    )
    values = np.arange(11) % 3
    assert joined([many], [Labels("l", values)]).index.labels.tolist() == values.tolist()
    check(joined([member(ids)], [labels(ids, with_ids=False)]), ids)


def test_images_without_a_label_or_a_prediction_are_left_out_and_said() -> None:
    result = joined([member(IDS[:6])], [labels(IDS[3:])])
    check(result, IDS[3:6])
    assert result.notes == (
        "ignored 3 labels of images that no member predicted, as 'i6'",
        "m: ignored 3 rows of images without a label, as 'i0'",
    )


def test_an_image_that_one_of_two_members_lacks_is_refused() -> None:
    with pytest.raises(DataError, match="b has no prediction of 3 of 9 images, as 'i6'"):
        joined([member(IDS, "a"), member(IDS[:6], "b")], [labels(IDS)])


def test_an_id_that_stands_twice_is_refused() -> None:
    with pytest.raises(DataError, match="1 of 10 rows have an id that stands twice, such as 'i0'"):
        joined([member([*IDS, "i0"])], [labels(IDS)])


def test_labels_that_contradict_each_other_are_refused() -> None:
    wrong = Labels("b.csv", np.array([1, 1, 2] * 3), np.array(IDS))
    with pytest.raises(
        DataError, match=r"3 of 9 images: 'i0' is 'bee' in b.csv and 'ant' in a.csv"
    ):
        joined([member(IDS)], [labels(IDS, "a.csv"), wrong])
    twice = Labels("c.csv", np.array([0, 1]), np.array(["i0", "i0"]))
    with pytest.raises(DataError, match="labels contradict each other"):
        joined([member(IDS)], [twice])
    again = Labels("d.csv", np.array([0, 0, 1]), np.array(["i0", "i0", "i1"]))
    result = joined([member(IDS)], [again])
    assert result.index.image_ids.tolist() == ["i0", "i1"]
    assert "d.csv: 1 images stand twice, with the same label" in result.notes


def test_ids_that_have_no_partner_are_told() -> None:
    other = Labels("l", np.array([0, 1]), np.array(["a/i0.png", "a/i1.png"]))
    with pytest.raises(DataError, match=r"such as 'a/i0\.png', and those of m such as 'i0'"):
        joined([member(IDS)], [other])
    with pytest.raises(DataError, match="m has 9 rows, and labels has 3; expected as many images"):
        joined([member(IDS, with_ids=False)], [labels(IDS[:3], with_ids=False)])


@pytest.mark.parametrize("bad", ["", "a\x1b[31m", "a\x00b", "\ud800"])
def test_ids_that_a_terminal_would_obey_are_refused(bad: str) -> None:
    part = Labels("l", np.array([0, 1]), np.array([bad, "i1"]))
    with pytest.raises(DataError, match="is empty or holds a control character"):
        joined([member(["i1", "i2"])], [part])


def test_files_whose_ids_are_written_in_another_way_are_named() -> None:
    far = [f"/data/{i}" for i in IDS]
    elsewhere = ImportedPredictions("b", scores_of(IDS), "probabilities", None, np.array(far), None)
    of_b = Labels("b.npz: 'labels'", np.array(list(TRUTH.values())), np.array(far))
    with pytest.raises(
        DataError,
        match=r"a has no prediction of 9 of 18 images, as '/data/i0'\. Its ids are such as 'i0', and those "
        r"of b such as '/data/i0': none is the same\. Make the ids the same\.",
    ):
        joined([member(IDS, "a"), elsewhere], [labels(IDS), of_b])
    with pytest.raises(DataError, match=r"and those of the labels such as 'i0': none is the same"):
        joined([member(IDS, "a"), elsewhere], [labels(IDS)])
