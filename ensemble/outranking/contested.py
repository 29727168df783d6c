"""Which classes reach the label's score in at least one member, for a block of images.

Every number is read once, compared in the domain of logarithms and forgotten. Only where a class
may reach the label are integers made of it, in float64. The comparison is a superset test: an entry
is put aside only if it is below a threshold that no entry with an equal or higher fixed-point
score can be below. NaN is never below, so it is a candidate too, and needs no pass of its
own. Where means of probabilities and of logarithms are both wanted, one reading serves both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float16, Int, Int32, Shaped, UInt16

from ensemble.errors import ShapeError, TableError
from ensemble.outranking.fixed_point import LOG_TOLERANCE, FixedPoint

Read = Callable[[Float[np.ndarray, "member image class"], int], None]
"""Reads some images' rows of all members, and the index of the first of these images."""

Columns = Float[np.ndarray, "member image class"] | Sequence[Float[np.ndarray, "image class"]]

_WORKSPACE_VALUES = 1 << 16  # of one member: 65 images of 1000 classes
_FEW_CLASSES = 256
_BUFFER, _SMALLEST_BUFFER = 4096, 16  # elements
_HALF_MINUS_ZERO = 0x8000
_HALF_MINUS_INFINITY = 0xFC00


@dataclass(frozen=True, eq=False)
class ContestedBlock:
    """The contested (image, class) pairs of some images, ordered by image, then class.

    Attributes:
        num_pairs: Pairs of each image.
        classes: Class of each pair.
        differences: Fixed-point score of the class minus that of the label; 0 where broken.
        label_scores: Fixed-point score of the label; that of -inf where broken.
        broken: Rows with NaN or +inf.
        ranks: Classes that outrank the label in a single member; all classes where broken.
    """

    num_pairs: Int[np.ndarray, " image"]
    classes: Int32[np.ndarray, " pair"]
    differences: Int32[np.ndarray, "member pair"]
    label_scores: Float[np.ndarray, "member image"]
    broken: Bool[np.ndarray, "member image"]
    ranks: Int32[np.ndarray, "member image"]

    @classmethod
    def concatenate(cls, blocks: Sequence["ContestedBlock"]) -> "ContestedBlock":
        """Put blocks together in the order of their images."""
        return cls(
            num_pairs=np.concatenate([block.num_pairs for block in blocks]),
            classes=np.concatenate([block.classes for block in blocks]),
            differences=np.concatenate([block.differences for block in blocks], axis=1),
            label_scores=np.concatenate([block.label_scores for block in blocks], axis=1),
            broken=np.concatenate([block.broken for block in blocks], axis=1),
            ranks=np.concatenate([block.ranks for block in blocks], axis=1),
        )


def check_window(
    columns: Sequence[Float[np.ndarray, "..."]],
    labels: Shaped[np.ndarray, " label"],
    member_names: Sequence[str],
    num_classes: int,
) -> int:
    """Check a window of images before it is read, and count its classes.

    Args:
        columns: Log-probabilities of each member.
        labels: Class index of each image.
        member_names: The members that are expected.
        num_classes: Classes of the windows before; 0 for the first window.

    Raises:
        ShapeError: Members, images or classes do not agree.
        TableError: A label is not a class.
    """
    shapes = [column.shape for column in columns]
    num_classes = num_classes or (shapes[0][-1] if shapes else 0)
    expected = (len(labels), num_classes)
    if len(columns) != len(member_names) or any(shape != expected for shape in shapes):
        raise ShapeError(
            f"columns have the shapes {shapes}; expected {expected}, images and classes, for each "
            f"of {len(member_names)} members."
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise ShapeError(f"labels are {labels.dtype}; expected a class index for each image.")
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise TableError(
            f"labels run from {labels.min()} to {labels.max()}; expected 0 to {num_classes - 1}. "
            "Check the label map of the data."
        )
    return num_classes


@dataclass(frozen=True, eq=False)
class Workspace:
    """Memory that a few images at a time are compared in: new memory for each would take longer.

    Attributes:
        rows: Log-probabilities of these images, member after member.
        is_below: Whether each of them is below its threshold.
    """

    rows: Float[np.ndarray, "row class"]
    is_below: Bool[np.ndarray, "member image class"]

    @classmethod
    def of(cls, columns: Sequence[Float[np.ndarray, "image class"]]) -> "Workspace":
        """Make one for some members' columns."""
        num_classes = columns[0].shape[1]
        few = max(1, _WORKSPACE_VALUES // num_classes)
        return cls(
            rows=np.empty((len(columns) * few, num_classes), np.result_type(*columns)),
            is_below=np.empty((len(columns), few, num_classes), dtype=np.bool_),
        )

    def is_for(self, columns: Sequence[Float[np.ndarray, "image class"]]) -> bool:
        """Tell whether no number of these columns would be rounded in it."""
        return self.rows.dtype == np.result_type(*columns)


def contested_pairs(
    log_probabilities: Sequence[Float[np.ndarray, "image class"]],
    labels: Int[np.ndarray, " image"],
    points: Sequence[FixedPoint],
    workspace: Workspace,
    read: Read | None = None,
) -> tuple[ContestedBlock, ...]:
    """Find the pairs that a non-negative weighting could place at or above the label.

    Args:
        log_probabilities: One array for each member.
        labels: Class index of each image.
        points: The fixed points that scores are wanted in.
        workspace: Made for columns of these types; overwritten.
        read: Reads every row, too, while it is in cache, and keeps none.

    Returns:
        A block for each fixed point.

    Raises:
        TableError: A value is too far above 0 for a log-probability.
    """
    num_images, num_classes = log_probabilities[0].shape
    each = np.arange(num_images)
    label_logs = np.array([block[each, labels] for block in log_probabilities], np.float64)
    broken = _broken(label_logs)
    label_logs[broken] = -np.inf
    lowest = np.minimum.reduce([point.lowest_logs(point.quantise(label_logs)) for point in points])
    # Where the label is broken this member decides nothing: finite scores may be put aside.
    lowest[broken] = np.inf
    candidates, logs = _candidates(log_probabilities, labels, lowest, workspace, read)
    bounds = np.searchsorted(candidates, np.arange(num_images + 1) * num_classes)
    num_pairs = np.diff(bounds)
    image = np.repeat(np.arange(num_images), num_pairs)
    # One pass finds out that all is well, as it nearly always is: max carries a NaN on.
    if logs.size and not float(logs.max()) <= LOG_TOLERANCE:
        member, pair = np.nonzero(_broken(logs.astype(np.float64)))
        broken[member, image[pair]] = True
    if broken.any():
        label_logs[broken] = -np.inf
        logs[broken[:, image]] = -np.inf  # as much as the label has: it adds nothing to a sum,
    candidate_pairs = _Candidates(
        labels, label_logs, broken, candidates - image * num_classes, image, logs
    )
    return tuple(_block(candidate_pairs, point, num_classes) for point in points)


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Some images' pairs that may be contested, with their log-probabilities; -inf where broken."""

    labels: Int[np.ndarray, " image"]
    label_logs: Float[np.ndarray, "member image"]
    broken: Bool[np.ndarray, "member image"]
    classes: Int[np.ndarray, " pair"]
    images: Int[np.ndarray, " pair"]
    logs: Float[np.ndarray, "member pair"]


def _block(candidate_pairs: _Candidates, point: FixedPoint, num_classes: int) -> ContestedBlock:
    """Keep the pairs that are contested in one fixed point."""
    image, classes, broken = candidate_pairs.images, candidate_pairs.classes, candidate_pairs.broken
    label_scores = point.quantise(candidate_pairs.label_logs)
    num_pairs = np.bincount(image, minlength=len(candidate_pairs.labels))
    differences = point.quantise(candidate_pairs.logs).astype(np.int32)
    differences -= np.repeat(label_scores.astype(np.int32), num_pairs, axis=1)
    # A broken row makes no pair contested.
    contests = np.where(broken[:, image], -1, differences) if broken.any() else differences
    kept = np.flatnonzero(contests.max(axis=0) >= 0)
    if len(kept) < len(image):  # hardly ever: the threshold is just below the label
        differences, image, classes = differences[:, kept], image[kept], classes[kept]
        num_pairs = np.bincount(image, minlength=len(candidate_pairs.labels))
    bars = np.where(classes < candidate_pairs.labels[image], np.int32(-1), np.int32(0))
    ranks = _ranks(differences, bars, num_pairs)
    ranks[broken] = num_classes
    return ContestedBlock(
        num_pairs=num_pairs,
        classes=classes.astype(np.int32),
        differences=differences,
        label_scores=label_scores,
        broken=broken,
        ranks=ranks,
    )


def _broken(logs: Float[np.ndarray, "member item"]) -> Bool[np.ndarray, "member item"]:
    """Mark NaN and +inf, and refuse what cannot be a log-probability."""
    broken = ~(logs < np.inf)
    too_high = ~broken & (logs > LOG_TOLERANCE)
    if too_high.any():
        member = int(np.flatnonzero(too_high.any(axis=1))[0])
        raise TableError(
            f"member number {member} has the value {logs[too_high].max():.4g}; a log-probability "
            "is at most 0. Pass the log of the softmax averaged over views, not logits."
        )
    return broken


def _candidates(
    blocks: Sequence[Float[np.ndarray, "image class"]],
    labels: Int[np.ndarray, " image"],
    thresholds: Float[np.ndarray, "member image"],
    workspace: Workspace,
    read: Read | None,
) -> tuple[Int[np.ndarray, " pair"], Float[np.ndarray, "member pair"]]:
    """List the pairs, but the labels' own, not below the threshold in every member.

    A few images of all members at a time are put side by side: there they are compared by one call,
    and are still in cache when the logarithms of the candidates are taken.

    Returns:
        Flat (image, class) indices, and their log-probabilities.
    """
    num_images, num_classes = blocks[0].shape
    few = workspace.is_below.shape[1]
    lowest = _rounded_down(thresholds, workspace.rows.dtype)[:, :, None]
    indices, logs = [], []
    with np.errstate():  # puts the buffer's size back, too
        # NumPy would spread each image's threshold over a buffer, and take twice as long; but row by
        # row it takes ten times as long where rows are short.
        np.setbufsize(_BUFFER if num_classes < _FEW_CLASSES else _SMALLEST_BUFFER)
        for first in range(0, num_images, few):
            part = slice(first, min(first + few, num_images))
            size = part.stop - first
            rows = workspace.rows[: len(blocks) * size]
            np.concatenate([block[part] for block in blocks], out=rows)
            of_members, is_below = rows.reshape(len(blocks), size, -1), workspace.is_below[:, :size]
            _is_below(of_members, lowest[:, part], is_below)
            below_in_all = np.logical_and.reduce(is_below, axis=0).reshape(-1)
            below_in_all[np.arange(size) * num_classes + labels[part]] = True
            candidates = np.flatnonzero(np.logical_not(below_in_all, out=below_in_all))
            logs.append(rows.reshape(len(blocks), -1).take(candidates, axis=1))
            indices.append(candidates + first * num_classes)
            if read:
                read(of_members, first)
    return np.concatenate(indices), np.concatenate(logs, axis=1)


def _rounded_down(
    thresholds: Float[np.ndarray, "member image"], dtype: np.dtype
) -> Float[np.ndarray, "member image"]:
    """Round to the next lower number of a type; +inf, which puts all numbers aside, stays."""
    lower = np.nextafter(thresholds.astype(dtype), dtype.type(-np.inf))
    lower[np.isposinf(thresholds)] = np.inf
    return lower


def _is_below(
    rows: Float[np.ndarray, "member image class"],
    lowest: Float[np.ndarray, "member image 1"],
    out: Bool[np.ndarray, "member image class"],
) -> None:
    """Compare with a threshold of each row."""
    if rows.dtype == np.float16:
        _half_is_below(rows.view(np.uint16), lowest, out)
    else:
        np.less(rows, lowest, out=out)


def _half_is_below(
    rows: UInt16[np.ndarray, "member image class"],
    lowest: Float16[np.ndarray, "member image 1"],
    out: Bool[np.ndarray, "member image class"],
) -> None:
    """Compare float16 by their bits: for x <= 0 they grow as x falls, to -inf, and then NaN.

    x is below t iff bits(t) < bits(x) <= bits(-inf): one comparison after an unsigned subtraction,
    several times faster than NumPy's own comparison of float16.
    """
    bits = np.maximum(lowest.view(np.uint16), np.uint16(_HALF_MINUS_ZERO))
    bits[np.isposinf(lowest)] = _HALF_MINUS_ZERO
    shifted = np.subtract(rows, bits + np.uint16(1))
    np.less(shifted, np.uint16(_HALF_MINUS_INFINITY) - bits, out=out)


def _ranks(
    differences: Int32[np.ndarray, "member pair"],
    bars: Int32[np.ndarray, " pair"],
    num_pairs: Int[np.ndarray, " image"],
) -> Int32[np.ndarray, "member image"]:
    """Count the classes that outrank the label in each single member: those beyond their bar."""
    ranks = np.zeros((len(differences), len(num_pairs)), dtype=np.int32)
    images = np.flatnonzero(num_pairs)
    if len(images):
        first = (np.cumsum(num_pairs) - num_pairs)[images]
        # Not as `Pairs.count`: the places that it looks up would serve this once only.
        outranks = (differences > bars).view(np.int8)
        ranks[:, images] = np.add.reduceat(outranks, first, axis=1, dtype=np.int32)
    return ranks
