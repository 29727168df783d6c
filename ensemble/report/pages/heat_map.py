"""The heat map: the geometry of a matrix of similarities, of labels or of members' errors.

Positions are in units of one cell, so that a cell stays a square; colours are in the style sheet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from ensemble.report.documents.diagnostics import Agreement
from ensemble.report.documents.run import Report
from ensemble.report.documents.subclassifiers import LabelCluster, Subclassifiers
from ensemble.report.pages.wording import plain

MAX_LABELLED_CLASSES = 110
MAX_TITLED_CLASSES = 40
MAX_VALUED_CLASSES = 16
MAX_SHRUNK_CLASSES = 12
SHADES = 12
_LONGEST_CLASS, _LONGEST_MEMBER = 16, 32


@dataclass(frozen=True)
class Shade:
    """All cells of one colour as one path; `strength` is its opacity."""

    path: str
    strength: float
    is_negative: bool


@dataclass(frozen=True)
class Cell:
    """A cell with a title, and its value as a text where there is room."""

    x: int
    y: int
    text: str
    title: str


@dataclass(frozen=True)
class Block:
    """A label cluster's square on the diagonal."""

    start: int
    size: int
    index: int


@dataclass(frozen=True)
class HeatMap:
    """A similarity matrix in units of one cell."""

    num_classes: int
    cell_px: float
    labels: tuple[str, ...]
    shades: tuple[Shade, ...]
    cells: tuple[Cell, ...]
    blocks: tuple[Block, ...]
    strongest: float

    @property
    def font(self) -> float:
        """Size of a label in cells: 13 pixels, or less where lines would overlap."""
        return min(13 / self.cell_px, 0.95)

    @property
    def is_shrinkable(self) -> bool:
        """Whether the map is legible at any width: it has no labels, or few."""
        return not self.labels or self.num_classes <= MAX_SHRUNK_CLASSES

    @property
    def margin(self) -> float:
        """Room for the labels in cells."""
        return max((len(label) for label in self.labels), default=0) * 0.6 * self.font + 0.3

    @property
    def gutter(self) -> float:
        """Room for the numbers of the label clusters in cells."""
        return 2.2 * self.font


def heat_map(report: Report, chosen: Subclassifiers) -> HeatMap | None:
    """Order the similarity matrix by label cluster and draw each shade as one path."""
    rows = chosen.similarity
    if rows is None:
        return None
    order = [k for cluster in chosen.clusters for k in cluster.classes]
    matrix = [[rows[i][j] for j in order] for i in order]
    names = [report.data.classes[k] for k in order]
    return _draw(matrix, names, _blocks(chosen.clusters), _LONGEST_CLASS)


def agreement_map(agreement: Agreement, order: Sequence[str]) -> HeatMap:
    """Draw the correlations of the members' errors.

    Args:
        agreement: Correlations in pool order.
        order: Names of the members in the order of the drawing.
    """
    indices = [agreement.members.index(name) for name in order]
    matrix = [[agreement.correlation[i][j] for j in indices] for i in indices]
    return _draw(matrix, list(order), (), _LONGEST_MEMBER)


def _draw(
    matrix: Sequence[Sequence[float]],
    names: Sequence[str],
    blocks: tuple[Block, ...],
    longest: int,
) -> HeatMap:
    off_diagonal = [v for i, row in enumerate(matrix) for j, v in enumerate(row) if i != j]
    strongest = max((abs(v) for v in off_diagonal), default=0.0) or 1.0
    is_labelled = len(names) <= MAX_LABELLED_CLASSES
    return HeatMap(
        num_classes=len(names),
        # The least that leaves a label legible, and the most that a page of 100 classes has room for.
        cell_px=max(8.7 if is_labelled else 5.0, min(40.0, 420 / len(names))),
        labels=tuple(_short(name, longest) for name in names) if is_labelled else (),
        shades=_shades(matrix, strongest),
        cells=_cells(matrix, names) if len(names) <= MAX_TITLED_CLASSES else (),
        blocks=blocks,
        strongest=strongest,
    )


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _shades(matrix: Sequence[Sequence[float]], strongest: float) -> tuple[Shade, ...]:
    paths: dict[int, list[str]] = {}
    for y, row in enumerate(matrix):
        for x, value in enumerate(row):
            level = round(SHADES * value / strongest)
            if x != y and level:
                paths.setdefault(level, []).append(f"M{x} {y}h1v1h-1z")
    return tuple(
        Shade("".join(cells), round(abs(level) / SHADES, 3), level < 0)
        for level, cells in sorted(paths.items())
    )


def _cells(matrix: Sequence[Sequence[float]], names: Sequence[str]) -> tuple[Cell, ...]:
    has_text = len(names) <= MAX_VALUED_CLASSES
    return tuple(
        Cell(
            x,
            y,
            # Without its leading zero the value stays legible on a phone.
            plain(value, 2).replace("0.", ".", 1) if has_text else "",
            f"{names[y]}, {names[x]}: {plain(value, 2)}",
        )
        for y, row in enumerate(matrix)
        for x, value in enumerate(row)
        if x != y
    )


def _blocks(clusters: Sequence[LabelCluster]) -> tuple[Block, ...]:
    starts = accumulate((len(cluster.classes) for cluster in clusters), initial=0)
    return tuple(
        Block(start, len(cluster.classes), cluster.index)
        for start, cluster in zip(starts, clusters, strict=False)
    )
