"""The error at every weight from 0 to 1.00 of one member, in one pass over the pairs.

A pair (image, class) outranks the label iff start + j · slope > 0, where j is the weight in steps,
slope an integer, and start an integer plus or minus one half. So the expression is never zero, and
its sign changes at most once over j: at j = floor(-start / slope) + 1, in either direction. With
scores below 2^52 no integer is nearer to -start / slope than 0.5 / |slope|, which is more than the
division errs by: the floor is exact. What remains is to sort the changes of each image and to watch
its count of outranking classes pass k.

Source: Och 2003 (minimum error rate training) for the exact line search; top-k counting is ours.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Bool, Float, Int, Int32

from ensemble.outranking.fixed_point import WEIGHT_UNITS
from ensemble.outranking.pairs import Pairs

_BLOCK_PAIRS = 1 << 15  # so that what is made on the way stays in cache
_SHARED_PAIRS = 1 << 19  # fewer are not worth the start of a thread
_THREADS = min(2, os.cpu_count() or 1)


def error_curve(
    start: Float[np.ndarray, " pair"],
    slope: Int32[np.ndarray, " pair"],
    pairs: Pairs,
    image_counts: Int[np.ndarray, " image"],
    k: int,
    num_steps: int,
) -> Int[np.ndarray, " weight"]:
    """Count errors at `num_steps` + 1 evenly spaced weights from 0 to 1.00.

    Args:
        start: Half-integer scores against the label at weight 0.
        slope: Change of a score for each unit of 0.00001.
        pairs: The images that the pairs belong to.
        image_counts: How often each of these images counts.
        k: An image is an error when k or more classes outrank its label.
        num_steps: A divisor of `WEIGHT_UNITS`.

    Returns:
        Errors at each weight.
    """
    num_parts = _THREADS if len(start) >= _SHARED_PAIRS else 1
    if num_parts == 1 or len(pairs.first) < num_parts:
        return _curve(start, slope, pairs, image_counts, k, num_steps)
    cuts = np.linspace(0, len(pairs.first), num_parts + 1).astype(int).tolist()

    def curve(number: int) -> Int[np.ndarray, " weight"]:
        first, last = cuts[number], cuts[number + 1]
        where, part = pairs.part(first, last)
        return _curve(start[where], slope[where], part, image_counts[first:last], k, num_steps)

    with ThreadPoolExecutor(num_parts - 1, "sweep") as threads:
        others = [threads.submit(curve, number) for number in range(1, num_parts)]
        total = curve(0)
        for other in others:
            total += other.result()
    return total


def _curve(
    start: Float[np.ndarray, " pair"],
    slope: Int32[np.ndarray, " pair"],
    pairs: Pairs,
    image_counts: Int[np.ndarray, " image"],
    k: int,
    num_steps: int,
) -> Int[np.ndarray, " weight"]:
    curve = np.zeros(num_steps + 1, dtype=np.int64)
    outranks = start > 0
    changes = outranks_at(float(WEIGHT_UNITS), start, slope)
    changes ^= outranks  # outranks at one end of the weights only
    num_outranking = pairs.count(outranks)
    num_outranking += pairs.num_certain
    num_down, num_changes = pairs.count(changes & outranks), pairs.count(changes)
    least = num_outranking - num_down
    # Most images stay on one side of k whatever the order of their changes.
    can_pass = (least < k) & (least + num_changes >= k)
    index, image = pairs.marked(np.flatnonzero(can_pass), changes)
    if len(index):
        steps = _first_steps(start.take(index), slope.take(index), num_steps)
        keys = _keys(image, steps, ~outranks.take(index), num_steps)
        weight, image, change = transitions(keys, num_steps.bit_length() + 1, num_outranking, k)
        np.add.at(curve, weight, change * image_counts[image])
        np.cumsum(curve, out=curve)
    curve += image_counts[num_outranking >= k].sum()
    return curve


def _first_steps(
    start: Float[np.ndarray, " change"], slope: Int32[np.ndarray, " change"], num_steps: int
) -> Float[np.ndarray, " change"]:
    """Give the first step of weight at which each change has happened; see the module's text."""
    steps = np.floor(start / (slope * -float(WEIGHT_UNITS // num_steps)))
    steps += 1
    return steps


def _keys(
    image: Int[np.ndarray, " change"],
    steps: Float[np.ndarray, " change"],
    upwards: Bool[np.ndarray, " change"],
    num_steps: int,
) -> Int[np.ndarray, " change"]:
    """Pack image, weight, and direction (1: upwards) of each change into one integer, and sort them."""
    bits = num_steps.bit_length()
    is_small = (int(image[-1]) + 1) << bits < 1 << 30
    keys: Int[np.ndarray, " change"] = image.astype(np.int32 if is_small else np.int64)
    keys <<= bits
    keys |= steps.astype(keys.dtype)
    keys <<= 1
    keys |= upwards
    keys.sort()
    return keys


def outranks_at(
    weight: float,
    start: Float[np.ndarray, " pair"],
    slope: Int32[np.ndarray, " pair"] | Float[np.ndarray, " pair"],
) -> Bool[np.ndarray, " pair"]:
    """Mark the pairs that outrank at a weight: start + weight · slope > 0."""
    outranks, bar = np.empty(len(start), dtype=np.bool_), np.empty(min(_BLOCK_PAIRS, len(start)))
    for first in range(0, len(start), _BLOCK_PAIRS):
        part = slice(first, first + _BLOCK_PAIRS)
        block = slope[part]
        np.multiply(block, -weight, out=bar[: len(block)])
        np.greater(start[part], bar[: len(block)], out=outranks[part])
    return outranks


def transitions(
    keys: Int[np.ndarray, " change"], bits: int, num_outranking: Int[np.ndarray, " image"], k: int
) -> tuple[
    Int[np.ndarray, " transition"], Int[np.ndarray, " transition"], Int[np.ndarray, " transition"]
]:
    """Find where images become errors (+1) or stop being errors (-1): weight, image, change.

    Changes at the same weight happen together, and here one after the other: what one of them does
    and the next undoes adds up to nothing at that weight.

    Args:
        keys: Image, weight and direction (1: upwards) of each change, in one integer, sorted.
        bits: Bits of weight and direction in a key.
        num_outranking: Classes that outrank the label before all changes.
        k: The error is top-k.
    """
    image = keys >> bits
    starts = _starts(image)
    first, run = np.flatnonzero(starts), np.cumsum(starts, dtype=np.int32)
    total = np.cumsum(((keys & 1) << 1) - 1, dtype=np.int32)
    before = num_outranking.take(image.take(first)).astype(np.int32)
    offset = before.copy()
    offset[1:] -= total.take(first[1:] - 1)
    is_error = total + offset.take(run - 1) >= k
    was_error = np.empty_like(is_error)
    was_error[1:] = is_error[:-1]
    was_error[first] = before >= k
    where = np.flatnonzero(is_error != was_error)
    return (
        (keys[where] >> 1) & ((1 << (bits - 1)) - 1),
        image[where],
        np.where(is_error[where], 1, -1),
    )


def _starts(values: Int[np.ndarray, " item"]) -> Bool[np.ndarray, " item"]:
    """Mark the first of each run of equal values."""
    starts = np.empty(len(values), dtype=np.bool_)
    starts[:1] = True
    np.not_equal(values[1:], values[:-1], out=starts[1:])
    return starts
