from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ensemble.evaluation.outcome import evaluate
from ensemble.evaluation.reading import (
    WINDOW_IMAGES,
    StreamingOutranking,
    build_outranking,
    read_windows,
)
from ensemble.images.shard import BadImage
from ensemble.outranking import measures
from ensemble.table.block import LogitBlock
from ensemble.table.logit_table import LogitTable

from ..judged import Judged, images

MakeBlock = Callable[..., LogitBlock]


def test_windows_are_the_table_in_order(judged: Judged) -> None:
    table, members = judged.table, judged.members
    found = list(read_windows(table, members, images()))
    assert [len(labels) for _, labels in found] == [WINDOW_IMAGES, WINDOW_IMAGES, 57]
    assert np.array_equal(np.concatenate([labels for _, labels in found]), images().labels)
    for number, member in enumerate(members):
        rows = np.concatenate([rows[number] for rows, _ in found])
        assert np.array_equal(rows, table.read(member.column, images().image_ids))


def test_outranking_table_counts_the_errors_of_the_evaluation(judged: Judged) -> None:
    table, members = judged.table, judged.members
    outranking = build_outranking(table, members, images())
    outcomes = evaluate(table, members, images(), {})
    for k in (1, 2):
        expected = [outcomes[member.name].errors(k) for member in members]
        assert measures.member_errors(outranking, k).tolist() == expected


@pytest.mark.parametrize("seed", [0, 1])
def test_outranking_table_built_while_blocks_arrive_is_that_of_one_shot(
    judged: Judged, make_block: MakeBlock, tmp_path: Path, seed: int
) -> None:
    members = judged.members
    table, everything, bad = LogitTable(tmp_path), images(300), {"image-00005", "image-00299"}
    streaming = StreamingOutranking(table, members, everything, 64)
    shards = [everything.image_ids[first : first + 64].tolist() for first in range(0, 300, 64)]
    blocks = []
    for member in members:
        for shard in shards:
            block = make_block(member, [image for image in shard if image not in bad])
            reasons = tuple(BadImage(image, "no picture") for image in shard if image in bad)
            blocks.append((member, replace(block, bad=reasons)))
    for number in np.random.default_rng(seed).permutation(len(blocks)).tolist():
        table.commit(*blocks[number])
        streaming.read_landed()
    left = everything.take(np.flatnonzero([str(i) not in bad for i in everything.image_ids]))
    fewer = left.take(np.arange(100))
    resumed = StreamingOutranking(table, members, everything, 64)
    for found, wanted in ((streaming, left), (resumed, left), (streaming, fewer)):
        expected = build_outranking(table, members, wanted)
        outranking = found.finish(wanted)
        for name in ("labels", "indptr", "classes", "differences", "true_probabilities", "ranks"):
            assert np.array_equal(getattr(outranking, name), getattr(expected, name)), name
