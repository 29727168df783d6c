"""The error at every weight from 0 to 1.00 of one member, in one pass over the pairs.

A pair (image, class) outranks the label iff start + j · slope > 0, where j is the weight in steps,
slope an integer, and start an integer plus or minus one half. So the expression is never zero, and
its sign changes at most once over j: at j = floor(-start / slope) + 1, in either direction. With
scores below 2^52 no integer is nearer to -start / slope than 0.5 / |slope|, which is more than the
division errs by: the floor is exact. What remains is to sort the changes of each image and to watch
its count of outranking classes pass k.

Source: Och 2003 (minimum error rate training) for the exact line search; top-k counting is ours.
"""

import numpy as np
from jaxtyping import Bool, Float, Int, Int32

from ensemble.search.fixed_point import WEIGHT_UNITS

_WEIGHT_BITS = 18  # 0..100,000 and one bit for the direction share a sort key with the image


def error_curve(
    start: Float[np.ndarray, " pair"],
    slope: Int32[np.ndarray, " pair"],
    images: Int[np.ndarray, " pair"],
    num_outranking: Int[np.ndarray, " image"],
    image_counts: Int[np.ndarray, " image"],
    k: int,
    num_steps: int,
) -> Int[np.ndarray, " weight"]:
    """Count errors at `num_steps` + 1 evenly spaced weights from 0 to 1.00.

    Args:
        start: Half-integer scores against the label at weight 0.
        slope: Change of a score for each unit of 0.00001.
        images: Image of each pair, ascending.
        num_outranking: Classes that outrank the label at weight 0, by pairs or certainly.
        image_counts: How often each image counts.
        k: An image is an error when k or more classes outrank its label.
        num_steps: Divides `WEIGHT_UNITS`.

    Returns:
        Errors at each weight.
    """
    curve = np.zeros(num_steps + 1, dtype=np.int64)
    keys = _change_keys(start, slope, images, num_outranking, k, WEIGHT_UNITS // num_steps)
    if len(keys):
        weight, image, change = transitions(keys, _WEIGHT_BITS, num_outranking, k)
        np.add.at(curve, weight, change * image_counts[image])
        np.cumsum(curve, out=curve)
    curve += image_counts[num_outranking >= k].sum()
    return curve


def _change_keys(
    start: Float[np.ndarray, " pair"],
    slope: Int32[np.ndarray, " pair"],
    images: Int[np.ndarray, " pair"],
    num_outranking: Int[np.ndarray, " image"],
    k: int,
    step_units: int,
) -> Int[np.ndarray, " change"]:
    """Pack each change that can matter as image, weight, direction (1: upwards), and sort them."""
    outranks = start > 0
    end = slope * float(WEIGHT_UNITS)
    end += start
    index = np.flatnonzero(outranks != (end > 0))
    kept = matters(images[index], ~outranks[index], num_outranking, k)
    index = index[kept]
    image, upwards = images[index].astype(np.int64), ~outranks[index]
    weight = np.floor(-start[index] / (slope[index] * float(step_units))).astype(np.int64) + 1
    keys: Int[np.ndarray, " change"] = (image << _WEIGHT_BITS) | (weight << 1) | upwards
    keys.sort(kind="stable")  # in runs already: five times faster than the default
    return keys


def matters(
    images: Int[np.ndarray, " change"],
    upwards: Bool[np.ndarray, " change"],
    num_outranking: Int[np.ndarray, " image"],
    k: int,
) -> Bool[np.ndarray, " change"]:
    """Mark changes of images that can pass k; most stay on one side whatever the order of theirs.

    Args:
        images: Image of each change, ascending.
        upwards: Whether a class begins to outrank the label.
        num_outranking: Classes that do before all changes.
        k: The error is top-k.
    """
    if not len(images):
        return np.zeros(0, dtype=np.bool_)
    first = np.flatnonzero(_starts(images))
    length = np.diff(first, append=len(images))
    least = num_outranking[images[first]] + np.add.reduceat(upwards, first, dtype=np.int64) - length
    return np.repeat((least < k) & (least + length >= k), length)


def transitions(
    keys: Int[np.ndarray, " change"], bits: int, num_outranking: Int[np.ndarray, " image"], k: int
) -> tuple[
    Int[np.ndarray, " transition"], Int[np.ndarray, " transition"], Int[np.ndarray, " transition"]
]:
    """Find where images become errors (+1) or stop being errors (-1): weight, image, change.

    Args:
        keys: Image, weight and direction (1: upwards) of each change, in one integer, sorted.
        bits: Of weight and direction.
        num_outranking: Classes that outrank the label before all changes.
        k: The error is top-k.
    """
    image = keys >> bits
    total = np.cumsum(((keys & 1) << 1) - 1)
    first = np.flatnonzero(_starts(image))
    before = num_outranking[image[first]].astype(np.int64)
    offset = before.copy()
    offset[1:] -= total[first[1:] - 1]
    is_error = total + np.repeat(offset, np.diff(first, append=len(keys))) >= k
    # Changes at the same weight happen together: only the state after the last of them exists.
    last = np.flatnonzero(np.append((keys[1:] ^ keys[:-1]) > 1, True))
    after = is_error[last]
    was = np.append(False, after[:-1])
    was[_starts(image[last])] = before >= k
    changed = np.flatnonzero(after != was)
    where = last[changed]
    return (
        (keys[where] >> 1) & ((1 << (bits - 1)) - 1),
        image[where],
        np.where(after[changed], 1, -1),
    )


def _starts(values: Int[np.ndarray, " item"]) -> Bool[np.ndarray, " item"]:
    """Mark the first of each run of equal values."""
    starts: Bool[np.ndarray, " item"] = np.append(True, values[1:] != values[:-1])
    return starts
