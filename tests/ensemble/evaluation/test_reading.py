from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from ensemble.evaluation.outcome import evaluate
from ensemble.evaluation.reading import (
    WINDOW_IMAGES,
    PieceHandle,
    StreamingOutranking,
    build_outranking,
    read_windows,
)
from ensemble.images.index import ImageIndex
from ensemble.images.shard import BadImage
from ensemble.outranking import measures
from ensemble.outranking.builder import OutrankingBuilder
from ensemble.outranking.piece import OutrankingPiece
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


@dataclass
class _Later:
    """A piece that is ready when it was asked for a few times."""

    piece: OutrankingPiece
    asks: int

    def is_done(self) -> bool:
        self.asks -= 1
        return self.asks < 0

    def result(self) -> OutrankingPiece:
        return self.piece


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("is_elsewhere", [True, False])
def test_outranking_table_built_while_blocks_arrive_is_that_of_one_shot(
    judged: Judged, make_block: MakeBlock, tmp_path: Path, seed: int, is_elsewhere: bool
) -> None:
    members = judged.members
    table, everything, bad = LogitTable(tmp_path), images(300), {"image-00005", "image-00299"}

    def start_piece(part: ImageIndex, first: int) -> PieceHandle | None:
        if first == 64 or not is_elsewhere:
            return None  # its rows are read here, in their place
        maker = OutrankingBuilder([member.name for member in members], first_image=first)
        for rows, labels in read_windows(table, members, part):
            maker.add(rows, labels)
        return _Later(maker.finish_piece(), asks=first % 5)

    streaming = StreamingOutranking(table, members, everything, 64, start_piece=start_piece)
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
